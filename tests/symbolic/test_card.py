"""The card on a bank whose truth is known: retrained models whose losses are what gradients say."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import spearmanr

from lumina_ray.errors import StoreError
from lumina_ray.symbolic.bank import BANK, SymbolicBank, load_bank, save_bank
from lumina_ray.symbolic.card import SymbolicCard, feature_table, make_card
from lumina_ray.symbolic.card_table import print_symbolic_card
from tests.symbolic.making import QUERIES, known_bank


@pytest.fixture(scope="module")
def bank() -> SymbolicBank:
    return known_bank()


@pytest.fixture(scope="module")
def card(bank: SymbolicBank) -> SymbolicCard:
    return make_card(bank)


def test_the_method_that_is_the_truth_agrees_with_it_and_is_ahead_of_all_floors(card: SymbolicCard) -> None:
    rows = {(row.name, row.kind): row for row in card.rows}
    for kind in ("excerpt", "generated"):
        # TracIn is Grad-Dot where the last checkpoint alone has a learning rate.
        for name in ("grad-dot", "tracin"):
            assert rows[name, kind].lds.value == pytest.approx(1)
            assert rows[name, kind].ahead.keys() == {"untrained", "pitch-classes", "random"}
            assert all(floor.low > 0.3 for floor in rows[name, kind].ahead.values())
            assert abs(rows[name, kind].other.value) < 0.4
        assert abs(rows["grad-dot, untrained", kind].lds.value) < 0.4
        assert rows["grad-dot, untrained", kind].ahead == {}


def test_lds_of_a_floor_is_scipys(bank: SymbolicBank, card: SymbolicCard) -> None:
    row = next(row for row in card.rows if (row.name, row.kind) == ("pitch-classes", "generated"))
    standard = [
        (of - bank.classes_N.mean(axis=0)) / bank.classes_N.std(axis=0) for of in (bank.classes_N, bank.classes_Q)
    ]
    pieces_N, queries_Q = (of / np.linalg.norm(of, axis=1)[:, None] for of in standard)
    predicted_RQ = bank.masks_RN @ pieces_N @ queries_Q.T
    expected = [spearmanr(predicted_RQ[:, q], -bank.losses_RQ[:, q]).statistic for q in bank.places("generated")]
    assert row.lds.value == pytest.approx(np.mean(expected), abs=1e-4)


def test_the_card_is_printed_and_json(card: SymbolicCard) -> None:
    assert json.loads(json.dumps(asdict(card)))["facts"]["excerpt"]["queries"] == QUERIES // 2
    assert {of.aspect for of in card.rows[0].homogeneity} == {"melody", "harmony", "rhythm", "dynamics", "texture"}
    with Console(width=80, record=True) as console:
        print_symbolic_card(card, console)
    text = console.export_text()
    for expected in ("excerpt: LDS", "generated: ahead", "trak-ensemble", "by chance", "loss of random weights: 2"):
        assert expected in text
    assert "…" not in text


def test_a_bank_is_read_as_it_was_written(bank: SymbolicBank, tmp_path: Path) -> None:
    save_bank(bank, tmp_path)
    again = load_bank(tmp_path)
    assert (again.recipe, again.names, again.kinds) == (bank.recipe, bank.names, bank.kinds)
    np.testing.assert_array_equal(again.losses_RQ, bank.losses_RQ)
    for name, of in bank.gradients.items():
        np.testing.assert_array_equal(again.gradients[name].queries_CQD, of.queries_CQD)
    assert feature_table(again).aspects.keys() == feature_table(bank).aspects.keys()


def test_banks_that_cannot_be_read_say_why(bank: SymbolicBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match="no finished symbolic bank"):
        load_bank(tmp_path)
    save_bank(replace(bank, kinds=("excerpt",) * QUERIES), tmp_path)
    path = tmp_path / BANK
    monkeypatch.setattr("lumina_ray.symbolic.bank.VERSION", 99)
    with pytest.raises(StoreError, match="version 1, and this is 99"):
        load_bank(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(StoreError, match="is damaged"):
        load_bank(tmp_path)
