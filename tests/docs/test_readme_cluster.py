"""The README's lines about a cluster, typed as they are printed on a machine that has none."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer

from lumina_ray.cli.main import app
from lumina_ray.errors import UsageError
from lumina_ray.files import check_lasting
from lumina_ray.store import store_status
from tests.cli.running import run_lumina
from tests.cluster.catalog import write_tone
from tests.cluster.processes import free_port
from tests.docs.pages import ROOT

COPY = "ray/session_2026-11-28_10-00-00_000000_1/runtime_resources/working_dir_files/_ray_pkg_0123456789abcdef"


def cluster_lines() -> list[str]:
    """The lines of the README's block that submits a job, without the one that stops every Ray of the machine."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    (block,) = [block for block in blocks if "ray job submit" in block]
    *lines, last = [line.removeprefix("$ ") for line in block.splitlines()]
    assert last == "ray stop"
    return lines


@pytest.mark.parametrize("out", ["store", "./deep/store", "../_ray_pkg_0123456789abcdef/store"])
def test_an_output_in_rays_copy_of_a_folder_is_refused(
    tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / COPY
    copy.mkdir(parents=True)
    (copy / "songs.csv").write_text("song_id,path\n1,x.wav\n")
    monkeypatch.chdir(copy)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for command in (("fingerprint", "songs.csv"), ("index", "some-store"), ("catalog", "scan", ".")):
        done = run_lumina(*command, "--out", out if command[0] != "catalog" else f"{out}.csv")
        assert done.exit_code == 2
        assert "lies in Ray's copy of the working directory" in done.stderr
        assert "which Ray deletes after the job; give a path that begins with /" in done.stderr
    assert not list(copy.glob("**/store*"))
    with pytest.raises(UsageError, match="Ray's copy"):
        check_lasting(copy / out)
    check_lasting(tmp_path / "store")


def outputs(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All options of all commands that name something to write, with the command."""
    for name, child in getattr(command, "commands", {}).items():
        yield from outputs(child, f"{path} {name}".strip())
    yield from ((path, option) for option in command.params if option.name in ("out", "html", "csv", "file"))


def test_every_command_refuses_such_an_output(tmp_path: Path) -> None:
    copy = tmp_path / COPY
    copy.mkdir(parents=True)
    found = list(outputs(typer.main.get_command(app)))
    # Their places may also be buckets; the test above runs them.
    asked = [(path, option) for path, option in found if path not in ("fingerprint", "index", "catalog scan")]
    assert len(asked) > 12
    for path, option in asked:
        parse = option.type_descriptor.parameter_info.parser
        assert parse, f"lumina {path} {option.opts[0]} is checked by nobody"
        with pytest.raises(UsageError, match="Ray's copy"):
            parse(str(copy / "result"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a bare machine: a home of its own, no token, no Ray. What is started on it ends."""
    home, ray = tmp_path / "home", Path("/tmp", f"r{os.getpid()}")
    home.mkdir()
    ray.mkdir()
    known = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Ray gives its agent 15 s to start, which a machine that runs other tests may not have: see tests/conftest.py.
    patient = {"RAY_agent_register_timeout_ms": "120000"}
    yield known | patient | {"HOME": str(home), "PATH": path, "RAY_TMPDIR": str(ray), "OMP_NUM_THREADS": "1"}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            if f"RAY_TMPDIR={ray}".encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.soak
def test_the_readmes_cluster_lines_make_a_store(tmp_path: Path, machine: dict[str, str]) -> None:
    folder = tmp_path / "here"
    (folder / "music").mkdir(parents=True)
    for seed in range(2):
        write_tone(folder / "music" / f"{seed}.wav", 3, seed=seed)
    # Another Ray may have the usual ports.
    port, dashboard = free_port(), free_port()
    lines = [
        line.replace("ray start --head", f"ray start --head --port {port} --dashboard-port {dashboard}").replace(
            "8265", str(dashboard)
        )
        for line in cluster_lines()
    ]
    script = "\n".join(["lumina catalog scan music --out music.parquet", *lines])
    done = subprocess.run(
        ["bash", "-ec", script], cwd=folder, env=machine, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    status = store_status(folder / "store")
    assert (status.state, status.ok) == ("finished", 2)
    assert "Traceback" not in done.stdout + done.stderr
