"""Kinds that run the codec: embeddings of decoded audio, and statistics of the codec's own activations."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from audiocraft.modules.seanet import SEANetDecoder, SEANetEncoder

import lumina_ray
from lumina_ray.embedding.open import FOLDER_VARIABLE, open_embedder
from lumina_ray.embedding.windows import cut_windows
from lumina_ray.errors import ModelError, SpecificationMismatch
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.kinds import CODEC_MODULES, KINDS
from lumina_ray.methods.table import score_table
from lumina_ray.model import MusicModel, open_model
from lumina_ray.store import begin_run, read_store
from lumina_ray.vocabulary import CHANNELS, Kind, SongCodes
from tests.embedding.tiny import write_clap, write_clews, write_mert
from tests.small_catalog import N_SONGS, make_small_catalog
from tests.tiny_dit import tiny_dit


@pytest.fixture(scope="module", autouse=True)
def embedders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Folder of tiny random embedders, in the environment."""
    folder = tmp_path_factory.mktemp("embedders")
    for name, write in (("clap", write_clap), ("clews", write_clews), ("mert", write_mert)):
        (folder / name).mkdir()
        write(folder / name)  # type: ignore[operator]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(FOLDER_VARIABLE, str(folder))
        yield


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MusicModel:
    return open_model(str(tiny_model_dir))  # type: ignore[return-value]


def song(frames: tuple[int, ...], seed: int) -> SongCodes:
    rng = np.random.default_rng(seed)
    chunks = tuple(rng.integers(0, 512, (4, n)).astype(np.uint16) for n in frames)
    return SongCodes(chunks, tuple(10.0 * i for i in range(len(frames))), tuple(np.arange(n) % 90 < 60 for n in frames))


@pytest.mark.parametrize("kind", [kind for kind, row in KINDS.items() if row.needs == "codec"])
def test_neighbours_order_and_batch_change_no_bit(model: MusicModel, kind: Kind) -> None:
    specification = Specification.for_model(model, kind)
    songs = [song((260, 61), 0), song((90,), 1)]
    alone = [Fingerprinter(model, specification)(codes) for codes in songs]
    both = Fingerprinter(model, specification, chunks_in_flight=3).many(songs[::-1], per_chunk=True)
    for one, other, n in zip(alone[::-1], both, (1, 2), strict=True):
        for channel in CHANNELS:
            assert one.vectors[channel].tobytes() == other.vectors[channel].tobytes()
            assert one.norms[channel] == other.norms[channel]
            assert one.vectors[channel].shape == (specification.dims[channel],)
            # No half of a chunk has a vector of its own.
            assert other.chunk_vectors[channel].shape == (n, specification.dims[channel])
            assert np.linalg.norm(one.vectors[channel]) == pytest.approx(1, abs=1e-6)
    # A song of more chunks than are in flight.
    split = Fingerprinter(model, specification, chunks_in_flight=1)(songs[0])
    np.testing.assert_allclose(split.vectors["P"], alone[0].vectors["P"], atol=1e-6)
    only_m = Fingerprinter(model, Specification.for_model(model, kind, ("M",)))(songs[0])
    assert only_m.vectors["M"].tobytes() == alone[0].vectors["M"].tobytes()


def test_a_songs_vector_is_the_mean_over_windows_of_its_decoded_chunks(model: MusicModel) -> None:
    codes = song((200, 61), 2)
    found = Fingerprinter(model, Specification.for_model(model, "embedding:musicnn"))(codes)
    embedder = open_embedder("musicnn", model.device)
    total = np.zeros(200)
    for chunk_KT, heard_T, weight in zip(codes.chunks, codes.heard, found.chunk_weights, strict=True):
        samples = model.decode(torch.from_numpy(chunk_KT.astype(np.int64)))
        windows, sound = cut_windows(samples, heard_T, embedder.row)
        assert len(windows) == (2 if len(heard_T) == 200 else 1)
        total += weight * np.average(embedder(torch.from_numpy(windows)).numpy(), axis=0, weights=sound)
    for channel in CHANNELS:
        np.testing.assert_allclose(found.vectors[channel] * found.norms[channel], total, atol=1e-4)
    assert found.vectors["P"].tobytes() == found.vectors["M"].tobytes()


