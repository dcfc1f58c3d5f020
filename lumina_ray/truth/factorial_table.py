"""The table of the factorial set for a terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumina_ray.truth.factorial_music import VARIANTS
from lumina_ray.truth.factorial_rows import FactorialRow
from lumina_ray.truth.measures import Estimate

_HEADINGS = {
    "score_over_sound": "score >\nsound",
    "sound_over_score": "sound >\nscore",
    "score_over_neither": "score >\nneither",
    "sound_over_neither": "sound >\nneither",
    "first_is_score": "first:\nscore",
    "first_is_sound": "first:\nsound",
}
_HARDER = [name for name in VARIANTS if name != "grid"]
_WIDE_COLUMNS = 180


def print_factorial(rows: Sequence[FactorialRow], console: Console, *, wide: bool) -> None:
    """Print what scores follow, by the clips of the grid and by harder queries.

    Args:
        wide: also show the 95 % intervals, however wide the terminal is.
    """
    if wide:
        console.width = max(console.width, _WIDE_COLUMNS)
    grid = _table("What each follows: clips of the grid")
    harder = _table("Score > sound, by harder queries (1 − it is sound > score)")
    for table, headings in ((grid, _HEADINGS.values()), (harder, _HARDER)):
        table.add_column("", no_wrap=True)
        table.add_column("")
        for heading in headings:
            table.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(row.name, row.channel, *(_text(row.measures["grid"][name], wide) for name in _HEADINGS))
        of_harder = (row.measures[variant]["score_over_sound"] for variant in _HARDER)
        harder.add_row(row.name, row.channel, *(_text(one, wide) for one in of_harder))
    console.print(grid, harder)
    if not wide:
        console.print("95 % intervals: --wide, or factorial-SPLIT.json.")


def _table(title: str) -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), title=title)


def _text(estimate: Estimate, wide: bool) -> str:
    return str(estimate) if wide else f"{estimate.value:.2f}"
