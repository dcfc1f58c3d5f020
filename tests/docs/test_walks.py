"""The newcomer's pages, word by word: what they tell a reader to type is typed, in a folder of its own."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

from lumina_ray.catalog.manifest import manifest_of, write_manifest
from lumina_ray.vocabulary import SAMPLE_RATE_HZ
from tests.cluster.processes import free_port
from tests.docs.pages import ROOT, typed_lines

FIRST, OWN = ROOT / "docs/your-first-catalog.md", ROOT / "docs/your-own-model.md"
# They make the environment that the test runs in.
SETUP = ("make setup", "source .venv/bin/activate")
INTO_THE_FOLDER = "mkdir -p build/walk && cd build/walk"
MUSIC = "lumina catalog demo --out demo"
KNOWN_SONG = "freedoom-e1m1"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like a clone, as far as the pages use it, with the folder of the walk."""
    (tmp_path / "lumina_ray").symlink_to(ROOT / "lumina_ray")
    walk = tmp_path / "build/walk"
    walk.mkdir(parents=True)
    return walk


def environment() -> dict[str, str]:
    """A newcomer's environment, which has no Ray that runs already."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"OMP_NUM_THREADS": "1", "PATH": path}


def typer_of(walk: Path) -> Callable[[str], str]:
    """A shell for the walk's lines: gives what a line prints, and fails where it does."""

    def enter(line: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", line], cwd=walk, env=environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return enter


def make_short_demo(demo: Path) -> None:
    """The demo's manifests with fewer and shorter songs: tones and noise, under names that the pages use."""
    names = {
        "catalog": [KNOWN_SONG, "another", "third"],
        "controls": [f"control-{i:02}" for i in range(20)],
        "queries": ["query"],
    }
    rng = np.random.default_rng(0)
    t = np.arange(5 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    for part, ids in names.items():
        (demo / "audio" / part).mkdir(parents=True)
        for song_id in ids:
            tones = sum(np.sin(2 * np.pi * hz * t) for hz in rng.uniform(80, 3000, 3))
            path = f"audio/{part}/{song_id}.flac"
            soundfile.write(demo / path, 0.1 * tones + 0.05 * rng.normal(size=len(t)), SAMPLE_RATE_HZ)
        rows = [{"song_id": i, "path": f"audio/{part}/{i}.flac", "title": i} for i in ids]
        write_manifest(manifest_of(rows), demo / f"{part}.parquet")


def test_the_pages_begin_where_a_clone_does() -> None:
    lines = typed_lines(FIRST)
    assert lines[:4] == [*SETUP, INTO_THE_FOLDER, MUSIC]
    assert typed_lines(OWN)[0].startswith("cp -r ../../lumina_ray/model/bundled/nano ")


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_first_catalog_up_to_its_answer(checkout: Path) -> None:
    """Type the page as a newcomer does, on 3 songs and 20 controls of five seconds in place of the demo's."""
    lines = typed_lines(FIRST)[4:]
    ends = next(i for i, line in enumerate(lines) if line.startswith("lumina attribute"))
    enter = typer_of(checkout)
    make_short_demo(checkout / "demo")
    for line in lines[: ends + 1]:
        said = enter(line)
    assert KNOWN_SONG in said
    assert (checkout / "report.html").is_file()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_both_pages_word_by_word(checkout: Path) -> None:
    enter = typer_of(checkout)
    lines = [*typed_lines(FIRST)[3:], *typed_lines(OWN)]
    port = str(free_port())
    serving = next(i for i, line in enumerate(lines) if line.startswith("lumina serve"))
    for line in lines[:serving]:
        enter(line)
    # Only the port is another, as this machine's 8000 may be taken.
    with background(shlex.split(f"{lines[serving]} --port {port}"), checkout, port):
        enter(lines[serving + 1].replace(":8000/", f":{port}/"))
    assert (checkout / "answer.json").read_bytes() == enter("lumina attribute made.wav --index index --json").encode()
    for line in lines[serving + 2 :]:
        enter(line)
    assert (checkout / "scores.parquet").is_file()


@contextmanager
def background(command: list[str], walk: Path, port: str) -> Iterator[None]:
    """An endpoint in the background, ready."""
    command[0] = str(Path(sys.executable).with_name(command[0]))
    process = subprocess.Popen(command, cwd=walk, env=environment())
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until and process.poll() is None:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(1)
        else:
            raise AssertionError("the endpoint did not become ready")
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
