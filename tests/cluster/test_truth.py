"""Resuming work that is counted by its files."""

from pathlib import Path

from rich.console import Console

from cluster.truth import run_missing, training_device


def write(text: str, path: Path) -> None:
    path.write_text(text)


def test_only_files_that_are_missing_are_made(ray_cluster: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("before")
    with (tmp_path / "log").open("w") as log:
        console = Console(file=log)
        run_missing("Files", write, [(tmp_path / name, (name.upper(),)) for name in "abc"], console)
    assert [(tmp_path / name).read_text() for name in "abc"] == ["before", "B", "C"]
    assert training_device() == "cpu"
