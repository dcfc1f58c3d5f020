"""Positions in the pictures against the report's numbers."""

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.patches import Rectangle

from lumina_ray.attribution import ChannelReport, Report
from lumina_ray.report.figures import ACCENT, INK, SHOWN, draw_noise, draw_timeline

NAMES = ["calibrated", "v8", "v7", "noise"]


def channels(reports: dict[str, Report], name: str) -> list[ChannelReport]:
    return list(reports[name].near_copies.values())


@pytest.mark.parametrize("name", NAMES)
def test_a_dot_for_each_control_is_at_its_best_match(reports: dict[str, Report], name: str) -> None:
    for channel in channels(reports, name):
        above, _ = draw_noise(channel).axes
        (dots,) = above.collections
        positions = np.asarray(dots.get_offsets())
        maxima = np.sort(channel.noise.control_maxima_similarity)
        assert len(positions) == channel.noise.n_controls
        # In columns of an 89th of what the axis spans.
        assert np.abs(np.sort(positions[:, 0]) - maxima).max() < np.ptp(above.get_xlim()) / 89
        assert len(np.unique(positions.round(9), axis=0)) == len(positions)


@pytest.mark.parametrize("name", NAMES)
def test_the_noise_is_shaded_for_each_sigma(reports: dict[str, Report], name: str) -> None:
    for channel in channels(reports, name):
        mean, std = channel.noise.mean, channel.noise.std
        for axes in draw_noise(channel).axes:
            spans = [patch.get_extents().transformed(axes.transData.inverted()).intervalx for patch in axes.patches]
            assert np.array(spans) == pytest.approx(np.array([[mean - k * std, mean + k * std] for k in (3, 2, 1)]))
            assert axes.lines[0].get_xdata() == pytest.approx([mean, mean])


@pytest.mark.parametrize("name", NAMES)
def test_candidates_are_at_their_similarity_and_strokes_at_their_threshold(
    reports: dict[str, Report], name: str
) -> None:
    for channel in channels(reports, name):
        _, below = draw_noise(channel).axes
        shown = channel.candidates[:SHOWN]
        assert [tuple(dot.get_offsets()[0]) for dot in below.collections] == [
            (c.similarity, row) for row, c in enumerate(shown)
        ]
        links, strokes = below.lines[1::2], below.lines[2::2]
        assert [list(link.get_xdata()) for link in links] == [[c.threshold, c.similarity] for c in shown]
        assert [list(stroke.get_xdata()) for stroke in strokes] == [[c.threshold] * 2 for c in shown]
        assert [same_color(link.get_color(), ACCENT) for link in links] == [c.qualified for c in shown]


@pytest.mark.parametrize("name", NAMES)
def test_cells_lie_where_their_chunks_do(reports: dict[str, Report], name: str) -> None:
    query = reports[name].query
    for channel in channels(reports, name):
        (axes,) = draw_timeline(channel, query).axes
        shown = channel.candidates[:SHOWN]
        cells = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        named = [cell for cell in cells if cell.get_gid()]
        expected = [(c.start_s, c.start_s + c.duration_s, row) for row in range(len(shown)) for c in query.chunks]
        assert [_place(cell) for cell in named] == expected
        framed = [_place(cell) for cell in cells if same_color(cell.get_edgecolor(), INK) and cell.get_linewidth() > 0]
        assert framed == (
            [
                (query.chunks[i].start_s, query.chunks[i].start_s + query.chunks[i].duration_s, row)
                for row, c in enumerate(shown)
                if c.qualified
                for i in sorted(c.driving_chunks)
            ]
        )
        top = max(
            [
                min(c.threshold for c in shown),
                channel.noise.mean + 1e-9,
                *(s for c in shown for s in c.chunk_similarities),
            ]
        )
        span = top - channel.noise.mean
        strengths = [(s - channel.noise.mean) / span for c in shown for s in c.chunk_similarities]
        coloured = [cell.get_alpha() for cell in cells if same_color(cell.get_facecolor()[:3], ACCENT)]
        assert coloured == pytest.approx(np.clip(strengths, 0, 1), abs=6e-4)


def _place(cell: Rectangle) -> tuple[float, float, float]:
    """Where a cell begins and ends, and the row that is its middle."""
    return cell.get_x(), cell.get_x() + cell.get_width(), round(cell.get_y() + cell.get_height() / 2, 9)
