"""The arithmetic of scaling, by numbers worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.throughput import Measured, plot, scaling

ONE = Measured(1, 100, 1000.0, 50.0, 2.5, 0.0, 1.0, 2.0, 0.0, 0, 0)


def test_strong_scaling_is_of_rates() -> None:
    """100 songs take 50 s on one GPU and 20 s on four: 2.5 times as fast, of 4."""
    runs = [ONE, replace(ONE, elapsed_s=55.0), replace(ONE, elapsed_s=41.0)]
    runs += [replace(ONE, gpus=4, elapsed_s=20.0, steady_songs_per_s=9.0)]
    one, four = scaling("strong", runs)
    assert (one.gpus, one.songs_per_s, one.speed_up, one.efficiency) == (1, 2.0, 1.0, 1.0)
    assert (four.gpus, four.songs_per_s, four.audio_s_per_s) == (4, 5.0, 50.0)
    assert four.speed_up == pytest.approx(2.5)
    assert four.efficiency == pytest.approx(2.5 / 4)
    assert four.steady_efficiency == pytest.approx(9.0 / (4 * 2.5))


def test_weak_scaling_is_of_times() -> None:
    """400 songs on four GPUs take 62.5 s, where 100 on one take 50 s."""
    _, four = scaling("weak", [ONE, replace(ONE, gpus=4, songs=400, audio_s=4000.0, elapsed_s=62.5)])
    assert four.efficiency == pytest.approx(50 / 62.5)
    assert four.speed_up == pytest.approx(4 * 50 / 62.5)


def test_a_plot_is_drawn(tmp_path: Path) -> None:
    plot(scaling("strong", [ONE, replace(ONE, gpus=2, elapsed_s=30.0)]), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
