"""What the shipped card says of each kind of query that the demo asks about."""

import lzma
from pathlib import Path

import pytest

from lumina_ray.errors import StoreError
from lumina_ray.truth import shipped_card
from lumina_ray.truth.shipped_card import read_card, retraining_says
from lumina_ray.vocabulary import DEFAULT_METHOD

DEMO_KINDS = ("altered mp3", "guided", "continued", "control", "foreign")


@pytest.mark.parametrize("kind", DEMO_KINDS)
def test_every_kind_of_the_demo_is_told_by_the_shipped_card(kind: str) -> None:
    (power,) = (
        one for one in read_card()["power"][DEFAULT_METHOD] if (one["policy"], one["queries"]) == ("calibrated", kind)
    )
    figure = power["any_song"] if power["own_song"] is None else power["own_song"]
    said = retraining_says(kind)
    assert said.startswith(f"Of {power['n_queries']} such queries")
    assert f"{figure['value']:.0%} [" in said
    assert ("lack one song" in said) == (kind in ("guided", "continued"))


@pytest.mark.parametrize(("queries", "kind"), [("continued", "continuations"), ("guided", "pieces")])
def test_agreement_stands_beside_the_nearest_floor(queries: str, kind: str) -> None:
    row = next(r for r in read_card()["rows"] if (r["method"], r["channel"]) == (DEFAULT_METHOD, "P+M"))
    agreement, floors = row["measures"][f"alone_{kind}_specific"], row["ahead"][f"alone_{kind}_specific"]
    lowest = sorted(floors.values(), key=lambda ahead: ahead["low"])[0]
    said = retraining_says(queries)
    assert f"at {agreement['value']:.2f} [" in said
    assert f"; {lowest['value']:.2f} [{lowest['low']:.2f}," in said


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(StoreError, match="no queries of the kind 'whistled'"):
        retraining_says("whistled")


@pytest.mark.parametrize(
    "damaged", [b"", b"{}", lzma.compress(b"{"), lzma.compress(b"{}")[:-9], lzma.compress(b"\xff")]
)
def test_damaged_card_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bytes) -> None:
    card = tmp_path / "card.json.xz"
    monkeypatch.setattr(shipped_card, "CARD", card)
    with pytest.raises(StoreError, match=r"card\.json\.xz: not readable"):
        retraining_says("foreign")
    card.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"card\.json\.xz: not readable"):
        retraining_says("foreign")
