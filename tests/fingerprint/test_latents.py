"""Fingerprints of models that predict latents: the bits of a song, its mean gradient, its store; never beside codes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from lumina_ray.attribution.fingerprinter import matching_model
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.batching import keeps_bits, predicted_peak
from lumina_ray.fingerprint.kinds import KINDS_OF
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.model import open_model
from lumina_ray.model.diffusion.adapter import DiffusionTransformer
from lumina_ray.model.diffusion.draws import drawn_noise, drawn_times
from lumina_ray.model.tracked import ROLES
from lumina_ray.storage import locate
from lumina_ray.store import FingerprintWorker, store_schema
from lumina_ray.store.run import Run, begin_run
from lumina_ray.store.worker import has_codes
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import first_order, rises
from lumina_ray.unlearning.select import select_parts
from lumina_ray.unlearning.unlearn import DAMPING, Forgetting, loss_of, unlearned
from lumina_ray.vocabulary import CHANNELS, Draws, Kind, SongCodes
from tests.tiny_dit import export_tiny_dit, tiny_dit
from tests.tiny_model import tiny_music_model

KINDS = tuple(name for name, row in KINDS_OF["latents"].items() if row.needs != "codec")


def song(frames: list[int], seed: int) -> SongCodes:
    rng = np.random.default_rng(seed)
    chunks = tuple(rng.standard_normal((8, n)).astype(np.float16) for n in frames)
    return SongCodes(chunks, tuple(10.0 * i for i in range(len(frames))), tuple(np.arange(n) % 50 < 40 for n in frames))


@pytest.fixture(scope="module")
def model() -> DiffusionTransformer:
    model = tiny_dit()
    model.draws = Draws(4, 7)
    model.fisher = fisher_diagonal(model, [song([60], 1), song([60, 31], 2)])
    return model


def test_batches_keep_bits(model: DiffusionTransformer) -> None:
    assert keeps_bits(Fingerprinter(model, Specification.for_model(model, "gradient"), chunks_in_flight=2))


@pytest.mark.parametrize("kind", KINDS)
def test_same_latents_same_bits_whatever_came_before(model: DiffusionTransformer, kind: Kind) -> None:
    one, other = song([500, 301], 0), song([500], 1)
    fingerprinter = Fingerprinter(model, Specification.for_model(model, kind), chunks_in_flight=3)
    first, _ = fingerprinter.many([one, other])
    _, again = fingerprinter.many([other, one])
    for channel in CHANNELS:
        assert first.vectors[channel].tobytes() == again.vectors[channel].tobytes()
        assert np.linalg.norm(first.vectors[channel]) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(first.chunk_weights, np.array([400, 241]) / 641)


def mean_gradients(model: DiffusionTransformer, latents: SongCodes) -> None:
    """Put the mean gradient of the song's chunks, weighted by frames with sound, into `.grad`."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    total = sum(int(heard_T.sum()) for heard_T in latents.heard)
    for chunk_CT, heard_T in zip(latents.chunks, latents.heard, strict=True):
        music_1CT = torch.from_numpy(chunk_CT.astype(np.float32))[None]
        values_CT = model.losses(music_1CT, [chunk_CT.shape[1]], model.draws).values_BKT[0]
        (values_CT[:, torch.from_numpy(heard_T)].mean() * int(heard_T.sum()) / total).backward()


def test_stats_are_the_statistics_of_the_mean_gradient(model: DiffusionTransformer) -> None:
    """No mean is zero by construction: the output is made of the residual stream without a norm."""
    ours = Fingerprinter(model, Specification.for_model(model, "stats"))(song([500, 301], 4))
    mean_gradients(model, song([500, 301], 4))
    for channel, layer in (("P", 7), ("M", 2)):
        values = []
        for role in ROLES["latents"]:
            g = torch.cat([p.grad for p in model.tracked(layer, role)]).double().numpy().ravel()  # type: ignore[misc]
            skewness = ((g - g.mean()) ** 3).mean() / g.std() ** 3
            values += [g.mean(), g.std(ddof=1), np.sqrt((g**2).sum()), g.max(), g.min(), skewness]
        expected = np.array(values) / np.linalg.norm(values)
        np.testing.assert_allclose(ours.vectors[channel], expected, rtol=1e-3, atol=1e-6)  # type: ignore[index]
        assert (ours.vectors[channel] != 0).all()  # type: ignore[index]


