"""From audio files to an answer, by the command line: covers are found, and songs that cannot be read are named."""

import json
import random
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from lumina_ray.cli.main import app
from lumina_ray.evidence import read_table
from lumina_ray.vocabulary import SAMPLE_RATE_HZ
from tests.evidence.test_vectors import BRIGHT, SOFT, play

run = CliRunner()


def melody(seed: int) -> tuple[int, ...]:
    rng = random.Random(seed)
    return tuple(rng.choice((55, 57, 60, 62, 64, 65, 67, 69, 71, 72, 74)) for _ in range(20))


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    for name, seeds in (("catalog", range(8)), ("controls", range(100, 124))):
        lines = ["song_id,path"]
        for seed in seeds:
            path = folder / f"{name}-{seed}.flac"
            soundfile.write(path, play(melody(seed), SOFT), SAMPLE_RATE_HZ)
            lines.append(f"{path.stem},{path.name}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
        flag = ["--controls"] if name == "controls" else []
        done = run.invoke(
            app, ["evidence", "build", str(folder / f"{name}.csv"), "--out", str(folder / f"{name}.parquet"), *flag]
        )
        assert done.exit_code == 0, done.output
    return folder


def test_a_cover_is_found_by_its_notes(tables: Path) -> None:
    cover = tables / "cover.flac"
    soundfile.write(cover, play(melody(5), BRIGHT, semitones=3), SAMPLE_RATE_HZ)
    words = ["evidence", "search", str(cover), "--catalog", str(tables / "catalog.parquet")]
    done = run.invoke(app, [*words, "--controls", str(tables / "controls.parquet"), "--json"])
    assert done.exit_code == 0, done.output
    best = json.loads(done.stdout)["evidence"]["composition"][0]
    assert best["song_id"] == "catalog-5"
    assert best["p_value"] == pytest.approx(1 / 25)
    told = run.invoke(app, [*words, "--controls", str(tables / "controls.parquet"), "--top", "1"])
    assert told.stdout.startswith("shares notes  catalog-5 ")


def test_a_song_that_cannot_be_read_is_named(tables: Path) -> None:
    (tables / "bad.flac").write_bytes(b"no audio")
    (tables / "some.csv").write_text("song_id,path\nbad,bad.flac\ngood,catalog-0.flac\n")
    words = ["evidence", "build", str(tables / "some.csv"), "--out", str(tables / "some.parquet"), "--json"]
    done = run.invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["failed"].keys() == {"bad"}
    assert read_table(tables / "some.parquet").song_ids == ("good",)
