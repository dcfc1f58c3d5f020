"""A report in the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lumina_ray.attribution import Candidate, ChannelReport, Report
from lumina_ray.report import sentences
from lumina_ray.report.json import report_sha256
from lumina_ray.report.rows import shown
from lumina_ray.report.words import (
    EVIDENCE_NAMES,
    POLICY_TITLES,
    aspects,
    channel_title,
    clock,
    counted,
    driving_times,
    effect,
    effect_groups,
    effect_parts,
    equal_song,
    group,
    level,
    membership_p,
    noise_sentence,
    owner_facts,
    p_value,
    payable,
    percent,
    safe,
    share,
    shared,
    shared_rows,
    song_name,
)
from lumina_ray.vocabulary import Channel


def print_table(report: Report, console: Console, top: int = 10, wide: bool = False) -> None:
    """Print the channels, one below the other.

    Args:
        top: songs shown in each channel, by rank; all that qualified are shown, also beyond these.
        wide: show kernel score, z, level and driving chunks in columns of their own. Such a table needs 110 characters,
            the narrow one 80.
    """
    query = report.query
    console.print(Text.assemble(("Attribution", "bold"), f"  policy {POLICY_TITLES[report.policy.name]}"))
    console.print(
        Text(
            f"query {clock(query.duration_s)} in {counted(len(query.chunks), 'stretch', 'stretches')}, audio "
            f"{query.audio_sha256[:12]}; index {report.basis.index_version} "
            f"({report.basis.index_key[:12]})",
            style="dim",
        )
    )
    if stream := sentences.stream_taken(report):
        console.print(Text(stream))
    for finding, sentence in sentences.findings(report):
        console.print(Text.assemble((f"{finding}  ", "bold"), sentence))
    for name, channel in report.near_copies.items():
        _print_channel(report, name, channel, console, top, wide)
    console.print()
    console.print(Text(sentences.PROVENANCE, style="bold"))
    for sentence in sentences.provenance(report):
        console.print(Text(sentence))
    _print_influence(report, console)
    _print_shared(report, console)
    console.print()
    console.print(Text(sentences.evidence(report), style="italic"))
    console.print(Text(f"report sha256 {report_sha256(report)}", style="dim"))


def _print_influence(report: Report, console: Console) -> None:
    console.print()
    console.print(Text(sentences.INFLUENCE, style="bold"))
    for sentence in sentences.influence(report):
        console.print(Text(sentence))
    if report.influence is None:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("songs left out", overflow="fold", min_width=20)
    for title in (
        "n",
        "nats [95 %]",
        "of all",
        "payable",
        *(f"{name} part" for name in effect_parts(report.influence.catalog)),
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for label, of in effect_groups(report):
        table.add_row(label, str(of.n_songs), effect(of), f"{of.share:.0%}", payable(of), *effect_parts(of).values())
    console.print(table)


def _print_shared(report: Report, console: Console) -> None:
    console.print()
    console.print(Text(sentences.SHARED, style="bold"))
    for sentence in sentences.shared(report):
        console.print(Text(sentence))
    if not (rows := shared_rows(report)):
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("song", overflow="fold", min_width=20)
    for title in (*EVIDENCE_NAMES.values(), "bears on"):
        table.add_column(title, overflow="fold")
    for name, cells, right in rows:
        table.add_row(Text(name), *(Text(cell) for cell in cells.values()), right)
    console.print(table)


def _print_channel(
    report: Report, name: Channel, channel: ChannelReport, console: Console, top: int, wide: bool
) -> None:
    console.print()
    style = "bold cyan" if name == "P" else "bold green"
    console.print(Text(f"{sentences.NEAR_COPIES}: {channel_title(name, channel)}", style=style))
    console.print(Text(sentences.verdict(report, channel)))
    console.print(Text(sentences.basis(report, channel)))
    for warning in sentences.warnings(report, channel):
        console.print(Text(f"! {warning}", style="yellow"))
    console.print(_table(report, name, channel, top, wide))
    left_out = len(channel.candidates) - len(shown(channel, top))
    if left_out:
        console.print(Text(f"{counted(left_out, 'more candidate')} in the JSON.", style="dim"))
    console.print(Text(noise_sentence(channel), style="dim"))
    console.print(
        Text(
            f"p is family-wise: of the best of all songs searched; * the smallest that {channel.noise.n_controls} "
            "controls can show",
            style="dim",
        )
    )
    if source := report.basis.membership:
        console.print(
            Text(
                "mem. is of the song alone and says nothing of this query: small if the model was probably trained on "
                f"it, or on one nearly like it; * the smallest that {source.n_controls} controls can show",
                style="dim",
            )
        )


def _table(report: Report, name: Channel, channel: ChannelReport, top: int, wide: bool) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_footer=True)
    numbers = ["share", "similarity", "kernel", "z", "p (family)"] if wide else ["share", "sim.", "p"]
    table.add_column("#", justify="right", no_wrap=True)
    for title in (*numbers, *(("mem.",) if report.basis.membership else ())):
        footer = percent(channel.unattributed) if title == "share" else ""
        table.add_column(title, justify="right", no_wrap=True, footer=footer)
    table.add_column("song", footer="unattributed", overflow="fold", min_width=20)
    if wide:
        table.add_column("level", overflow="fold")
        table.add_column("driven by", overflow="fold", min_width=9)
    for candidate in shown(channel, top):
        times = driving_times(report.query.chunks, candidate)
        table.add_row(
            str(candidate.rank),
            share(candidate),
            f"{candidate.similarity:.3f}",
            *((f"{candidate.kernel_score:.3f}", f"{candidate.z:.1f}") if wide else ()),
            p_value(candidate.family_wise_p, channel.noise.resolution),
            *((membership_p(report, candidate),) if report.basis.membership else ()),
            _song(
                name,
                candidate,
                [shared(report, candidate.song.song_id), aspects(report, candidate.song.song_id)],
                None if wide or not candidate.qualified else f"{level(report, candidate)}, {times}",
            ),
            *((level(report, candidate), times) if wide else ()),
            style=None if candidate.qualified else "dim",
        )
    return table


def _song(name: Channel, candidate: Candidate, shares: list[str | None], found: str | None) -> Text:
    """The song and its creator; its id and the owners of the right; equal audio; what it shares; what was found."""
    song = candidate.song
    text = Text(song_name(song))
    if song.creator:
        text.append(f" · {safe(song.creator)}", "dim")
    # Without a title, the id is the song's name already.
    facts = ([safe(song.song_id)] if song.title else []) + [owner_facts(name, song)]
    if line := " · ".join(fact for fact in facts if fact):
        text.append(f"\n{line}", "dim")
    for equal in candidate.equal_songs:
        text.append(f"\n{equal_song(name, equal)}", "dim")
    if copies := group(candidate):
        text.append(f"\n{copies}", "italic")
    for line in filter(None, shares):
        text.append(f"\n{line}", "dim")
    if found:
        text.append(f"\n{found}", "italic")
    return text
