"""Audio files that a command line names, and what their reports are called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumina_ray.cli.queries import find_queries


@given(st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=80), max_size=5))
def test_reports_have_names_of_their_own_that_file_systems_take(stems: list[str]) -> None:
    names = [query.name for query in find_queries([f"folder/{stem}.wav" for stem in stems])]
    assert len({name.lower() for name in names}) == len(stems)
    assert all(len(f"{name}.json".encode()) <= 255 and not set(name) & set("/\\\0\n") for name in names)


@pytest.mark.parametrize("stem", ["曲" * 85, "é" * 120, "x" * 250])
def test_a_long_name_is_cut_by_its_bytes(stem: str, tmp_path: Path) -> None:
    one, two = find_queries([f"a/{stem}.wav", f"b/{stem}.wav"])
    assert one.name != two.name
    for query in (one, two):
        (tmp_path / f"{query.name}.json").touch()
