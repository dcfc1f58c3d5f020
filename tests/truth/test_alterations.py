"""Altered copies, measured."""

import numpy as np
import pytest

from lumina_ray.truth.alterations import ALTERATIONS, altered_copies
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

TONES_HZ = (440.0, 6000.0)


@pytest.fixture(scope="module")
def copies() -> dict[str, np.ndarray]:
    t = np.arange(15 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    return altered_copies(sum(0.2 * np.sin(2 * np.pi * f * t) for f in TONES_HZ).astype(np.float32))


def loudest_hz(samples: np.ndarray, low_hz: float, high_hz: float) -> tuple[float, float]:
    """Frequency and amplitude of the strongest tone between two frequencies, of the middle of a copy."""
    middle = samples[len(samples) // 4 : len(samples) * 3 // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)))) * 4 / len(middle)
    frequencies = np.fft.rfftfreq(len(middle), 1 / SAMPLE_RATE_HZ)
    inside = (frequencies >= low_hz) & (frequencies < high_hz)
    best = np.flatnonzero(inside)[spectrum[inside].argmax()]
    return float(frequencies[best]), float(spectrum[best])


def test_every_alteration_has_a_name_and_its_length(copies: dict[str, np.ndarray]) -> None:
    assert list(copies) == list(ALTERATIONS)
    for name, samples in copies.items():
        assert samples.dtype == np.float32
        assert len(samples) == (5 if name in ("excerpt", "end") else 10) * SAMPLE_RATE_HZ


def test_they_do_what_they_say(copies: dict[str, np.ndarray]) -> None:
    low, high = ({name: loudest_hz(copy, *band) for name, copy in copies.items()} for band in ((0, 2000), (4500, 9000)))
    for name in ("noise", "low_pass", "excerpt"):
        assert low[name] == pytest.approx((440, 0.2), rel=0.01)
    assert low["mp3"] == pytest.approx((440, 0.2), rel=0.1)
    assert not np.array_equal(copies["mp3"][80_000:240_000], copies["excerpt"])
    assert low["much_quieter"] == pytest.approx((440, 0.02), rel=0.01)
    assert low["louder"] == pytest.approx((440, 0.4), rel=0.01)
    assert low["end"] == pytest.approx((440, 0.2), rel=0.01)
    silence = copies["silence"][4 * SAMPLE_RATE_HZ : 6 * SAMPLE_RATE_HZ]
    assert not silence.any()
    assert np.count_nonzero(copies["silence"] == 0) < len(silence) + 100
    assert low["quieter"] == pytest.approx((440, 0.2 * 10 ** (-6 / 20)), rel=0.01)
    assert low["slower"][0] == pytest.approx(440 * 0.98, abs=0.3)
    assert low["faster"][0] == pytest.approx(440 * 1.02, abs=0.3)
    # Four poles: |H|² = 1 / (1 + r⁸), r the ratio of the frequencies as the bilinear transform warps them.
    r = np.tan(np.pi * 6000 / SAMPLE_RATE_HZ) / np.tan(np.pi * 4000 / SAMPLE_RATE_HZ)
    assert high["low_pass"][1] == pytest.approx(0.2 / np.sqrt(1 + r**8), rel=0.01)
    clean, noisy = copies["excerpt"], copies["noise"][80_000:240_000]
    assert 10 * np.log10(np.mean(clean**2) / np.mean((noisy - clean) ** 2)) == pytest.approx(20, abs=0.1)
