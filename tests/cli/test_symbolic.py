"""`lumina symbolic features`: a table that `lumina diagnose` reads, with a failed row for each file without notes."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from lumina_ray.cli.main import app
from lumina_ray.diagnostics import read_features
from lumina_ray.errors import UsageError
from lumina_ray.symbolic.features import DIMENSIONS, symbolic_features
from lumina_ray.symbolic.notes import read_notes
from tests.symbolic.making import bytes_of, midi_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for step, name in enumerate(("a.mid", "b.MIDI", "sub/c.mid"), start=1):
        begins = np.cumsum(rng.integers(step, 3 * step, 30)) / 4
        lengths, pitches, velocities = (rng.integers(low, high, 30) for low, high in ((1, 4), (40, 80), (1, 127)))
        notes = list(zip(begins, lengths / 2, pitches.tolist(), velocities.tolist(), strict=True))
        (tmp_path / "in" / name).write_bytes(bytes_of(midi_of(notes)))
    (tmp_path / "in" / "broken.mid").write_bytes(b"MThd")
    (tmp_path / "in" / "other.txt").write_text("no music")
    return tmp_path


def test_features_of_a_folder(folder: Path) -> None:
    out = folder / "features.parquet"
    done = CliRunner().invoke(app, ["symbolic", "features", str(folder / "in"), "--out", str(out), "--json"])
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"features": str(out), "songs": 3, "failed": 1}
    assert "broken.mid: is no MIDI file" in done.stderr
    rows = pq.read_table(out).to_pylist()
    assert [row["song_id"] for row in rows] == ["a.mid", "b.MIDI", "broken.mid", "sub/c.mid"]
    assert rows[2]["melody.intervals"] is None
    expected = symbolic_features(read_notes(folder / "in" / "sub" / "c.mid"))
    for name in DIMENSIONS:
        np.testing.assert_array_equal(rows[3][name], expected[name])
    table = read_features(out, ["a.mid", "b.MIDI", "sub/c.mid"])
    assert list(table.aspects) == ["melody", "harmony", "rhythm", "dynamics", "texture"]
    assert len(table.features) == 12


def test_folders_without_midi_are_errors(folder: Path) -> None:
    for place, message in ((folder / "none", "no such folder"), (folder, "none of 1 files can be used")):
        if place == folder:
            for name in ("a.mid", "b.MIDI", "sub/c.mid"):
                (folder / "in" / name).unlink()
        done = CliRunner().invoke(app, ["symbolic", "features", str(place), "--out", str(folder / "x.parquet")])
        assert isinstance(done.exception, UsageError)
        assert message in str(done.exception)
    (folder / "in" / "broken.mid").unlink()
    done = CliRunner().invoke(app, ["symbolic", "features", str(folder), "--out", str(folder / "x.parquet")])
    assert "holds 0 files" in str(done.exception)
