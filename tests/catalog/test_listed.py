"""A file is compared with what its manifest lists: another file is a failed row that says what changed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.audio import Audio
from lumina_ray.catalog import decode_rows
from lumina_ray.catalog.listed import check_listed
from lumina_ray.catalog.manifest import manifest_of
from lumina_ray.errors import AudioError
from lumina_ray.files import sha256_of
from lumina_ray.vocabulary import SAMPLE_RATE_HZ


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("listed") / "noise.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(3 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    return path


@pytest.mark.parametrize(
    ("listed", "cause"),
    [
        ({}, None),
        ({"duration_s": 3.4}, None),
        ({"duration_s": 30.0}, "its duration_s is 3.0, the manifest lists 30.0"),
        ({"duration_s": 0.0}, "its duration_s is 3.0, the manifest lists 0.0"),
        ({"sha256": "0" * 64}, "its sha256 is .*, the manifest lists 0000"),
        ({"sha256": "0" * 64, "duration_s": 3.0}, "its sha256 is"),
    ],
)
def test_a_file_that_is_not_the_listed_one_is_a_failed_row(
    wav: Path, listed: dict[str, Any], cause: str | None
) -> None:
    songs = manifest_of([{"song_id": "a", "path": str(wav)} | listed])
    (row,) = decode_rows(songs).to_pylist()
    if cause is None:
        assert (row["error_code"], row["duration_s"], row["audio_sha256"]) == (None, 3.0, sha256_of(wav))
    else:
        assert (row["error_code"], row["samples"], row["duration_s"]) == ("audio.changed", None, None)
        with pytest.raises(AudioError, match=cause):
            raise AudioError(row["error_code"], row["error"])


def test_the_file_that_is_listed_is_decoded(wav: Path) -> None:
    songs = manifest_of([{"song_id": "a", "path": str(wav), "sha256": sha256_of(wav), "duration_s": 3.0}])
    assert decode_rows(songs)["error_code"].to_pylist() == [None]


@settings(max_examples=50)
@given(seconds=st.floats(1, 3600), off=st.floats(-0.99, 0.99))
def test_whole_seconds_are_near_enough_and_other_recordings_are_not(seconds: float, off: float) -> None:
    audio = Audio(np.broadcast_to(np.float32(0), round(seconds * SAMPLE_RATE_HZ)), "0" * 64)
    check_listed({"path": "a", "duration_s": audio.duration_s + off}, audio)
    with pytest.raises(AudioError, match="duration_s"):
        check_listed({"path": "a", "duration_s": audio.duration_s * 1.03 + 1.01}, audio)
