"""Windows are always the same, cover the chunk, and count by their sound."""

from dataclasses import replace

import numpy as np
import pytest

from lumina_ray.embedding.open import FOLDER_VARIABLE, open_embedder
from lumina_ray.embedding.table import EMBEDDERS
from lumina_ray.embedding.windows import cut_windows
from lumina_ray.errors import ModelError

# At the codec's own rate, nothing is resampled.
ROW = replace(EMBEDDERS["musicnn"], rate_hz=32_000, window_samples=96_000)
RAMP = np.arange(320_000, dtype=np.float32) / 320_000
HEARD = np.ones(500, bool)


def test_windows_are_laid_evenly_and_cover_the_chunk() -> None:
    windows_WN, weights_W = cut_windows(RAMP, HEARD, ROW)
    assert windows_WN.shape == (4, 96_000)
    starts = np.round(windows_WN[:, 0] * 320_000)
    np.testing.assert_allclose(starts, [0, 74_667, 149_333, 224_000], atol=1)
    assert windows_WN[-1, -1] == RAMP[-1]
    assert weights_W.tolist() == [1.0] * 4


def test_a_chunk_of_a_windows_length_is_one_window_and_a_shorter_one_is_repeated() -> None:
    row = replace(ROW, window_samples=320_000)
    np.testing.assert_array_equal(cut_windows(RAMP, HEARD, row)[0], RAMP[None])
    short = cut_windows(RAMP[:200_000], HEARD[:313], row)[0]
    np.testing.assert_array_equal(short[0], np.concatenate([RAMP[:200_000], RAMP[:120_000]]))


def test_windows_count_by_the_fraction_of_frames_with_sound() -> None:
    heard = np.arange(500) < 200
    _, weights_W = cut_windows(RAMP, heard, ROW)
    np.testing.assert_allclose(weights_W, [1, (200 - 117) / 150, 0, 0], atol=0.01)
    assert cut_windows(RAMP, np.zeros(500, bool), ROW)[1].tolist() == [1.0] * 4


@pytest.mark.parametrize("name", EMBEDDERS)
def test_a_chunk_is_resampled_to_each_embedders_rate(name: str) -> None:
    row = EMBEDDERS[name]
    seconds = np.arange(320_000) / 32_000
    windows_WN, _ = cut_windows(np.sin(2 * np.pi * 440 * seconds).astype(np.float32), HEARD, row)
    assert windows_WN.shape[1] == row.window_samples
    spectrum = np.abs(np.fft.rfft(windows_WN[0] * np.hanning(row.window_samples)))
    assert spectrum.argmax() * row.rate_hz / row.window_samples == pytest.approx(440, abs=0.5)


def test_weights_that_are_not_at_hand_are_asked_for_with_their_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with pytest.raises(ModelError, match=r"LUMINA_EMBEDDERS is not set.*mert/ holds config.json.*not for commercial"):
        open_embedder("mert", "cpu")  # type: ignore[arg-type]
    monkeypatch.setenv(FOLDER_VARIABLE, "nowhere")
    with pytest.raises(ModelError, match=r"nowhere/clap is no folder.*Nothing is downloaded"):
        open_embedder("clap", "cpu")  # type: ignore[arg-type]
