"""A finding by replay, in the terminal and in sentences that the page has too."""

from statistics import fmean

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lumina_ray.attribution.replay import Replay, ReplayedSong
from lumina_ray.attribution.schema import RIGHTS
from lumina_ray.report.words import counted, safe
from lumina_ray.vocabulary import CHANNELS, Channel

TITLE = "Influence by replay"
_SHOWN = 10


def channel_heading(channel: Channel) -> str:
    """Name a channel with its right."""
    return f"{channel} · {' ('.join(RIGHTS[channel])} right)"


def shown_songs(found: Replay) -> dict[Channel, list[ReplayedSong]]:
    """The songs that tables show, by channel; the JSON has all."""
    of = {channel: [song for song in found.songs if song.channel == channel][:_SHOWN] for channel in CHANNELS}
    return {channel: songs for channel, songs in of.items() if songs}


def effect(nats: float) -> str:
    """An effect in millionths of a nat."""
    return f"{1e6 * nats:.1f}"


def sentences(found: Replay) -> list[str]:
    """Say what the numbers are, what they rest on, and what they do not tell."""
    gate = found.gate
    lines = [
        f"The training of this very model (run {found.run_sha256[:12]}, {counted(found.steps, 'step')}, "
        f"{counted(found.n_songs, 'song')}) was replayed to the bit and differentiated: an effect is by how much the "
        "clip’s loss rises when the song is left out, to first order.",
        f"Evidence: over {counted(gate.removals, 'removal')} of a tenth of the songs, predicted and actual effects "
        f"agree, each about their mean, with r {gate.r:.3f} and slope {gate.slope:.2f}; predicted "
        f"{', '.join(map(effect, gate.predicted_nats))} µnat, actual {', '.join(map(effect, gate.actual_nats))} µnat. "
        f"What all removals have in common is in neither number: on average {effect(fmean(gate.predicted_nats))} µnat "
        f"are predicted, and {effect(fmean(gate.actual_nats))} are actual.",
        "It holds for this run: another seed has other effects. Effects of several songs add up only while they are "
        "few.",
    ]
    if found.not_learned:
        names = ", ".join(map(safe, found.not_learned[:3]))
        more = f" and {len(found.not_learned) - 3} more" if len(found.not_learned) > 3 else ""
        lines.append(f"Not in the training, so that leaving them out changes nothing: {names}{more}.")
    return lines


def print_replay(found: Replay, console: Console) -> None:
    """Print the listed songs of each channel with their effects and ranks."""
    console.print(Text(TITLE, style="bold"))
    for channel, songs in shown_songs(found).items():
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=channel_heading(channel), title_justify="left")
        for heading in ("listed", "by replay", "effect, µnat"):
            table.add_column(heading, justify="right")
        table.add_column("song", overflow="fold")
        for song in songs:
            table.add_row(
                str(song.listed_rank),
                f"{song.rank} of {found.n_songs}",
                effect(song.effect_nats),
                Text(safe(song.song_id)),
            )
        console.print(table)
        console.print(Text(f"all songs: {effect(found.all_songs_nats[channel])} µnat", style="dim"))
    for sentence in sentences(found):
        console.print(Text(sentence, style="italic"))
