"""A report as one self-contained page: no scripts, no requests, light and dark, printable."""

from collections.abc import Sequence

from markupsafe import Markup

from lumina_ray.attribution import ChannelReport, Report
from lumina_ray.attribution.replay import Replay
from lumina_ray.report import certainty, sentences, words
from lumina_ray.report import replay as replays
from lumina_ray.report.json import report_sha256
from lumina_ray.report.page import templates
from lumina_ray.report.rows import shown

_SEGMENTS = 6

_ENVIRONMENT = templates("lumina_ray.report")
_ENVIRONMENT.filters |= {
    "percent": words.percent,
    "clock": words.clock,
    "song_name": words.song_name,
}


def render_html(report: Report, top: int = 10, unverified: Sequence[str] = (), replay: Replay | None = None) -> str:
    """The whole page as a string. Everything that came from outside (titles, names) is escaped.

    Args:
        top: songs in the table of each channel, by rank; all that qualified are there, also beyond these.
        unverified: sentences about what nobody verified, of a report that was handed in; the page begins with them.
        replay: a finding beside the report, which gets a section.
    """
    # Pictures take matplotlib, which whoever imports this module for another format need not wait for.
    from lumina_ray.report.figures import SHOWN, noise_figure, timeline_figure

    # A channel has no candidates to draw if all songs are withdrawn or did not answer.
    drawn = {name: channel for name, channel in report.near_copies.items() if channel.candidates}
    return _ENVIRONMENT.get_template("report.html.j2").render(
        report=report,
        report_sha256=report_sha256(report),
        unverified=unverified,
        replay=replay,
        replays=replays,
        listed={name: shown(channel, top) for name, channel in report.near_copies.items()},
        drawn=SHOWN,
        words=words,
        sentences=sentences,
        certainty=certainty,
        share_meaning=sentences.share_meaning(report),
        policy_title=words.POLICY_TITLES[report.policy.name],
        segments={name: _segments(channel) for name, channel in report.near_copies.items()},
        noise={name: Markup(noise_figure(name, channel)) for name, channel in drawn.items()},
        timeline={name: Markup(timeline_figure(name, channel, report.query)) for name, channel in drawn.items()},
    )


def _segments(channel: ChannelReport) -> list[dict]:
    """The parts of the shares bar: the largest shares, all others together, the unattributed rest."""
    shared = [c for c in channel.candidates if c.share > 0]
    parts = [
        {
            "name": words.song_name(c.song),
            "share": c.share,
            "text": words.share(c),
            "kind": "song",
            "opacity": round(1 - 0.14 * i, 2),
        }
        for i, c in enumerate(shared[:_SEGMENTS])
    ]
    others = shared[_SEGMENTS:]
    if others:
        name, share = words.counted(len(others), "more song"), sum(c.share for c in others)
        parts.append({"name": name, "share": share, "text": words.percent(share), "kind": "song", "opacity": 0.15})
    if channel.unattributed > 0:
        share = channel.unattributed
        parts.append(
            {"name": "Unattributed", "share": share, "text": words.percent(share), "kind": "rest", "opacity": 1}
        )
    return parts