def test_fisher_is_the_gradient_over_the_root_of_fisher_information(model: DiffusionTransformer) -> None:
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "fisher"))
    ours = fingerprinter(song([500, 301], 4))
    mean_gradients(model, song([500, 301], 4))
    assert model.fisher is not None
    of_layers = [value for name, value in model.fisher.values.items() if name.startswith("layers.")]
    damping = DAMPING * sum(float(v.sum(dtype=np.float64)) for v in of_layers) / sum(v.size for v in of_layers)
    for channel, layer in (("P", 7), ("M", 2)):
        pieces = []
        for role in ROLES["latents"]:
            gradient = torch.cat([p.grad for p in model.tracked(layer, role)]).double()  # type: ignore[misc]
            fisher = torch.from_numpy(model.fisher.values[f"layers.{layer}.{role}"]).double()
            pieces.append((gradient / (fisher + damping).sqrt()).flatten())
        flat, specification = torch.cat(pieces), fingerprinter.specification
        projected = torch.zeros(4096, dtype=torch.float64)
        SparseProjection(len(flat), 4096, specification.nonzeros, specification.seed).add(projected, 0, flat)
        np.testing.assert_allclose(ours.vectors[channel], projected / projected.norm(), atol=1e-5)  # type: ignore[index]


def test_d_trak_is_the_gradient_of_the_squared_prediction(model: DiffusionTransformer) -> None:
    """One draw at a time, by autograd; the training loss has another gradient."""
    assert model.draws is not None
    latents = song([60, 31], 4)
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "d-trak"))
    ours = fingerprinter(latents)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    total = sum(int(heard_T.sum()) for heard_T in latents.heard)
    for chunk_CT, heard_T in zip(latents.chunks, latents.heard, strict=True):
        music_CT, n = torch.from_numpy(chunk_CT.astype(np.float32)), chunk_CT.shape[1]
        whole = -(-n // 4) * 4
        padded_CT = torch.nn.functional.pad(music_CT, (0, whole - n))
        for time, noise_CT in zip(drawn_times(model.draws), drawn_noise(model.draws, 8, whole), strict=True):
            noisy_CT = torch.cos(time * np.pi / 2) * padded_CT + torch.sin(time * np.pi / 2) * noise_CT
            predicted_CT = model.velocity(noisy_CT[None], time[None], [n], model.condition.rows(1))[0, :, :n]
            mean = (predicted_CT[:, torch.from_numpy(heard_T)] ** 2).mean()
            (mean * int(heard_T.sum()) / total / model.draws.count).backward()
    for channel, layer in (("P", 7), ("M", 2)):
        flat = torch.cat([p.grad.flatten() for r in ROLES["latents"] for p in model.tracked(layer, r)]).double()  # type: ignore[union-attr]
        projected = torch.zeros(4096, dtype=torch.float64)
        specification = fingerprinter.specification
        SparseProjection(len(flat), 4096, specification.nonzeros, specification.seed).add(projected, 0, flat)
        np.testing.assert_allclose(ours.vectors[channel], projected / projected.norm(), atol=1e-5)  # type: ignore[index]
    of_loss = Fingerprinter(model, Specification.for_model(model, "gradient"))(latents)
    assert not np.allclose(ours.vectors["P"], of_loss.vectors["P"], atol=1e-4)


def test_head_gradients_are_those_of_the_two_output_layers(model: DiffusionTransformer) -> None:
    latents = song([60, 31], 4)
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "head-gradient"))
    ours = fingerprinter(latents)
    mean_gradients(model, latents)
    for channel, weight in zip(CHANNELS, model.heads(), strict=True):
        assert weight.grad is not None
        flat, specification = weight.grad.flatten().double(), fingerprinter.specification
        projected = torch.zeros(4096, dtype=torch.float64)
        SparseProjection(len(flat), 4096, specification.nonzeros, specification.seed).add(projected, 0, flat)
        np.testing.assert_allclose(ours.vectors[channel], projected / projected.norm(), atol=1e-5)


def test_what_is_differentiated_is_in_the_specification(model: DiffusionTransformer) -> None:
    of_loss, of_square = (Specification.for_model(model, kind) for kind in ("gradient", "d-trak"))
    assert of_square.loss.startswith("square of the predicted velocity, mean over draws")
    assert of_loss.loss.startswith("squared error of the velocity, mean over draws")
    assert replace(of_loss, kind="d-trak").sha256 != of_square.sha256
    assert Specification.from_dict(of_square.to_dict()) == of_square
    with pytest.raises(UsageError, match="there is no fingerprint 'd-trak' of codes"):
        Specification.for_model(tiny_music_model(), "d-trak")


def test_other_draws_are_another_specification(model: DiffusionTransformer) -> None:
    specification = Specification.for_model(model, "gradient")
    other = replace(specification, draws=Draws(4, 8))
    assert other.sha256 != specification.sha256
    one, two = (Fingerprinter(model, s)(song([500], 5)).vectors["P"] for s in (specification, other))
    assert not np.array_equal(one, two)


