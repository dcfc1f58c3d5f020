"""A song that is nearly silent sets no bar: its pauses, whatever lies in them, count for nothing."""

import numpy as np
import pytest
import soundfile

from lumina_ray.audio import cut_chunks
from lumina_ray.calibration import calibrate
from lumina_ray.fingerprint import Fingerprinter, Specification, encode_song
from lumina_ray.model import open_model
from lumina_ray.store import read_store
from lumina_ray.vocabulary import CHANNELS, SAMPLE_RATE_HZ
from tests.small_catalog import MODEL, SmallCatalog

RNG = np.random.default_rng(0)


def nearly_silent(music: np.ndarray, sound_s: float, floor_dbfs: float) -> np.ndarray:
    """20 s of hiss, and a moment of music in each half."""
    samples = 10 ** (floor_dbfs / 20) * RNG.standard_normal(20 * SAMPLE_RATE_HZ)
    n = round(sound_s * SAMPLE_RATE_HZ)
    for begin_s in (2, 12):
        samples[begin_s * SAMPLE_RATE_HZ :][:n] += music[:n]
    return samples.astype(np.float32)


@pytest.mark.parametrize(("sound_s", "floor_dbfs"), [(1.1, -400), (1.1, -75), (1.1, -60), (3, -55)])
def test_a_nearly_silent_song_moves_no_bar(small_catalog: SmallCatalog, sound_s: float, floor_dbfs: float) -> None:
    model = open_model(MODEL)
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "influence"))
    music, _ = soundfile.read(small_catalog.songs / "tone-0002.flac", dtype="float32")
    added = fingerprinter(encode_song(model, cut_chunks(nearly_silent(music, sound_s, floor_dbfs))))
    songs, controls = read_store(small_catalog.store), read_store(small_catalog.controls)
    for channel in CHANNELS:
        catalog_ND, controls_CD = songs.vectors(channel), controls.vectors(channel)
        with_it_ND = np.concatenate([catalog_ND, added.vectors[channel][None]])
        before, after = (calibrate({channel: x}, {channel: controls_CD}) for x in (catalog_ND, with_it_ND))
        # All best matches: a bar of any level of evidence.
        maxima = [noise.channels[channel].control_maxima_similarity for noise in (before, after)]
        assert maxima[1] == pytest.approx(maxima[0], abs=0.02)
