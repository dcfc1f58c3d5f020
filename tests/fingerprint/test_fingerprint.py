"""A song's vector follows from its codes alone, has the published sizes, and is the vector of its mean gradient."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from lumina_ray.attribution.facts import query_facts
from lumina_ray.audio import ChunkedAudio, cut_chunks
from lumina_ray.errors import SpecificationMismatch, StoreError
from lumina_ray.fingerprint import Fingerprinter, Specification, fingerprint_query
from lumina_ray.fingerprint.codes import frames_heard
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.model import TRACKED_TENSORS, MusicModel, open_model
from lumina_ray.vocabulary import CHANNELS, SAMPLE_RATE_HZ, AudioStream, Kind, SongCodes
from tests.kinds import BY_MODEL


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MusicModel:
    return open_model(str(tiny_model_dir))


def random_codes(model: MusicModel, frames: list[int], seed: int) -> SongCodes:
    rng = np.random.default_rng(seed)
    chunks = [rng.integers(0, model.codebook_size, (4, n)).astype(np.uint16) for n in frames]
    return SongCodes(tuple(chunks), tuple(10.0 * i for i in range(len(frames))))


def with_pauses(codes: SongCodes) -> SongCodes:
    """The codes, of which some frames hold no sound: within chunks, and at their ends."""
    heard = tuple(np.arange(n) % 100 < 70 for n in codes.frames)
    return replace(codes, heard=heard)


@pytest.mark.parametrize("kind", BY_MODEL)
def test_same_codes_same_bits_whatever_came_before(model: MusicModel, kind: Kind) -> None:
    song, other = random_codes(model, [500, 300], 0), random_codes(model, [500], 1)
    fingerprinter = Fingerprinter(model, Specification.for_model(model, kind))
    first = fingerprinter(song)
    fingerprinter(other)
    again = fingerprinter(song, per_chunk=True)
    fresh = Fingerprinter(model, Specification.for_model(model, kind))(song)
    for channel in CHANNELS:
        assert first.vectors[channel].tobytes() == again.vectors[channel].tobytes() == fresh.vectors[channel].tobytes()
        assert np.linalg.norm(first.vectors[channel]) == pytest.approx(1, abs=1e-6)
        assert first.vectors[channel].dtype == np.float32
        assert again.chunk_vectors[channel].shape == (4, len(first.vectors[channel]))
        assert abs(first.vectors[channel] @ fingerprinter(other).vectors[channel]) < 0.999


@pytest.mark.parametrize("kind", BY_MODEL)
def test_a_song_of_one_stretch_is_that_stretch(model: MusicModel, kind: Kind) -> None:
    fingerprint = Fingerprinter(model, Specification.for_model(model, kind))(
        random_codes(model, [250], 2), per_chunk=True
    )
    for channel in CHANNELS:
        np.testing.assert_array_equal(fingerprint.vectors[channel], fingerprint.chunk_vectors[channel][0])


@pytest.mark.parametrize("kind", ["influence", "head-gradient", "tokens", "jl", "gradient"])
def test_halves_of_a_chunk_add_up_to_it(model: MusicModel, kind: Kind) -> None:
    """Fingerprints that are linear in the gradient: the song's vector lies in the plane of its halves'."""
    fingerprint = Fingerprinter(model, Specification.for_model(model, kind))(
        random_codes(model, [500], 5), per_chunk=True
    )
    assert [(of.start, of.stop) for of in fingerprint.stretches] == [(0, 250), (250, 500)]
    # In the second half, codebook k is predicted up to the last frame but k.
    assert fingerprint.stretch_weights == pytest.approx((1000 / 1994, 994 / 1994))
    for channel in CHANNELS:
        halves, whole = fingerprint.chunk_vectors[channel], fingerprint.vectors[channel]
        lengths, *_ = np.linalg.lstsq(halves.T, whole, rcond=None)
        # Steps of the text, which are in neither half, have gradients of their own in "gradient".
        np.testing.assert_allclose(lengths @ halves, whole, atol=1e-5 if kind != "gradient" else 0.05)
        assert (lengths > 0).all()


def test_half_a_chunk_is_what_a_loss_on_that_half_gives(model: MusicModel) -> None:
    codes = random_codes(model, [500], 6)
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "influence"))
    halves = fingerprinter(codes, per_chunk=True)
    for half, heard in enumerate((np.arange(500) < 250, np.arange(500) >= 250)):
        alone = fingerprinter(replace(codes, heard=(heard,)))
        for channel in CHANNELS:
            # Codebooks count by the codes that they have in the chunk, or in the half: 497 to 500, or 247 to 250.
            assert halves.chunk_vectors[channel][half] @ alone.vectors[channel] > 0.9999


def test_chunks_are_cut_where_there_are_few_and_both_halves_have_sound(model: MusicModel) -> None:
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "tokens"))
    for frames, expected in (([500, 250], 3), ([500, 251], 4), ([500] * 3, 3), ([400], 2)):
        assert len(fingerprinter(random_codes(model, frames, 7), per_chunk=True).stretches) == expected
    # A second of sound is 50 frames.
    for n_heard, expected in ((299, 1), (300, 2)):
        codes = replace(random_codes(model, [500], 8), heard=(np.arange(500) < n_heard,))
        assert len(fingerprinter(codes, per_chunk=True).stretches) == expected
    assert fingerprinter(random_codes(model, [500], 9)).stretches == ()


@pytest.mark.parametrize("stream", [None, AudioStream(2, 3, "first_with_sound")])
def test_a_query_is_of_the_stream_that_was_decoded(model: MusicModel, stream: AudioStream | None) -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE_HZ).astype(np.float32)
    audio = ChunkedAudio("0" * 64, 2.0, tuple(cut_chunks(samples)), stream)
    asked = fingerprint_query(Fingerprinter(model, Specification.for_model(model, "influence")), audio)
    assert asked.audio_stream == stream
    taken = query_facts(asked).audio_stream
    assert (taken and taken.model_dump()) == (stream and asdict(stream))


def test_chunks_are_weighted_by_their_valid_codes(model: MusicModel) -> None:
    fingerprint = Fingerprinter(model, Specification.for_model(model, "influence"))(random_codes(model, [500, 300], 3))
    np.testing.assert_allclose(fingerprint.chunk_weights, np.array([1994, 1194]) / (1994 + 1194), rtol=1e-12)


def test_codes_without_sound_have_no_weight(model: MusicModel) -> None:
    codes = replace(random_codes(model, [500, 300], 3), heard=(np.arange(500) < 100, np.arange(300) >= 290))
    fingerprint = Fingerprinter(model, Specification.for_model(model, "influence"))(codes)
    # At the end of the second chunk, codebook k is predicted up to the last frame but k.
    np.testing.assert_allclose(fingerprint.chunk_weights, np.array([400, 34]) / 434, rtol=1e-12)


@pytest.mark.parametrize("kind", BY_MODEL)
def test_frames_without_sound_do_not_count(model: MusicModel, kind: Kind) -> None:
    """Codes at the end of a chunk may be any, but for those that the last codes with sound are predicted from."""
    codes = random_codes(model, [500], 14)
    heard = (np.arange(500) < 300,)
    other = codes.chunks[0].copy()
    other[:, 302:] = (other[:, 302:] + 7) % model.codebook_size
    fingerprinter = Fingerprinter(model, Specification.for_model(model, kind))
    one, same = (fingerprinter(SongCodes((chunk,), (0.0,), heard)) for chunk in (codes.chunks[0], other))
    whole = fingerprinter(codes)
    for channel in CHANNELS:
        np.testing.assert_array_equal(one.vectors[channel], same.vectors[channel])
        assert one.vectors[channel] @ whole.vectors[channel] < 0.9999


def mean_gradients(model: MusicModel, codes: SongCodes, weights: tuple[float, ...]) -> None:
    """Put the mean gradient of the song's chunks, weighted by codes, into `.grad`, by plain backward passes."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    total = 0
    for chunk, heard in zip(codes.chunks, codes.heard, strict=True):
        codes_1KT = torch.from_numpy(chunk.astype(np.int64))[None]
        logits_KTC = model.predict(codes_1KT, [chunk.shape[1]]).logits_BKTC[0]
        frames = [torch.from_numpy(np.flatnonzero(heard[: len(heard) - k])) for k in range(4)]
        means = [cross_entropy(logits_KTC[k, frames[k]], codes_1KT[0, k, frames[k]]) for k in range(4)]
        loss = sum(weight * mean for weight, mean in zip(weights, means, strict=True)) / sum(weights)
        count = sum(len(of_codebook) for of_codebook in frames)
        (loss * count).backward()
        total += count
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= total


