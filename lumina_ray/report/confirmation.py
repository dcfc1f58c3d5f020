"""A confirmation by forgetting in the terminal."""

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lumina_ray.attribution.confirmation import Confirmation
from lumina_ray.attribution.schema import RIGHTS
from lumina_ray.report.words import safe
from lumina_ray.vocabulary import CHANNELS

_SHOWN = 10
_TITLES = {channel: f"{channel} · {' ('.join(RIGHTS[channel])} right)" for channel in CHANNELS}


def print_confirmation(found: Confirmation, console: Console) -> None:
    """Print the listed songs of each channel with their ranks and effects by forgetting."""
    console.print(Text("Confirmation by forgetting", style="bold"))
    for channel, mean in found.random_mean_nats.items():
        table = Table(box=SIMPLE_HEAD, pad_edge=False, title=_TITLES[channel], title_justify="left")
        for heading in ("listed", "by forgetting", "effect, µnat", "noise, µnat", "p"):
            table.add_column(heading, justify="right")
        table.add_column("song", overflow="fold")
        of_channel = [song for song in found.songs if song.channel == channel]
        for song in of_channel[:_SHOWN]:
            table.add_row(
                str(song.listed_rank),
                f"{song.rank} of {len(of_channel) + found.n_random}",
                f"{1e6 * song.effect_nats:.1f}",
                "" if song.noise_nats is None else f"{1e6 * song.noise_nats:.1f}",
                f"{song.p_value:.3f}",
                Text(safe(song.song_id)),
            )
        console.print(table)
        console.print(
            Text(
                f"{found.n_random} random songs: {1e6 * mean:.1f} µnat in the mean, SD "
                f"{1e6 * found.random_sd_nats[channel]:.1f}",
                style="dim",
            )
        )
    console.print(
        Text(
            f"The model was made to forget the query until its own loss rose by {found.rise_nats:.4f} nats per code. "
            "An effect is how far a song's loss rose with it: an approximation of retraining, and no proof.",
            style="italic",
        )
    )
