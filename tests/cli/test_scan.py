"""`lumina catalog scan`: what it skips is said, and the names of files are nothing but names."""

import csv
import json
from pathlib import Path

import pytest
from rich.console import Console

from lumina_ray.cli.catalog import progress_bar
from tests.cli.running import run_lumina

NAMES = ("=1+1.wav", "[bold red]x.wav", ".dot.wav", "@sum.wav")


@pytest.fixture
def music(tmp_path: Path) -> Path:
    folder = tmp_path / "music"
    folder.mkdir()
    for name in (*NAMES, "notes.txt", "line\nbreak.wav"):
        (folder / name).write_bytes(b"no audio, which the job says later")
    return folder


def test_what_is_skipped_is_counted_and_named(music: Path, tmp_path: Path) -> None:
    out = tmp_path / "songs.csv"
    person = run_lumina("catalog", "scan", str(music), "--out", str(out))
    assert person.exit_code == 0
    assert person.stdout == (
        f"{out}: 4 songs; 2 files skipped: 1 × its name holds control characters, 1 × not audio by its name\n"
    )
    program = run_lumina("catalog", "scan", str(music), "--out", str(out), "--json")
    assert json.loads(program.stdout)["skipped"] == [
        {"path": "line\nbreak.wav", "reason": "its name holds control characters"},
        {"path": "notes.txt", "reason": "not audio by its name"},
    ]
    with out.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert "'=1+1.wav" in cells


def test_a_name_in_a_progress_bar_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(width=120, force_terminal=True, record=True, stderr=True)
    monkeypatch.setattr("rich.console.Console", lambda **_: shown)
    with progress_bar("scanning") as update:
        update(1, 2, "[/red] [bold]x")
    assert "[/red] [bold]x" in shown.export_text()
