"""Whom a recording's share goes to."""

from fractions import Fraction

import pytest

from lumina_ray.errors import StatementError, UsageError
from lumina_ray.statement.lines import Song
from lumina_ray.statement.parties import Party, parts_of
from lumina_ray.statement.period import check_period


def song(**facts: str) -> Song:
    return Song(**(dict.fromkeys(Song._fields) | {"song_id": "s"} | facts))


def named(*songs: Song, by: str = "owner", channel: str = "P") -> dict[tuple[str, ...], Fraction]:
    return {part.party.names: part.fraction for part in parts_of(songs, by, channel)}


def test_splits_are_applied_in_both_channels_and_else_the_owner_of_the_right_gets_it() -> None:
    split = song(splits="A. Writer 60 %; B. Singer 40 %", publisher="P", master_owner="M", creator="C")
    for channel in ("P", "M"):
        assert named(split, channel=channel) == {("A. Writer",): Fraction(3, 5), ("B. Singer",): Fraction(2, 5)}
    plain = split._replace(splits=None)
    assert named(plain, channel="P") == {("P",): 1}
    assert named(plain, channel="M") == {("M",): 1}
    assert named(split, by="creator") == named(plain, by="creator") == {("C",): 1}
    assert named(split, by="song") == {("s",): 1}


def test_thirds_are_a_whole() -> None:
    thirds = named(song(splits="A 33.33 %; B 33.33 %; C 33.33 %"))
    assert set(thirds.values()) == {Fraction(1, 3)}
    assert sum(named(song(splits="A 33.3 %; B 33.3 %; A 33.4 %")).values()) == 1


def test_whom_nobody_names_and_whom_several_claim() -> None:
    assert parts_of((song(),), "owner", "P")[0].party == Party("unnamed", ())
    assert parts_of((song(publisher=" "),), "owner", "P")[0].party == Party("unnamed", ())
    one, other = song(publisher="A"), song(song_id="t", publisher="B")
    assert parts_of((one, other), "owner", "P")[0].party == Party("contested", ("A", "B"))
    # Who says the same in another way, or nothing, contests nothing.
    assert named(one, other._replace(publisher=None)) == {("A",): 1}
    assert named(one, other._replace(splits="A 100 %")) == {("A",): 1}
    assert named(one, other._replace(splits="A 50 %; B 50 %")) == {("A", "B"): 1}
    assert named(one, other, by="song") == {("s", "t"): 1}


def test_names_have_one_way_of_writing_characters_and_spaces() -> None:
    assert named(song(publisher="U\u0308nal  & Co")) == named(song(publisher="Ünal & Co")) == {("Ünal & Co",): 1}
    assert named(song(publisher="ünal & co")) != named(song(publisher="Ünal & Co"))


def test_splits_that_cannot_be_read_name_the_song() -> None:
    with pytest.raises(StatementError, match=r"song 's': its splits cannot be read .* add up to 90"):
        parts_of((song(splits="A 50 %; B 40 %"),), "owner", "P")


@pytest.mark.parametrize("period", ["2026", "2026-Q3", "2026-09", "2026-09-30", "2026-07-01/2026-09-30"])
def test_periods(period: str) -> None:
    assert check_period(period) == period


@pytest.mark.parametrize(
    "period",
    [
        "",
        "26",
        "2026-13",
        "2026-Q5",
        "2026-02-30",
        "2026-09-30/2026-07-01",
        "2026-W01-1",
        "2026-1-1",
        "٢٠٢٦",
        "x" * 999,
        "2026-01-01/2026-02-01/2026-03-01",
        "2026-01/2026-02",
        "2026\n",
    ],
)
def test_what_is_no_period(period: str) -> None:
    with pytest.raises(UsageError, match="is no period"):
        check_period(period)