@pytest.mark.parametrize("pauses", [False, True])
def test_stats_are_the_statistics_of_the_mean_gradient(model: MusicModel, pauses: bool) -> None:
    codes = random_codes(model, [500, 260], 4)
    codes = with_pauses(codes) if pauses else codes
    ours = Fingerprinter(model, Specification.for_model(model, "stats"))(codes)
    mean_gradients(model, codes, (0.4, 1.2, 1.3, 1.4))
    for channel, layers in (("P", [14, 15]), ("M", [4, 5])):
        values = []
        for layer in layers:
            for tensor in TRACKED_TENSORS:
                g = torch.cat([p.grad for p in model.tracked(layer, tensor)]).double().numpy().ravel()  # type: ignore[misc]
                skewness = ((g - g.mean()) ** 3).mean() / g.std() ** 3
                mean = 0.0 if tensor in ("self_out_proj", "cross_out_proj", "linear2") else g.mean()
                values += [mean, g.std(ddof=1), np.sqrt((g**2).sum()), g.max(), g.min(), skewness]
        expected = np.array(values) / np.linalg.norm(values)
        np.testing.assert_allclose(ours.vectors[channel], expected, rtol=1e-3, atol=1e-6)  # type: ignore[index]


def test_structurally_zero_means_are_rounding_noise_in_plain_gradients_too(model: MusicModel) -> None:
    mean_gradients(model, random_codes(model, [200], 5), (1, 1, 1, 1))
    for tensor in ("self_out_proj", "cross_out_proj", "linear2"):
        (parameter,) = model.tracked(14, tensor)  # type: ignore[arg-type]
        gradient = parameter.grad.double()  # type: ignore[union-attr]
        assert abs(gradient.mean()) < 1e-6 * gradient.std()


