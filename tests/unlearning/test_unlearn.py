"""Forgetting against dense algebra and plain autograd, and what becomes of the model however it ends."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy

from lumina_ray.errors import ModelError, NumericsError, SpecificationMismatch, UnlearningError, UsageError
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.fisher import Fisher
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.losses import code_losses, song_gradient, song_loss
from lumina_ray.unlearning.scores import SCORES, collect, compare, first_order
from lumina_ray.unlearning.select import LAYERS, Layers, named_tensors, select_parts
from lumina_ray.unlearning.unlearn import Forgetting, loss_of, unlearned
from lumina_ray.vocabulary import SongCodes


@pytest.fixture(scope="module")
def models(tiny_model_dir: Path) -> dict[str, MusicModel]:
    return {adapter: open_model(f"{adapter}{tiny_model_dir}") for adapter in ("", "audiocraft:")}


@pytest.fixture(scope="module")
def model(models: dict[str, MusicModel]) -> MusicModel:
    """One whose predictions differ between songs."""
    sharp = models[""]
    with torch.no_grad():
        for weights in (*sharp.heads(), *models["audiocraft:"].heads()):
            weights.mul_(8)
    return sharp


def some_songs(n: int, seed: int = 0, frames: int = 40) -> list[SongCodes]:
    """Songs that use few codes each, so that they differ."""
    rng = np.random.default_rng(seed)
    songs = []
    for _ in range(n):
        palette = rng.integers(0, 512, (4, 6))
        chunk = np.stack([palette[k, rng.integers(0, 6, frames)] for k in range(4)]).astype(np.uint16)
        songs.append(SongCodes((chunk,), (0.0,)))
    return songs


@pytest.fixture(scope="module")
def songs() -> list[SongCodes]:
    return some_songs(24)


@pytest.fixture(scope="module")
def fisher(model: MusicModel, songs: list[SongCodes]) -> Fisher:
    return fisher_diagonal(model, songs)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Python's own handler, which is not there in a process that a shell started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def bits(model: MusicModel) -> list[bytes]:
    return [p.detach().cpu().numpy().tobytes() for p in model.parameters()]


def plain_loss(model: MusicModel, codes: SongCodes) -> torch.Tensor:
    """Mean over valid codes, and then over codebooks; nothing of the package is used but `predict`."""
    (chunk,), (heard,) = codes.chunks, codes.heard
    logits = model.predict(torch.from_numpy(chunk.astype(np.int64))[None], [chunk.shape[1]]).logits_BKTC[0]
    of_codebooks = []
    for k in range(4):
        frames = [t for t in range(chunk.shape[1] - k) if heard[t]]
        of_codebooks.append(cross_entropy(logits[k, frames], torch.from_numpy(chunk[k].astype(np.int64))[frames]))
    return torch.stack(of_codebooks).mean()


def plain_gradient(model: MusicModel, codes: SongCodes) -> dict[int, torch.Tensor]:
    parameters = model.parameters()
    for parameter in parameters:
        parameter.requires_grad_(True)
    gradients = torch.autograd.grad(plain_loss(model, codes), parameters, allow_unused=True)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return {id(p): torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)}


def test_names_cover_every_parameter_once_and_are_one_for_both_libraries(models: dict[str, MusicModel]) -> None:
    shapes = []
    for model in models.values():
        tensors = named_tensors(model)
        pieces = [id(piece) for of_tensor in tensors.values() for piece in of_tensor]
        assert sorted(pieces) == sorted(id(p) for p in model.parameters())
        shapes.append(
            {name: torch.cat([p.detach() for p in pieces_]).numpy().tobytes() for name, pieces_ in tensors.items()}
        )
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("layers", LAYERS)
def test_a_choice_of_layers_is_the_same_numbers_in_both_libraries(
    models: dict[str, MusicModel], model: MusicModel, layers: Layers, songs: list[SongCodes]
) -> None:
    flat = []
    for one in models.values():
        parts = select_parts(one, layers)
        _, gradients = song_gradient(one, songs[0], parts)
        by_hand = plain_gradient(one, songs[0])
        for part, gradient in zip(parts, gradients, strict=True):
            torch.testing.assert_close(gradient, by_hand[id(part.parameter)][part.rows], rtol=1e-4, atol=1e-7)
        flat.append(
            {f"{p.name} {p.at.start + i}": g[i] for p, g in zip(parts, gradients, strict=True) for i in range(len(g))}
        )
    assert flat[0].keys() == flat[1].keys()
    for name, row in flat[0].items():
        torch.testing.assert_close(row, flat[1][name], rtol=1e-3, atol=1e-6)
    D = model.dim
    n_weights = sum(part.values.numel() for part in select_parts(model, layers))
    per_layer = {"cross_kv": 2, "cross": 4, "self": 4, "mlp": 8, "layers": 16}
    if layers in per_layer:
        assert n_weights == per_layer[layers] * D * D * model.n_layers
    elif layers == "heads":
        assert n_weights == 4 * 512 * D
    else:
        assert n_weights == sum(p.numel() for p in model.parameters())


def test_loss_is_the_mean_over_codes_with_sound(model: MusicModel, songs: list[SongCodes]) -> None:
    heard = replace(songs[0], heard=(np.arange(40) % 10 < 7,))
    for codes in (songs[0], heard):
        with torch.no_grad():
            assert loss_of(model, codes) == pytest.approx(float(plain_loss(model, codes)), rel=1e-6)
    losses = code_losses(model, heard)
    assert np.isnan(losses[0]).sum() == 12
    assert np.isnan(losses[3]).sum() == 12 + 3 - 3  # The last three frames hold no sound anyway.
    two = SongCodes((songs[0].chunks[0], songs[1].chunks[0][:, :11]), (0.0, 10.0))
    apart = np.concatenate([code_losses(model, SongCodes((chunk,), (0.0,))) for chunk in two.chunks], axis=1)
    np.testing.assert_array_equal(code_losses(model, two), apart)
    loss, _ = song_gradient(model, two, select_parts(model, "heads"))
    assert loss == pytest.approx(song_loss(apart), rel=1e-6)


def test_padding_counts_where_it_is_not_masked(model: MusicModel, songs: list[SongCodes]) -> None:
    silence = np.full((4, 50), 7)
    padded = code_losses(model, songs[0], silence)
    whole = SongCodes((np.concatenate([songs[0].chunks[0], silence[:, 40:].astype(np.uint16)], axis=1),), (0.0,))
    np.testing.assert_array_equal(padded, code_losses(model, whole))
    assert padded.shape == (4, 50)


@pytest.mark.parametrize("layers", ["heads", "cross_kv", "all"])
def test_one_step_is_the_solution_of_a_dense_system(
    model: MusicModel, songs: list[SongCodes], fisher: Fisher, layers: Layers
) -> None:
    """θ − θ₀ = (1/N) (F + λ)⁻¹ g, with the matrix written out where it is small enough."""
    how = Forgetting(layers=layers, damping=0.1)
    parts = select_parts(model, layers)
    before = [part.values.clone() for part in parts]
    by_hand = plain_gradient(model, songs[0])
    g = torch.cat([by_hand[id(part.parameter)][part.rows].flatten() for part in parts]).double().numpy()
    F = np.concatenate([fisher.values[part.name][part.at].ravel() for part in parts]).astype(np.float64)
    damped = F + 0.1 * F.mean()
    with unlearned(model, songs[0], fisher, how) as done:
        moved = torch.cat([(part.values - b).flatten() for part, b in zip(parts, before, strict=True)])
    some = np.random.default_rng(0).choice(len(g), 400, replace=False)
    dense = np.linalg.solve(done.n * np.diag(damped[some]), g[some])
    scale = np.abs(g / damped / done.n).max()
    # Weights are float32: a step is rounded to a part of the weight that it is added to.
    np.testing.assert_allclose(moved.numpy()[some], dense, atol=2e-3 * scale + 3e-8)
    assert 0 < done.rise_nats <= how.trust_nats
    assert done.rise_nats > 0.5 * how.trust_nats


def test_further_steps_end_where_the_objective_is_smallest(
    model: MusicModel, songs: list[SongCodes], fisher: Fisher
) -> None:
    """N (F + λ)(θ − θ₀) = ∇L(ẑ, θ): a step changes it little where it holds."""
    residuals = []
    for steps in (1, 2, 8):
        how = Forgetting(layers="heads", damping=0.1, steps=steps, trust_nats=0.5)
        parts = select_parts(model, "heads")
        before = [part.values.clone() for part in parts]
        with unlearned(model, songs[0], fisher, how) as done:
            g = song_gradient(model, songs[0], parts)[1]
            moved = [part.values.double() - b.double() for part, b in zip(parts, before, strict=True)]
        F = [torch.from_numpy(fisher.values[part.name]).double() for part in parts]
        damping = 0.1 * float(torch.cat([f.flatten() for f in F]).mean())
        left = torch.cat([(done.n * (f + damping) * m).flatten() for f, m in zip(F, moved, strict=True)])
        right = torch.cat([x.flatten() for x in g]).double()
        residuals.append(float((left - right).norm() / right.norm()))
    assert residuals[2] < residuals[1] < residuals[0]
    assert residuals[2] < 0.05


@pytest.mark.parametrize("layers", ["heads", "layers", "all"])
def test_first_order_agrees_with_finite_steps(
    model: MusicModel, songs: list[SongCodes], fisher: Fisher, layers: Layers
) -> None:
    how = Forgetting(layers=layers, damping=0.1)
    slopes = first_order(model, songs[3], songs, fisher, how)
    before = [code_losses(model, song) for song in songs]
    with unlearned(model, songs[3], fisher, how) as done:
        rises = collect([compare(b, code_losses(model, song)) for b, song in zip(before, songs, strict=True)])
    finite = rises.of("plain")
    assert finite[3] == pytest.approx(done.rise_nats, rel=1e-3)
    assert spearmanr(finite, slopes).statistic >= 0.95
    assert slopes[3] == pytest.approx(how.trust_nats)
    assert finite.argmax() == 3


def test_scores_by_hand() -> None:
    before, after = np.array([[1.0, 3.0, np.nan], [2.0, np.nan, np.nan]]), np.array([[2.0, 3.0, 9.0], [1.0, 5.0, 5.0]])
    found = compare(before, np.where(np.isnan(before), np.nan, after))
    np.testing.assert_allclose(found["plain"], [0.5, -1])
    np.testing.assert_allclose(found["relative"], [0.25, -0.5])
    np.testing.assert_allclose(found["mucs"], [(1 / 3.001 + 0) / 2, -1 / 3.001])
    rises = collect([found, found])
    assert set(rises.values) == set(SCORES)
    np.testing.assert_allclose(rises.of("plain"), [-0.25, -0.25])


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.01, 20), min_size=2, max_size=30), st.lists(st.floats(-0.01, 0.01), min_size=30, max_size=30)
)
def test_mucs_is_bounded_and_has_the_sign_of_each_rise(losses: list[float], rises: list[float]) -> None:
    before = np.array([losses])
    after = before + np.abs(rises[: len(losses)])
    found = compare(before, after)
    assert (found["mucs"] >= 0).all()
    assert (found["mucs"] < 1).all()
    assert found["plain"][0] >= 0


@pytest.mark.parametrize("layers", LAYERS)
def test_weights_come_back_to_the_bit(
    models: dict[str, MusicModel], model: MusicModel, songs: list[SongCodes], layers: Layers
) -> None:
    for one in models.values():
        of = fisher_diagonal(one, songs[:2])
        before, sha256 = bits(one), one.weights_sha256
        loss = loss_of(one, songs[0])
        with unlearned(one, songs[0], of, Forgetting(layers=layers, steps=2, damping=0.1)) as done:
            assert bits(one) != before
            assert one.weights_sha256 != sha256
            assert loss_of(one, songs[0]) == pytest.approx(done.after_nats)
        assert bits(one) == before
        assert one.weights_sha256 == sha256
        assert loss_of(one, songs[0]) == loss


def test_the_model_survives_errors_and_ctrl_c(model: MusicModel, songs: list[SongCodes], fisher: Fisher) -> None:
    before = bits(model)
    with pytest.raises(ZeroDivisionError), unlearned(model, songs[0], fisher):
        raise ZeroDivisionError
    assert bits(model) == before
    with pytest.raises(KeyboardInterrupt), unlearned(model, songs[0], fisher):
        assert threading.current_thread() is threading.main_thread()
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(10**7):
            pass
    assert bits(model) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("after_ms", [1, 5, 20, 50, 120])
def test_ctrl_c_at_any_time_leaves_the_model_as_it_was(
    model: MusicModel, songs: list[SongCodes], fisher: Fisher, after_ms: int
) -> None:
    before = bits(model)
    timer = threading.Timer(after_ms / 1000, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        while True:
            with unlearned(model, songs[0], fisher, Forgetting(steps=3)):
                pass
    timer.join()
    assert bits(model) == before


def test_bad_input_is_named_and_changes_nothing(
    model: MusicModel, songs: list[SongCodes], fisher: Fisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bits(model)
    silent = replace(songs[0], heard=(np.zeros(40, bool),))
    with (
        pytest.raises(SpecificationMismatch, match="was measured with weights"),
        unlearned(model, songs[0], replace(fisher, weights_sha256="f" * 64)),
    ):
        pass
    with pytest.raises(UnlearningError, match="nothing is left"), unlearned(model, silent, fisher):
        pass
    with unlearned(model, silent, fisher, Forgetting(mask_silence=False)) as done:
        assert done.rise_nats > 0
    other_codec = SongCodes((np.full((4, 30), 512, np.uint16),), (0.0,))
    with pytest.raises(SpecificationMismatch, match="another codec"), unlearned(model, other_codec, fisher):
        pass
    with pytest.raises(SpecificationMismatch, match="another codec"):
        fisher_diagonal(model, [SongCodes((np.zeros((2, 30), np.uint16),), (0.0,))])
    zero = replace(fisher, values={name: np.zeros_like(v) for name, v in fisher.values.items()})
    with pytest.raises(UnlearningError, match="zero everywhere"), unlearned(model, songs[0], zero):
        pass
    for bad in ({"trust_nats": 0.0}, {"damping": -1.0}, {"steps": 0}, {"trust_nats": float("nan")}):
        with pytest.raises(UsageError):
            Forgetting(**bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no choice of layers"):
        select_parts(model, "middle")  # type: ignore[arg-type]
    with (
        pytest.raises(UnlearningError, match="below rounding"),
        unlearned(model, songs[0], fisher, Forgetting(trust_nats=1e-30)),
    ):
        pass
    assert bits(model) == before

    # Weights that already hold a NaN give no step at all.
    broken = model.heads()[0]
    own = broken.data
    broken.data = own.clone()
    broken.data[0, 0] = torch.nan
    with pytest.raises(NumericsError, match="not finite"), unlearned(model, songs[0], fisher):
        pass
    broken.data = own
    halved = model.heads()[1]
    own = halved.data
    halved.data = own.half()
    with pytest.raises(ModelError, match="half precision"), unlearned(model, songs[0], fisher):
        pass
    halved.data = own
    assert bits(model) == before


def test_zero_gradients_are_an_error(model: MusicModel, songs: list[SongCodes], fisher: Fisher) -> None:
    """Without a condition, keys and values of cross-attention are not used."""
    own = model.condition
    model.condition = torch.zeros_like(own)  # type: ignore[misc]
    try:
        with (
            pytest.raises(UnlearningError, match="zero"),
            unlearned(model, songs[0], fisher, Forgetting(layers="cross_kv")),
        ):
            pass
    finally:
        model.condition = own  # type: ignore[misc]


def test_a_step_far_outside_the_trust_region_is_shortened(
    model: MusicModel, songs: list[SongCodes], fisher: Fisher
) -> None:
    """Where the loss is curved, the slope alone promises too little."""
    how = Forgetting(layers="layers", trust_nats=4.0, damping=1e-6)
    with unlearned(model, songs[0], fisher, how) as done:
        assert done.shortened > 0
        assert 0 < done.rise_nats <= 4
