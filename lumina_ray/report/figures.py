"""The page's pictures: vector graphics drawn by matplotlib that take their colours from the page.

Colours here are stand-ins that become CSS variables, so one picture serves light and dark. Text stays text. The same
report gives the same bytes.
"""

import re
from io import BytesIO
from xml.etree import ElementTree as ET

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lumina_ray.attribution import Candidate, ChannelReport, QueryFacts
from lumina_ray.report.words import clock, shorten, song_name

INK, MUTED, LINE, ACCENT, NOISE = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", ACCENT: "--accent", NOISE: "--noise"}
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
}
_WIDTH_IN, _LEFT_IN, _RIGHT_IN, _ROW_IN = 9.0, 2.25, 0.45, 0.3
SHOWN = 8


def noise_figure(name: str, channel: ChannelReport) -> str:
    """Each control's best match above, the candidates below, at least one, on one axis of similarity."""
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": f"noise-{name}"}):
        return _svg(draw_noise(channel), f"noise-{name}", _noise_words(channel, channel.candidates[:SHOWN]))


def draw_noise(channel: ChannelReport) -> Figure:
    """The figure of `noise_figure`; its axes are the controls' and the candidates'."""
    candidates = channel.candidates[:SHOWN]
    noise = channel.noise
    maxima = np.array(noise.control_maxima_similarity)
    points = np.array([c.similarity for c in candidates])
    thresholds = np.array([c.threshold for c in candidates])
    low = min(noise.mean - 3 * noise.std, points.min(), thresholds.min())
    high = max(noise.mean + 3 * noise.std, maxima.max(), points.max(), thresholds.max())
    margin = 0.04 * (high - low)
    low, high = low - margin, high + margin

    dots_in, gap_in, bottom_in, top_in = 0.95, 0.12, 0.5, 0.28
    height_in = bottom_in + len(candidates) * _ROW_IN + gap_in + dots_in + top_in
    with matplotlib.rc_context(_STYLE):
        figure = Figure((_WIDTH_IN, height_in))
        above = _axes(figure, bottom_in + len(candidates) * _ROW_IN + gap_in, dots_in)
        below = _axes(figure, bottom_in, len(candidates) * _ROW_IN)
        for axes in (above, below):
            axes.set_xlim(low, high)
            for sigmas, alpha in ((3, 0.10), (2, 0.14), (1, 0.20)):
                span = noise.mean - sigmas * noise.std, noise.mean + sigmas * noise.std
                axes.axvspan(*span, color=NOISE, alpha=alpha, linewidth=0)
            axes.axvline(noise.mean, color=NOISE, linewidth=1)

        for sigmas in (-2, -1, 0, 1, 2, 3):
            label = "μ" if sigmas == 0 else f"{sigmas:+d}σ".replace("-", "−")
            x = noise.mean + sigmas * noise.std
            if low <= x <= high:
                above.annotate(label, (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3), color=MUTED,
                               textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
        bins = np.linspace(low, high, 90)
        where = np.digitize(maxima, bins)
        stack = np.array([(where[:i] == where[i]).sum() for i in range(len(maxima))])
        above.scatter(bins[where - 1] + (bins[1] - bins[0]) / 2, stack, s=15, color=MUTED, linewidth=0)
        above.set_ylim(-0.8, max(6.0, stack.max() + 0.8))
        above.set_xticks([])
        above.spines["bottom"].set_visible(False)
        above.text(
            -0.012, 0.5, "controls’ best matches", transform=above.transAxes, ha="right", va="center", color=MUTED
        )

        below.set_ylim(len(candidates) - 0.5, -0.5)
        for row, candidate in enumerate(candidates):
            colour = ACCENT if candidate.qualified else MUTED
            below.plot([candidate.threshold, candidate.similarity], [row, row], color=colour, linewidth=1.4,
                       alpha=0.9 if candidate.qualified else 0.45)  # fmt: skip
            below.plot([candidate.threshold] * 2, [row - 0.26, row + 0.26], color=INK, linewidth=1.4)
            below.scatter([candidate.similarity], [row], s=46, color=colour, linewidth=0, zorder=3,
                          alpha=1 if candidate.qualified else 0.6)  # fmt: skip
        _row_labels(below, candidates)
        below.set_xlabel("similarity")
        return figure


def timeline_figure(name: str, channel: ChannelReport, query: QueryFacts) -> str:
    """Chunks of the query against candidates; the darker, the more alike; frames mark the chunks that drive a match."""
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": f"timeline-{name}"}):
        words = _timeline_words(channel.candidates[:SHOWN], query)
        return _svg(draw_timeline(channel, query), f"timeline-{name}", words)


def draw_timeline(channel: ChannelReport, query: QueryFacts) -> Figure:
    """The figure of `timeline_figure`; a cell has the id `cell-ROW-CHUNK-START_S`."""
    candidates = channel.candidates[:SHOWN]
    floor = channel.noise.mean
    # Full colour is for what could qualify: the strongest of mere noise stays pale.
    least = min(c.threshold for c in candidates)
    top = max([floor + 1e-9, least, *(s for c in candidates for s in c.chunk_similarities)])
    bottom_in, top_in = 0.5, 0.1
    with matplotlib.rc_context(_STYLE):
        figure = Figure((_WIDTH_IN, bottom_in + len(candidates) * _ROW_IN + top_in))
        axes = _axes(figure, bottom_in, len(candidates) * _ROW_IN)
        axes.set_xlim(0, query.duration_s)
        axes.set_ylim(len(candidates) - 0.5, -0.5)
        for row, candidate in enumerate(candidates):
            for i, (chunk, similarity) in enumerate(zip(query.chunks, candidate.chunk_similarities, strict=True)):
                strength = min(1.0, max(0.0, (similarity - floor) / (top - floor)))
                drives = candidate.qualified and i in candidate.driving_chunks
                cell = (chunk.start_s, row - 0.42), chunk.duration_s, 0.84
                # The id tells whoever shows the picture which stretch a cell is, and where it starts.
                gid = f"cell-{row}-{i}-{chunk.start_s:g}"
                axes.add_patch(Rectangle(*cell, facecolor=NOISE, alpha=0.10, linewidth=0, gid=gid))
                axes.add_patch(Rectangle(*cell, facecolor=ACCENT, alpha=round(strength, 3), linewidth=0))
                if drives:
                    axes.add_patch(Rectangle(*cell, facecolor="none", edgecolor=INK, linewidth=1.3, zorder=3))
        _row_labels(axes, candidates)
        axes.xaxis.set_major_formatter(lambda value, _: clock(value))
        step = next((s for s in (5, 10, 20, 30, 60, 120, 300) if query.duration_s / s <= 12), 600)
        axes.set_xticks(np.arange(0, query.duration_s + 1e-6, step))
        axes.set_xlabel("time in the query (min:s)")
        return figure


def _axes(figure: Figure, bottom_in: float, height_in: float) -> Axes:
    total_in = figure.get_figheight()
    axes = figure.add_axes(
        (_LEFT_IN / _WIDTH_IN, bottom_in / total_in, 1 - (_LEFT_IN + _RIGHT_IN) / _WIDTH_IN, height_in / total_in)
    )
    axes.set_facecolor("none")
    axes.set_yticks([])
    figure.patch.set_alpha(0)
    return axes


def _row_labels(axes: Axes, candidates: tuple[Candidate, ...]) -> None:
    for row, candidate in enumerate(candidates):
        # Titles come from outside: never parsed as formulas.
        axes.annotate(shorten(song_name(candidate.song), 32), (0, row), xycoords=("axes fraction", "data"),
                      xytext=(-7, 0), textcoords="offset points", ha="right", va="center", parse_math=False,
                      color=INK if candidate.qualified else MUTED)  # fmt: skip


def _noise_words(channel: ChannelReport, candidates: tuple[Candidate, ...]) -> str:
    noise = channel.noise
    best = candidates[0]
    return (
        f"Similarity to catalog songs. Noise of {noise.n_controls} controls: mean {noise.mean:.3f}, standard deviation "
        f"{noise.std:.3f}; their best matches lie between {noise.control_maxima_similarity[-1]:.3f} and "
        f"{noise.control_maxima_similarity[0]:.3f}. First candidate: {song_name(best.song)} at {best.similarity:.3f}, "
        f"its threshold {best.threshold:.3f}."
    )


def _timeline_words(candidates: tuple[Candidate, ...], query: QueryFacts) -> str:
    best = candidates[0]
    strongest = int(np.argmax(best.chunk_similarities))
    return (
        f"Similarity of {len(query.chunks)} chunks of the query to {len(candidates)} candidates. The first, "
        f"{song_name(best.song)}, is closest at {clock(query.chunks[strongest].start_s)} "
        f"({best.chunk_similarities[strongest]:.3f})."
    )


def _svg(figure: Figure, prefix: str, words: str) -> str:
    """The figure as an inline `<svg>`: colours as variables, ids unique on the page, words for who cannot see it."""
    buffer = BytesIO()
    FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ET.fromstring(buffer.getvalue())
    for element in root.iter():
        for key, value in element.attrib.items():
            if key == "id":
                value = f"{prefix}-{value}"
            value = re.sub(r"url\(#", f"url(#{prefix}-", value)
            if key == f"{{{_XLINK}}}href":
                value = re.sub("^#", f"#{prefix}-", value)
            for colour, variable in _VARIABLES.items():
                value = value.replace(colour, f"var({variable})")
            element.attrib[key] = value
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag == f"{{{_SVG}}}metadata":
                parent.remove(child)
    for key in ("width", "height"):
        del root.attrib[key]
    root.set("role", "img")
    root.set("aria-label", words)
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", _XLINK)
    return ET.tostring(root, encoding="unicode")
