"""A report card as tables for a terminal: values in 80 columns, or all 95 % intervals in as many as they take."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumina_ray.truth.agreement import AGREED
from lumina_ray.truth.alterations import ALTERATIONS
from lumina_ray.truth.card import Card, shown_measures, verdict
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.method_rows import MethodRow

HEADINGS = {name: f"LDS {of}" for name, of in AGREED.items()} | {
    "creators": "LDS creators",
    "twins_prompted": "twins, continued",
    "twins_generated": "twins, free",
    "same_score": "same score",
    "same_instruments": "same instruments",
}
_NARROW_HEADINGS = {
    "creators": "LDS\ncreator",
    "twins_prompted": "twins\ncont.",
    "twins_generated": "twins\nfree",
    "same_score": "same\nscore",
    "same_instruments": "same\ninstr.",
}
# With the longest method's name, they just go into 80 columns.
_NARROW_ALTERATIONS = {
    "mp3": "MP3",
    "quieter": "−6\ndB",
    "much_quieter": "−20\ndB",
    "louder": "+6\ndB",
    "noise": "hiss",
    "low_pass": "low\npass",
    "silence": "with\ngap",
    "excerpt": "5 s\nof it",
    "end": "its\nend",
    "slower": "2 %\nslow",
    "faster": "2 %\nfast",
}
_VARIANTS = {"": "LDS", "_own": "own codebooks", "_specific": "what is its own", "_other": "another query's"}
_NARROW_VARIANTS = {"": "LDS", "_specific": "its\nown", "_other": "other\nquery"}
_WIDE_COLUMNS = 260


def print_card(card: Card, console: Console, *, wide: bool) -> None:
    """Print all tables of a card.

    Args:
        wide: also show the intervals, however wide the terminal is.
    """
    if wide:
        console.width = max(console.width, _WIDE_COLUMNS)
    console.print(*tables(card, wide=wide))
    sentences = [verdict(card.rows), *card.left_out, "" if wide else "95 % intervals: --wide, or card.json (--out)."]
    console.print(*filter(None, sentences), sep="\n")


def tables(card: Card, *, wide: bool) -> tuple[Table, ...]:
    """Lay out agreement, floors, other measures, what is recognised, false positives, power, stability, membership."""
    return (
        _queries(card, wide),
        _agreement(card.rows, wide),
        *([_floors(card.rows)] if wide else []),
        _methods(card.rows, wide),
        _found(card.rows, wide),
        _false_positives(card, wide),
        _power(card, wide),
        _stability(card, wide),
        _membership(card, wide),
    )


def _queries(card: Card, wide: bool) -> Table:
    out = _table("Kinds of queries with losses", wide)
    out.add_column("agreement on")
    for heading in ("queries", "worth as many\nindependent ones", "what is\ntheir own"):
        out.add_column(heading, justify="right")
    for name, of in card.queries.items():
        worth = ((of.effective, of.judged), (of.own, of.own_judged))
        out.add_row(AGREED[name], str(of.queries), *(f"{n:.1f}" + " (too few)" * (not enough) for n, enough in worth))
    return out


def _agreement(rows: Sequence[MethodRow], wide: bool) -> Table:
    """The floor shown is the one whose interval reaches lowest; of what is a query's own where that alone is judged."""
    out = _table("Agreement with retraining, placebos, and how far ahead of the nearest floor", wide)
    out.add_column("method", no_wrap=True)
    for heading in ("", "kind"):
        out.add_column(heading)
    variants = _VARIANTS if wide else _NARROW_VARIANTS
    for heading in variants.values():
        out.add_column(heading, justify="right")
    out.add_column("floor", no_wrap=True)
    out.add_column("ahead", justify="right")
    for row, name in _agreed(rows):
        found = (row.measures.get(name + variant) for variant in variants)
        values = [_text(one, wide) if one else "" for one in found]
        ahead = row.ahead.get(name) or row.ahead.get(f"{name}_specific", {})
        nearest = min(ahead, key=lambda floor: ahead[floor].low, default="")
        difference = _text(ahead[nearest], wide) if nearest else ""
        out.add_row(row.method, row.channel, AGREED[name], *values, nearest, difference)
    return out


