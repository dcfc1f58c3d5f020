"""Tables of a symbolic card hold its numbers, and what the diagnostics' order of methods is worth."""

from dataclasses import asdict

import pytest

from benchmarks.symbolic_tables import tables
from lumina_ray.symbolic.card import RUNS, make_card
from lumina_ray.symbolic.dattri_card import PUBLISHED
from tests.diagnostics.published import TABLE_1
from tests.symbolic.making import known_bank


def test_tables_hold_the_cards_numbers() -> None:
    card = make_card(known_bank())
    text = "\n".join(tables(asdict(card)))
    assert text.count("**excerpt**") == text.count("**generated**") == 1
    for row in card.rows:
        assert f"| `{row.name}` | {row.lds.value:.2f} [{row.lds.low:.2f}, {row.lds.high:.2f}] |" in text
        assert f"| `{row.name}` | {row.found.kappa:.3f} | {row.found.r1:.3f} |" in text
    assert f"| {len(RUNS)} methods |" in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(widths) == {5, 6, 11}


def test_the_papers_figures_are_those_that_diagnostics_are_checked_against() -> None:
    assert sorted(PUBLISHED.values()) == pytest.approx(sorted(lds for lds, *_ in TABLE_1.values()))
