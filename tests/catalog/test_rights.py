"""Splits: one grammar, in which every cell has one reading or none."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lumina_ray.catalog.rights import normal_splits

NAMES = ("A. Writer", "Writer, A.", "AC/DC", "Maroon 5", "50 Cent", "Blink-182 (US)", "Deadmau5", "Ö & Sons", "2 B 3")
NAME = st.sampled_from(NAMES)
SEPARATOR = st.sampled_from([";", "\n", "\r\n", "|", ","])


@st.composite
def parts(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Names and percentages that add up to 100."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), max_size=4)))
    return [(draw(NAME), above - below) for below, above in zip([0, *cuts], [*cuts, 100], strict=True)]


def written(entries: list[tuple[str, int]], form: str, separators: list[str]) -> str:
    texts = [form.format(name=name, number=number) for name, number in entries]
    return texts[0] + "".join(f"{separator} {text}" for separator, text in zip(separators, texts[1:], strict=True))


@given(
    entries=parts(),
    form=st.sampled_from(["{name} {number} %", "{name}: {number}", "{name} = {number}%", "{name} ({number} %)"]),
    separator=SEPARATOR,
)
def test_entries_with_one_separator_are_read_as_they_are(
    entries: list[tuple[str, int]], form: str, separator: str
) -> None:
    assume(separator != "," or len(entries) == 1 or not any("," in name for name, _ in entries))
    read = normal_splits(written(entries, form, [separator] * (len(entries) - 1)))
    assert read == "; ".join(f"{name} {number} %" for name, number in entries)
    assert normal_splits(read) == read
    numbers_first = written(entries, "{number} % {name}", [separator] * (len(entries) - 1))
    assert normal_splits(numbers_first) == read


@given(
    entries=parts(),
    form=st.sampled_from(["{name} {number} %", "{name} {number}", "{name}: {number}", "{number} % {name}"]),
    separators=st.lists(st.sampled_from([";", "|", ",", " /", " &", " +", " -", " and", "", "\t"]), min_size=5),
    extra=st.integers(1, 100),
)
def test_no_mixture_of_separators_passes_with_another_sum(
    entries: list[tuple[str, int]], form: str, separators: list[str], extra: int
) -> None:
    """Of what adds up to more than 100, no reading adds up to 100."""
    named = [(name, number) for (_, number), name in zip(entries, "ABCDE", strict=False)]
    text = written([*named, ("F", extra)], form, separators[: len(named)])
    with pytest.raises(ValueError, match=r"may be more than one|more than one number|no name with|negative|add up to"):
        normal_splits(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A 50 / B 50; C 50", "may be more than one entry"),
        ("A 50 / B 100", "may be more than one entry"),
        ("A 50; B 25 | C 50", "may be more than one entry"),
        ("A 50 B 50; C 50", "has more than one number; write % after the percentage"),
        ("Maroon 5 50; B 50", "has more than one number"),
        ("A 1/3; B 97", "is no name with a percentage"),
        ("Deadmau5; B 95", "is no name with a percentage"),
        ("A (50; B 50)", "is no name with a percentage"),
        (": 100", "is no name with a percentage"),
        ("A -5; B 105", "has a negative percentage"),
        ("A 0;" * 10_000, "add up to 0, not to 100"),
        ("A 33; B 33; C 33", "add up to 99, not to 100"),
    ],
)
def test_what_has_two_readings_or_another_sum_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        normal_splits(text)


def test_thirds_are_a_whole() -> None:
    assert normal_splits("A 33,33; B 33.33; C 33.33") == "A 33.33 %; B 33.33 %; C 33.33 %"
    assert Decimal("33.33") * 3 != 100