def _floors(rows: Sequence[MethodRow]) -> Table:
    out = _table("How far ahead of each floor", wide=True)
    for heading in ("method", "", "kind"):
        out.add_column(heading, no_wrap=True)
    shown = [
        (row, AGREED[name] + what, row.ahead[name + variant])
        for row, name in _agreed(rows)
        for variant, what in (("", ""), ("_specific", ", its own"))
        if name + variant in row.ahead
    ]
    floors = list(dict.fromkeys(floor for _, _, ahead in shown for floor in ahead))
    for floor in floors:
        out.add_column(floor, justify="right")
    for row, what, ahead in shown:
        values = (_text(ahead[floor], True) if floor in ahead else "" for floor in floors)
        out.add_row(row.method, row.channel, what, *values)
    return out


def _agreed(rows: Sequence[MethodRow]) -> Iterator[tuple[MethodRow, str]]:
    """Kind by kind, so that methods can be compared."""
    return ((row, name) for name in AGREED for row in rows if {name, f"{name}_specific"} & row.measures.keys())


def _methods(rows: Sequence[MethodRow], wide: bool) -> Table:
    out = _table("Methods against creators left out, twins and cells", wide)
    measures = [name for name in shown_measures(rows) if name in _NARROW_HEADINGS]
    out.add_column("method", no_wrap=True)
    out.add_column("")
    for name in measures:
        out.add_column((HEADINGS if wide else _NARROW_HEADINGS)[name], justify="right")
    if wide:
        out.add_column("numbers", justify="right")
    out.add_column("ms a song" if wide else "ms a\nsong", justify="right")
    for row in rows:
        values = [_text(row.measures[name], wide) if name in row.measures else "" for name in measures]
        sizes = [str(row.numbers)] if wide else []
        out.add_row(row.method, row.channel, *values, *sizes, f"{1000 * row.seconds_per_song:.0f}")
    return out


def _found(rows: Sequence[MethodRow], wide: bool) -> Table:
    out = _table("How often a song is first for an altered copy of it", wide)
    out.add_column("method", no_wrap=True)
    out.add_column("")
    for heading in (ALTERATIONS if wide else _NARROW_ALTERATIONS).values():
        out.add_column(heading, justify="right")
    for row in rows:
        if row.found:
            texts = (_text(row.found[name], wide) if name in row.found else "" for name in ALTERATIONS)
            out.add_row(row.method, row.channel, *texts)
    return out


def _false_positives(card: Card, wide: bool) -> Table:
    out = _table("Policies on music that no model knows", wide)
    for heading in ("fingerprint", "", "policy"):
        out.add_column(heading)
    for heading in ("songs searched", "queries with\nany song", "songs\na query"):
        out.add_column(heading, justify="right")
    for kind, by_channel in card.false_positives.items():
        for channel, found in by_channel.items():
            for one in found:
                searched = f"{one.n_songs}" + " (simulated)" * one.simulated
                out.add_row(kind, channel, one.policy, searched, _text(one.any_song, wide), _text(one.songs, wide))
    return out


def _power(card: Card, wide: bool) -> Table:
    out = _table("Policies on music that songs are in, or are not", wide)
    for heading in ("fingerprint", "policy", "queries"):
        out.add_column(heading)
    for heading in ("how many", "own song\nnamed", "any song\nnamed"):
        out.add_column(heading, justify="right")
    for kind, found in card.power.items():
        for one in found:
            own = _text(one.own_song, wide) if one.own_song else ""
            out.add_row(kind, one.policy, one.queries, str(one.n_queries), own, _text(one.any_song, wide))
    return out


def _stability(card: Card, wide: bool) -> Table:
    out = _table("Shares of the song that a re-encoded copy was made of", wide)
    for heading in ("fingerprint", ""):
        out.add_column(heading)
    for heading in ("share", "width of its interval"):
        out.add_column(heading, justify="right")
    for kind, by_channel in card.stability.items():
        for channel, one in by_channel.items():
            out.add_row(kind, channel, _text(one.share, wide), _text(one.width, wide))
    return out


def _membership(card: Card, wide: bool) -> Table:
    out = _table("Was the model trained on it? By the song alone, without a query", wide)
    out.add_column("signal")
    headings = ("twins", "trained\non", "refuted", "unheard twins\nand cells", "drawn", "left\nout")
    for heading in headings:
        out.add_column(heading, justify="right")
    for one in card.membership:
        out.add_row(
            one.signal,
            *_texts(wide, one.twins, one.trained, one.refuted, one.unheard, one.drawn, one.left_out),
        )
    return out


def _table(title: str, wide: bool) -> Table:
    return Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1 if wide else 0), title=title)


def _text(estimate: Estimate, wide: bool) -> str:
    return str(estimate) if wide else f"{estimate.value:.2f}"


def _texts(wide: bool, *estimates: Estimate) -> Iterator[str]:
    return (_text(estimate, wide) for estimate in estimates)
