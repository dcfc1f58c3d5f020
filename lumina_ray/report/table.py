"""A report in the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lumina_ray.attribution import ChannelReport, Report
from lumina_ray.report.json import report_sha256
from lumina_ray.report.words import (
    POLICY_TITLES,
    channel_title,
    clock,
    driving_times,
    level,
    noise_sentence,
    p_value,
    percent,
    safe,
    share,
    song_name,
    use_p,
)

# Narrower terminals leave out kernel score and z.
_WIDE = 110


def print_table(report: Report, console: Console, top: int = 10) -> None:
    """Print both channels, one below the other, with the first `top` candidates of each."""
    query = report.query
    console.print(Text.assemble(("Attribution", "bold"), f"  policy {POLICY_TITLES[report.policy.name]}"))
    console.print(
        Text(
            f"query {clock(query.duration_s)} in {len(query.chunks)} chunk(s), audio {query.audio_sha256[:12]}; "
            f"index {report.provenance.index_version} ({report.provenance.index_key[:12]})",
            style="dim",
        )
    )
    for name, channel in report.channels.items():
        _print_channel(report, name, channel, console, top)
    console.print(Text(report.evidence, style="italic"))
    console.print(Text(f"report sha256 {report_sha256(report)}", style="dim"))


def _print_channel(report: Report, name: str, channel: ChannelReport, console: Console, top: int) -> None:
    console.print()
    console.print(Text(channel_title(name, channel), style="bold cyan" if name == "P" else "bold green"))
    console.print(Text(channel.verdict))
    console.print(Text(channel.basis))
    for warning in channel.warnings:
        console.print(Text(f"! {warning}", style="yellow"))
    wide = console.width >= _WIDE
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("#", justify="right")
    table.add_column("song", footer="unattributed", ratio=1, overflow="fold", min_width=16)
    table.add_column("share", justify="right", footer=percent(channel.unattributed), no_wrap=True)
    table.add_column("similarity" if wide else "sim.", justify="right", no_wrap=True)
    if wide:
        table.add_column("kernel", justify="right", no_wrap=True)
        table.add_column("z", justify="right", no_wrap=True)
    table.add_column("p (family)" if wide else "p", justify="right", no_wrap=True)
    if report.provenance.use:
        table.add_column("p (use)" if wide else "use", justify="right", no_wrap=True)
    table.add_column("level", overflow="fold")
    table.add_column("driven by", overflow="fold", min_width=9)
    for candidate in channel.candidates[:top]:
        song = candidate.song
        creator = f" · {safe(song.creator)}" if song.creator else ""
        table.add_row(
            str(candidate.rank),
            Text.assemble(song_name(song), (creator, "dim")),
            share(candidate),
            f"{candidate.similarity:.3f}",
            *((f"{candidate.kernel_score:.3f}", f"{candidate.z:.1f}") if wide else ()),
            p_value(candidate.family_wise_p, channel.noise.resolution),
            *((use_p(report, candidate),) if report.provenance.use else ()),
            level(report, candidate),
            driving_times(report.query.chunks, candidate),
            style=None if candidate.qualified else "dim",
        )
    console.print(table)
    left_out = channel.retrieved - min(top, channel.retrieved)
    if left_out:
        console.print(Text(f"{left_out} more candidates in the JSON.", style="dim"))
    console.print(Text(noise_sentence(channel), style="dim"))
    console.print(
        Text(
            f"p is family-wise: of the best of all songs searched; * the smallest that {channel.noise.n_controls} "
            "controls can show",
            style="dim",
        )
    )
    if report.provenance.use:
        console.print(
            Text(
                "use is the p-value of the song alone, whatever the query: could the model never have seen it? "
                f"* the smallest that {report.provenance.use.n_controls} controls can show",
                style="dim",
            )
        )