@pytest.mark.parametrize("adapter", ["", "audiocraft:"])
def test_activations_are_those_of_the_codecs_own_modules(adapter: str, tiny_model_dir: Path) -> None:
    model: Any = open_model(f"{adapter}{tiny_model_dir}")
    codes = replace(song((300,), 3), heard=(np.arange(300) < 200,))
    found = Fingerprinter(model, Specification.for_model(model, "codec-activations"))(codes)
    codes_KT = torch.from_numpy(codes.chunks[0].astype(np.int64))
    codec = model.codec.model if adapter else model.model.audio_encoder
    with torch.no_grad():
        x = codec.quantizer.decode(codes_KT[:, None])
        for i, layer in enumerate(codec.decoder.layers):
            x = layer(x)
            heard = x[0, :, : x.shape[2] * 200 // 300].double().numpy()
            ours = found.vectors["M"][6 * i : 6 * i + 6] * found.norms["M"]
            spread = heard.std()
            skewness = ((heard - heard.mean()) ** 3).mean() / spread**3
            expected = [heard.mean(), heard.std(ddof=1), np.linalg.norm(heard), heard.max(), heard.min(), skewness]
            np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=1e-4 * found.norms["M"])
        samples = torch.from_numpy(model.decode(codes_KT))[None, None]
        first = codec.encoder.layers[0](samples)[0, :, : samples.shape[2] * 200 // 300].double().numpy()
    ours = found.vectors["P"][:3] * found.norms["P"]
    expected = [first.mean(), first.std(ddof=1), np.linalg.norm(first)]
    np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=1e-4 * found.norms["P"])


def test_audiocrafts_own_codec_has_as_many_modules() -> None:
    sizes: dict[str, Any] = {"n_filters": 2, "dimension": 8, "ratios": [8, 5, 4, 4], "n_residual_layers": 1, "lstm": 2}
    assert len(SEANetEncoder(**sizes).model) == len(SEANetDecoder(**sizes).model) == CODEC_MODULES


def test_latents_are_decoded_and_embedded_too() -> None:
    latents = tiny_dit()
    rng = np.random.default_rng(0)
    codes = SongCodes((rng.standard_normal((8, 60)).astype(np.float16),), (0.0,))
    fingerprint = Fingerprinter(latents, Specification.for_model(latents, "embedding:clap"))(codes)
    assert fingerprint.vectors["P"].shape == (16,)


def test_other_weights_have_another_specification_and_are_refused(
    model: MusicModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specification = Specification.for_model(model, "embedding:clap")
    assert specification.statistics_sha256 == open_embedder("clap", model.device).sha256
    assert "480000 samples at 48000 Hz" in specification.loss
    (tmp_path / "clap").mkdir()
    write_clap(tmp_path / "clap", seed=1)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    assert Specification.for_model(model, "embedding:clap").sha256 != specification.sha256
    with pytest.raises(SpecificationMismatch, match="made with a clap embedder of hash"):
        Fingerprinter(model, specification)
    monkeypatch.delenv(FOLDER_VARIABLE)
    with pytest.raises(ModelError, match="embedding:clap needs weights that you have fetched"):
        Specification.for_model(model, "embedding:clap")


def test_a_store_an_index_and_an_answer_of_an_embedder(
    tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_small_catalog(tmp_path, str(tiny_model_dir), "embedding:mert")
    index, store = lumina_ray.open_index(made.index), read_store(made.store)
    report = index.attribute(made.songs / "tone-0001.flac")
    for channel in CHANNELS:
        similarity = report.to_frame(channel).set_index("song_id")["similarity"]
        assert len(similarity) == N_SONGS
        assert (similarity.idxmax(), similarity.max()) == ("tone-0001.flac", pytest.approx(1, abs=1e-6))
    table = score_table("embedding:mert", [store], [store], top=1)
    assert table["song_id"].to_pylist() == table["query_id"].to_pylist()
    # Weights of another MERT ask nothing of this index.
    (tmp_path / "others" / "mert").mkdir(parents=True)
    write_mert(tmp_path / "others" / "mert", seed=1)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "others"))
    with pytest.raises(SpecificationMismatch, match="mert embedder"):
        lumina_ray.open_index(made.index).attribute(made.songs / "tone-0001.flac")
    with pytest.raises(SpecificationMismatch, match="was made with specification"):
        begin_run(
            made.store,
            replace(
                store.run, specification=Specification.for_model(open_model(str(tiny_model_dir)), "embedding:mert")
            ),
        )
