"""A report as one self-contained page: no scripts, no requests, light and dark, printable."""

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lumina_ray.attribution import ChannelReport, Report
from lumina_ray.report import words
from lumina_ray.report.figures import SHOWN, noise_figure, timeline_figure
from lumina_ray.report.json import report_sha256

_SEGMENTS = 6

_ENVIRONMENT = Environment(
    loader=PackageLoader("lumina_ray.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {
    "safe_text": words.safe,
    "percent": words.percent,
    "clock": words.clock,
    "song_name": words.song_name,
}


def render_html(report: Report, top: int = 10) -> str:
    """The whole page as a string. Everything that came from outside (titles, names) is escaped."""
    # Of songs that are all withdrawn, or did not answer, there are none to draw.
    drawn = {name: channel for name, channel in report.channels.items() if channel.candidates}
    return _ENVIRONMENT.get_template("report.html.j2").render(
        report=report,
        report_sha256=report_sha256(report),
        top=top,
        shown=SHOWN,
        words=words,
        policy_title=words.POLICY_TITLES[report.policy.name],
        segments={name: _segments(channel) for name, channel in report.channels.items()},
        noise={name: Markup(noise_figure(name, channel)) for name, channel in drawn.items()},
        timeline={name: Markup(timeline_figure(name, channel, report.query)) for name, channel in drawn.items()},
    )


def _segments(channel: ChannelReport) -> list[dict]:
    """The parts of the shares bar: the largest shares, all others together, the unattributed rest."""
    shared = [c for c in channel.candidates if c.share > 0]
    parts = [
        {"name": words.song_name(c.song), "share": c.share, "kind": "song", "opacity": round(1 - 0.14 * i, 2)}
        for i, c in enumerate(shared[:_SEGMENTS])
    ]
    others = shared[_SEGMENTS:]
    if others:
        name = f"{len(others)} more songs"
        parts.append({"name": name, "share": sum(c.share for c in others), "kind": "song", "opacity": 0.15})
    if channel.unattributed > 0:
        parts.append({"name": "Unattributed", "share": channel.unattributed, "kind": "rest", "opacity": 1})
    return parts