@pytest.mark.parametrize("pauses", [False, True])
def test_head_gradient_is_the_projected_gradient_of_the_heads(model: MusicModel, pauses: bool) -> None:
    codes = random_codes(model, [500, 260], 6)
    codes = with_pauses(codes) if pauses else codes
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "head-gradient"))
    ours = fingerprinter(codes)
    mean_gradients(model, codes, (1, 1, 1, 1))
    heads = [head.grad for head in model.heads()]
    for channel, gradients in (("P", heads[:1]), ("M", heads[1:])):
        specification = fingerprinter.specification
        projected = torch.zeros(specification.dims[channel], dtype=torch.float64)  # type: ignore[index]
        flat = torch.cat([gradient.flatten() for gradient in gradients])  # type: ignore[union-attr]
        SparseProjection(len(flat), len(projected), specification.nonzeros, specification.seed).add(projected, 0, flat)
        expected = (projected / projected.norm()).numpy()
        np.testing.assert_allclose(ours.vectors[channel], expected, atol=1e-5)  # type: ignore[index]


def test_jl_keeps_the_cosines_of_the_gradients_it_projects(model: MusicModel) -> None:
    songs = [random_codes(model, [500], seed) for seed in range(7, 12)]
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "jl"))
    ours = np.stack([fingerprinter(song).vectors["M"] for song in songs])
    exact = []
    for song in songs:
        mean_gradients(model, song, (0.4, 1.2, 1.3, 1.4))
        gradient = torch.cat([head.grad.flatten() for head in model.heads()])  # type: ignore[union-attr]
        exact.append((gradient / gradient.norm()).numpy())
    np.testing.assert_allclose(ours @ ours.T, np.stack(exact) @ np.stack(exact).T, atol=5 / np.sqrt(512))


def test_other_weights_are_refused(model: MusicModel) -> None:
    specification = Specification.for_model(model, "stats")
    other = Specification.from_dict(specification.to_dict() | {"weights_sha256": "0" * 64})
    with pytest.raises(SpecificationMismatch, match="000000000000"):
        Fingerprinter(model, other)


def test_codes_survive_their_bytes(model: MusicModel) -> None:
    codes = with_pauses(random_codes(model, [500, 300, 77], 13))
    again = SongCodes.from_bytes(codes.to_bytes(), codes.heard_bytes(), 4, codes.frames, list(codes.starts_s))
    assert again.sha256 == codes.sha256 != replace(codes, heard=()).sha256
    assert all(np.array_equal(a, b) for a, b in zip(again.chunks, codes.chunks, strict=True))
    assert all(np.array_equal(a, b) for a, b in zip(again.heard, codes.heard, strict=True))
    with pytest.raises(StoreError, match="damaged codes"):
        SongCodes.from_bytes(codes.to_bytes(), codes.heard_bytes()[:-1], 4, codes.frames, list(codes.starts_s))


def test_latents_survive_their_bytes_and_are_no_codes() -> None:
    rng = np.random.default_rng(0)
    chunks = tuple(rng.standard_normal((3, n)).astype(np.float16) for n in (20, 7))
    latents = SongCodes(chunks, (0.0, 10.0))
    data = latents.to_bytes()
    again = SongCodes.from_bytes(data, latents.heard_bytes(), 3, [20, 7], [0.0, 10.0], "latents")
    assert again.representation == "latents"
    assert again.sha256 == latents.sha256
    assert all(a.dtype == np.float16 and np.array_equal(a, b) for a, b in zip(again.chunks, chunks, strict=True))
    # The same bytes as codes are another song.
    assert SongCodes.from_bytes(data, latents.heard_bytes(), 3, [20, 7], [0.0, 10.0]).sha256 != latents.sha256
    infinite = np.full(81, np.inf, "<f2").tobytes()
    with pytest.raises(StoreError, match="damaged latents: not all are finite"):
        SongCodes.from_bytes(infinite, latents.heard_bytes(), 3, [20, 7], [0.0, 10.0], "latents")


@pytest.mark.parametrize(("rate_hz", "n"), [(50.0, 4), (25.0, 2), (44_100 / 2048, 2)])
def test_a_frame_of_a_model_is_heard_where_some_of_it_is(rate_hz: float, n: int) -> None:
    heard_T = np.array([False, False, True, False])
    found = frames_heard(heard_T, n, rate_hz)
    at_s = [(j / rate_hz, (j + 1) / rate_hz) for j in range(n)]
    # By brute force: frame i of 20 ms overlaps some of it.
    expected = [any(heard_T[i] and begin < (i + 1) / 50 and end > i / 50 for i in range(4)) for begin, end in at_s]
    assert found.tolist() == expected
