"""Features of MIDI files as a table, one row a file, as `lumina diagnose` reads it."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from lumina_ray.catalog.scan import song_id_of
from lumina_ray.errors import MidiError, UsageError
from lumina_ray.symbolic.features import DIMENSIONS, symbolic_features
from lumina_ray.symbolic.notes import read_notes

SUFFIXES = (".mid", ".midi")
MAX_FILES = 1_000_000
"""The most files of a table."""


def midi_files(folder: Path) -> list[Path]:
    """List the MIDI files of a folder at any depth, by their names, in their order.

    Raises:
        UsageError: it is no folder, or holds none or more than `MAX_FILES`.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; give one with .mid files")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not 0 < len(found) <= MAX_FILES:
        raise UsageError(f"{folder}: holds {len(found)} files {' or '.join(SUFFIXES)}; 1 to {MAX_FILES} can be read")
    return found


def feature_rows(folder: Path, files: Sequence[Path]) -> pa.Table:
    """Compute the features of MIDI files, one after the other. A file that cannot be used has a row with its `error`.

    Returns:
        Columns `song_id` (the path in the folder), `error`, and a list of float64 for each of `DIMENSIONS`.
    """
    rows: list[dict[str, object]] = []
    for path in files:
        row: dict[str, object] = {"song_id": song_id_of(path.relative_to(folder).as_posix()), "error": None}
        try:
            row |= {name: values.tolist() for name, values in symbolic_features(read_notes(path)).items()}
        except MidiError as error:
            row["error"] = str(error)
        rows.append(row)
    lists = [pa.field(name, pa.list_(pa.float64())) for name in DIMENSIONS]
    return pa.Table.from_pylist(
        rows, pa.schema([pa.field("song_id", pa.string()), pa.field("error", pa.string()), *lists])
    )