def test_peak_memory_is_predicted_and_leaves_nothing_behind(model: DiffusionTransformer) -> None:
    """Draws are remembered from chunk to chunk: those of a prediction must be numbers, too."""
    specification = replace(Specification.for_model(model, "gradient"), draws=Draws(4, 99))
    one, two, four = (predicted_peak(model, specification, n) for n in (1, 2, 4))
    assert four - two == pytest.approx(2 * (two - one), rel=0.1)
    vector = Fingerprinter(model, specification)(song([500], 5)).vectors["P"]
    assert np.isfinite(vector).all()


def test_kinds_that_need_codes_are_refused(model: DiffusionTransformer) -> None:
    with pytest.raises(UsageError, match="no fingerprint 'influence' of latents"):
        Specification.for_model(model, "influence")


@pytest.mark.parametrize("layers", ["cross_kv", "cross", "self", "mlp", "all"])
def test_a_model_forgets_and_comes_back_to_the_bit(model: DiffusionTransformer, layers) -> None:
    assert model.fisher is not None
    query = song([60], 9)
    before = {name: p.detach().clone() for name, p in model.transformer.named_parameters()}
    loss = loss_of(model, query)
    with unlearned(model, query, model.fisher, Forgetting(layers=layers)) as forgotten:
        assert 0 < forgotten.rise_nats <= 0.005
        assert loss_of(model, query) == pytest.approx(loss + forgotten.rise_nats, rel=1e-6)
        now = dict(model.transformer.named_parameters())
        changed = {name for name, p in before.items() if not torch.equal(p, now[name])}
        assert changed == {
            name for name, p in now.items() if id(p) in {id(x.parameter) for x in select_parts(model, layers)}
        }
    assert all(torch.equal(p, before[name]) for name, p in model.transformer.named_parameters())


def test_songs_are_scored_by_forgetting(model: DiffusionTransformer) -> None:
    """The query's own loss rises most; with small steps, rises are those of first order."""
    assert model.fisher is not None
    songs = [song([60], seed) for seed in (9, 10, 11)]
    before = [code_losses(model, latents) for latents in songs]
    found, _ = rises(model, songs[0], songs, before, model.fisher, how := Forgetting(layers="cross_kv"))
    rises_N = found.of("plain")
    assert rises_N.argmax() == 0
    np.testing.assert_allclose(rises_N, first_order(model, songs[0], songs, model.fisher, how), rtol=0.1, atol=1e-4)
    # No channel of latents is one of composition or of production.
    np.testing.assert_array_equal(found.of("plain", "P"), rises_N)


def test_a_store_keeps_latents_and_they_are_used_again(tmp_path: Path) -> None:
    export_tiny_dit(tmp_path / "dit")
    opened = open_model(str(tmp_path / "dit"))
    specification = Specification.for_model(opened, "gradient")
    schema = store_schema(specification)
    assert "latents" in schema.names
    assert "codes" not in schema.names
    latents = song([500, 301], 3)
    row = {
        "song_id": "a", "path": "a.wav", "audio_sha256": "0" * 64, "duration_s": 16.0, "latents": latents.to_bytes(),
        "heard": latents.heard_bytes(), "chunk_frames": latents.frames, "chunk_starts_s": list(latents.starts_s),
    }  # fmt: skip
    table = pa.Table.from_pylist([row])
    assert has_codes(table)
    worker = FingerprintWorker(str(tmp_path / "dit"), specification.to_dict())
    (made,) = worker(table).to_pylist()
    assert made["status"] == "ok"
    assert made["codes_sha256"] == latents.sha256
    expected = Fingerprinter(opened, specification)(latents)
    np.testing.assert_array_equal(np.array(made["P"], np.float32), expected.vectors["P"])
    (damaged,) = worker(table.set_column(table.column_names.index("latents"), "latents", [[b"1"]])).to_pylist()
    assert damaged["status"] == "failed"
    assert "damaged latents" in damaged["error"]


def test_a_store_or_an_index_of_one_family_refuses_the_other(tmp_path: Path, model: DiffusionTransformer) -> None:
    codes = Specification.for_model(tiny_music_model(), "gradient")
    latents = Specification.for_model(model, "gradient")
    environment = {"adapter": "transformers"}
    begin_run(locate(tmp_path / "store"), Run("0" * 64, 1, "nano", codes, environment))
    with pytest.raises(SpecificationMismatch, match=r"was made with specification = .* choose another --out"):
        begin_run(locate(tmp_path / "store"), Run("0" * 64, 1, "dit", latents, environment))
    export_tiny_dit(tmp_path / "dit")
    index = SimpleNamespace(
        version="v1",
        record=SimpleNamespace(specification=Specification.for_model(open_model("nano"), "gradient").to_dict()),
    )
    with pytest.raises(SpecificationMismatch, match=r"index v1 was made with weights .* pass the model that the index"):
        matching_model(index, str(tmp_path / "dit"))  # type: ignore[arg-type]
