"""A diagnosis as tables for a terminal of 80 columns."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumina_ray.diagnostics.alignment import SONGS_PER_DIMENSION
from lumina_ray.diagnostics.diagnosis import Diagnosis
from lumina_ray.diagnostics.reliability import COLLAPSED, Diagnostics, Reliability

HEADINGS = {
    "kappa": "κ̄",
    "r1": "R1",
    "r2_5": "R2:5",
    "c": "c",
    "r1_centred": "R1\nless means",
    "r2_5_centred": "R2:5\nless means",
}


def print_diagnoses(found: Sequence[Diagnosis], console: Console) -> None:
    """Print reliability, groups, homogeneity, genres and alignment of every channel, then a verdict of each."""
    console.print(_reliability(found), _groups(found))
    if any(one.homogeneity for one in found):
        console.print(_homogeneity(found))
    if any(one.genres for one in found):
        console.print(_genres(found))
    if any(one.alignments for one in found):
        console.print(_alignments(found))
    if any(one.residual for one in found):
        console.print("rest: the scores less their first axis, the rank-one component.")
    notes = list(dict.fromkeys(note for one in found for note in one.notes))
    console.print(*(sentence(one.channel, one.reliability) for one in found), *notes, sep="\n", highlight=False)


def sentence(channel: str, of: Reliability) -> str:
    """Say whether a matrix has collapsed."""
    name = f"{channel}: " if channel else ""
    values = f"collapse {of.collapse:.2f}; κ̄ {of.found.kappa:.3f}, chance {of.chance.kappa:.3f}"
    constant = f" {of.constant} of {of.queries} queries give every song the same score." * bool(of.constant)
    if of.collapsed:
        return (
            f"{name}COLLAPSED ({values}): rankings of different queries have as much in common as of their own, or "
            f"more. What is found of groups is that of a fixed group, and no query's.{constant}"
        )
    return f"{name}each query has a ranking mostly of its own ({values}; {COLLAPSED:g} is the limit).{constant}"


def _reliability(found: Sequence[Diagnosis]) -> Table:
    out = _table("Reliability: 0 is good, 1 is one ranking for all queries", "", "")
    for heading in (*HEADINGS.values(), "collapse"):
        out.add_column(heading, justify="right")
    for one in found:
        of = one.reliability
        out.add_row(one.channel, f"{of.queries} queries", *_values(of.found), f"{of.collapse:.2f}")
        out.add_row("", "by chance", *_values(of.chance), "0.00")
        if one.residual is not None:
            out.add_row("", "rest", *_values(one.residual.found), f"{one.residual.collapse:.2f}")
    return out


def _groups(found: Sequence[Diagnosis]) -> Table:
    out = _table("Groups: songs with the highest scores", "", "")
    for heading in ("songs", "distinct", "of queries", "songs in any", "by chance"):
        out.add_column(heading, justify="right")
    for one in found:
        for groups in one.groups:
            values = (
                groups.size,
                groups.distinct,
                one.reliability.queries,
                groups.songs,
                f"{groups.songs_by_chance:.0f}",
            )
            out.add_row(one.channel, _scores(groups.residual), *map(str, values))
    return out


def _homogeneity(found: Sequence[Diagnosis]) -> Table:
    out = _table("Are the songs of a group alike? z against random groups", "", "", "aspect")
    for heading in ("songs", "mean z", "95 %", "Pos", "Sig", "Sig of\nrandom", "skew"):
        out.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        for row in one.homogeneity:
            of = row.found
            shares = (f"{100 * share:.0f} %" for share in (of.positive, of.significant, row.null_significant))
            values = (f"{of.mean:+.2f}", f"{of.low:+.2f}, {of.high:+.2f}", *shares, f"{row.null_skew:.2f}")
            out.add_row(one.channel, _scores(row.residual), row.aspect, str(row.size), *values)
    return out


def _genres(found: Sequence[Diagnosis]) -> Table:
    sizes = sorted({table.size for one in found for table in one.genres})
    size = sizes[len(sizes) // 2]
    out = _table(f"By genre of the query, groups of {size} songs", "", "aspect", "genre")
    for heading in ("n", "mean z", "Pos", "Sig"):
        out.add_column(heading, justify="right")
    for one in found:
        for table in (table for table in one.genres if table.size == size):
            for row in table.rows:
                shares = (f"{100 * share:.0f} %" for share in (row.positive, row.significant))
                out.add_row(one.channel, table.aspect, row.genre, str(row.n), f"{row.mean:+.2f}", *shares)
            of = table.together
            spread = "" if of.spread is None else f", SD of genres {of.spread:.2f}"
            shares = (f"{100 * share:.0f} %" for share in (of.positive, of.significant))
            out.add_row(one.channel, table.aspect, f"all{spread}", str(of.n), f"{of.mean:+.2f}", *shares)
    return out


def _alignments(found: Sequence[Diagnosis]) -> Table:
    out = _table("What the first axis of the scores follows", "", "aspect")
    for heading in ("dimensions", "largest\n|corr|", "by chance", "held-out\nR²", "by chance", "adjusted R²"):
        out.add_column(heading, justify="right")
    for one in found:
        for aspect, of in one.alignments.items():
            adjusted = f"N ≥ {SONGS_PER_DIMENSION * of.dimensions}" if of.adjusted is None else f"{of.adjusted:.2f}"
            values = (of.correlation, of.correlation_chance, of.held_out, of.held_out_chance)
            out.add_row(one.channel, aspect, str(of.dimensions), *(f"{value:.2f}" for value in values), adjusted)
    return out


def _values(of: Diagnostics) -> list[str]:
    return [f"{getattr(of, name):.3f}" for name in HEADINGS]


def _scores(residual: bool) -> str:
    return "rest" if residual else "scores"


def _table(title: str, *headings: str) -> Table:
    out = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), title=title)
    for heading in headings:
        out.add_column(heading, no_wrap=heading == "")
    return out
