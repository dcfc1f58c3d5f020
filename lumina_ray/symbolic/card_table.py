"""The card of a symbolic bank as tables for a terminal of 80 columns."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lumina_ray.diagnostics.reliability import Diagnostics
from lumina_ray.symbolic.card import FLOORS, GROUP, RUNS, CardRow, SymbolicCard
from lumina_ray.symbolic.dattri_card import DattriCard, DattriRow


def print_symbolic_card(card: SymbolicCard, console: Console) -> None:
    """Print agreement with retraining, reliability and homogeneity, for each kind of query."""
    for kind in card.chance:
        reliability = _reliability(kind, [row for row in card.rows if row.kind == kind], card.chance[kind])
        console.print(_agreement(card, kind), _ahead(card, kind), reliability, _homogeneity(card, kind))
        console.print(
            *(f"{kind}, {name}: {value:.3g}" for name, value in card.facts[kind].items()), sep="\n", highlight=False
        )


def print_dattri_card(card: DattriCard, console: Console) -> None:
    """Print agreement with the benchmark's target values beside the paper's, reliability, and what is known of it."""
    out = _table("dattri: LDS, with 95 % intervals", "", "LDS", "another query's scores", "NaN", "paper")
    for row in card.rows:
        out.add_row(row.name, str(row.lds), str(row.other), str(row.left_out), f"{row.published:.3f}")
    console.print(out, _reliability("dattri", card.rows, card.chance))
    known = {name: value for name, value in card.facts.items() if name != "recipe"}
    console.print(*(f"{name}: {value:.3g}" for name, value in known.items()), sep="\n", highlight=False)


def _agreement(card: SymbolicCard, kind: str) -> Table:
    out = _table(f"{kind}: LDS, with 95 % intervals", "", "LDS", "another query's scores")
    for row in card.rows:
        if row.kind == kind:
            out.add_row(row.name, str(row.lds), str(row.other))
    return out


def _ahead(card: SymbolicCard, kind: str) -> Table:
    out = _table(f"{kind}: ahead of each floor", "", *FLOORS)
    for row in card.rows:
        if row.kind == kind and row.name in RUNS:
            out.add_row(row.name, *(str(row.ahead[floor]) for floor in FLOORS))
    return out


def _reliability(title: str, rows: Sequence[CardRow | DattriRow], chance: Diagnostics) -> Table:
    out = _table(f"{title}: reliability", "", "κ̄", "R1", "R2:5", "c", "collapse")
    found = {row.name: (row.found, row.collapse) for row in rows}
    for name, (of, collapse) in (found | {"by chance": (chance, 0.0)}).items():
        numbers = (of.kappa, of.r1, of.r2_5, of.c)
        out.add_row(name, *(f"{number:.3f}" for number in numbers), f"{collapse:.2f}")
    return out


def _homogeneity(card: SymbolicCard, kind: str) -> Table:
    out = _table(f"{kind}: mean z of {GROUP} pieces", "", *(row.aspect for row in card.rows[0].homogeneity))
    for row in card.rows:
        if row.kind == kind:
            out.add_row(row.name, *(f"{of.found.mean:+.2f}" for of in row.homogeneity))
    return out


def _table(title: str, *headings: str) -> Table:
    out = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        out.add_column(heading, justify="right" if heading else "left")
    return out
