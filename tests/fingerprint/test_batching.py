"""A song's vector is the same to the last bit alone and in any company, whatever the batch, the order or the place."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lumina_ray.fingerprint import Fingerprint, Fingerprinter, Specification
from lumina_ray.model import MusicModel, open_model
from lumina_ray.vocabulary import Kind, SongCodes
from tests.kinds import BY_MODEL


@pytest.fixture(scope="module", params=["", "audiocraft:"], ids=["transformers", "audiocraft"])
def model(request: pytest.FixtureRequest, tiny_model_dir: Path) -> MusicModel:
    return open_model(f"{request.param}{tiny_model_dir}")


def song(seed: int, frames: tuple[int, ...]) -> SongCodes:
    rng = np.random.default_rng(seed)
    chunks = tuple(rng.integers(0, 512, (4, n)).astype(np.uint16) for n in frames)
    return SongCodes(chunks, tuple(10.0 * i for i in range(len(frames))))


def bits(fingerprint: Fingerprint) -> bytes:
    lengths = np.array([fingerprint.norms[c] for c in ("P", "M")])
    return b"".join(fingerprint.vectors[c].tobytes() for c in ("P", "M")) + lengths.tobytes()


songs = st.lists(st.lists(st.integers(250, 500), min_size=1, max_size=4).map(tuple), min_size=1, max_size=4)


@pytest.mark.parametrize("kind", BY_MODEL)
@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frames=songs, in_flight=st.integers(1, 4), data=st.data())
def test_neighbours_order_and_place_change_no_bit(
    model: MusicModel, kind: Kind, frames: list[tuple[int, ...]], in_flight: int, data: st.DataObject
) -> None:
    fingerprinter = Fingerprinter(model, Specification.for_model(model, kind), in_flight)
    catalog = [song(seed, of_song) for seed, of_song in enumerate(frames)]
    alone = [bits(fingerprinter(codes)) for codes in catalog]
    order = data.draw(st.permutations(range(len(catalog))))
    together = list(fingerprinter.many([catalog[i] for i in order]))
    assert [bits(fingerprint) for fingerprint in together] == [alone[i] for i in order]


@pytest.mark.parametrize("kind", BY_MODEL)
def test_the_size_of_the_batch_changes_the_last_bits_at_most(model: MusicModel, kind: Kind) -> None:
    specification = Specification.for_model(model, kind)
    codes = song(9, (500, 400, 300))
    one, four = (Fingerprinter(model, specification, n)(codes, per_chunk=True) for n in (1, 4))
    for channel in ("P", "M"):
        np.testing.assert_allclose(four.vectors[channel], one.vectors[channel], atol=1e-5)
        np.testing.assert_allclose(four.chunk_vectors[channel], one.chunk_vectors[channel], atol=1e-5)


@pytest.mark.parametrize("kind", BY_MODEL)
def test_one_channel_is_that_channel_of_both(model: MusicModel, kind: Kind) -> None:
    codes = song(10, (500, 300))
    both = Fingerprinter(model, Specification.for_model(model, kind))(codes)
    for channel in ("P", "M"):
        alone = Fingerprinter(model, Specification.for_model(model, kind, (channel,)))(codes)
        assert list(alone.vectors) == [channel]
        np.testing.assert_array_equal(alone.vectors[channel], both.vectors[channel])
        assert alone.norms[channel] == both.norms[channel]
