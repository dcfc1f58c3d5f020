"""Shares of a short and a longer clip of the same recording: real music, the catalog of the shipped bank."""

import numpy as np
import pytest

from lumina_ray.attribution.evidence import evidence_on_all
from lumina_ray.attribution.policies import calibrated
from lumina_ray.calibration import calibrate
from lumina_ray.fingerprint import Fingerprint, Fingerprinter, Specification
from lumina_ray.model import open_model
from lumina_ray.truth.bank import SHIPPED, load_bank
from lumina_ray.truth.corpus import members
from lumina_ray.truth.unlearning import song_codes
from lumina_ray.vocabulary import CHANNELS, SongCodes

CLIPS_S = (10, 15)
SONGS, CONTROLS = 12, 20


@pytest.fixture(scope="module")
def made() -> dict[str, list[Fingerprint]]:
    """Fingerprints by nano of whole recordings of 15 s, of their first 10 s, and of controls."""
    bank, model = load_bank(SHIPPED), open_model("nano")
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "influence"))
    catalog = members(bank.recordings, "A")[:SONGS]
    controls = [i for i, recording in enumerate(bank.recordings) if recording.role == "control"][:CONTROLS]
    rate = model.frame_rate_hz

    def beginning(i: int, seconds: int) -> SongCodes:
        piece = bank.learned(i).beginning(round(seconds * rate))
        return song_codes(piece.codes_KT, rate, piece.heard_T)

    asked = {f"{seconds} s": [beginning(i, seconds) for i in catalog] for seconds in CLIPS_S}
    asked |= {"controls": [beginning(i, max(CLIPS_S)) for i in controls]}
    return {name: list(fingerprinter.many(songs, per_chunk=name != "controls")) for name, songs in asked.items()}


def test_ten_and_fifteen_seconds_of_a_recording_pay_it_alike(made) -> None:
    catalog = {c: np.stack([one.vectors[c] for one in made["15 s"]]) for c in CHANNELS}
    noise = calibrate(catalog, {c: np.stack([one.vectors[c] for one in made["controls"]]) for c in CHANNELS})
    shares = {}
    for seconds in CLIPS_S:
        for song, one in enumerate(made[f"{seconds} s"]):
            evidence = evidence_on_all(noise, catalog, one.vectors, stretches=one.chunk_vectors)
            for channel in CHANNELS:
                shares[channel, seconds, song] = calibrated(evidence[channel]).shares[song]
    for channel in CHANNELS:
        pairs = np.array([[shares[channel, seconds, song] for seconds in CLIPS_S] for song in range(SONGS)])
        # A song of which the shorter clip is not found at all is another matter.
        found = pairs[(pairs > 0).all(axis=1)]
        print(channel, "mean difference of shares:", np.abs(found[:, 0] - found[:, 1]).mean())
        assert len(found) > 0.8 * SONGS
        assert np.abs(found[:, 0] - found[:, 1]).mean() < 0.1
        assert np.median(found) > 0.9
