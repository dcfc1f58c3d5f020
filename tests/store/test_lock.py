"""One job a store: refused while the other lives, free as soon as it is dead, however it died."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from lumina_ray.cli.exits import exit_code
from lumina_ray.errors import StoreBusy, StoreError
from lumina_ray.store import exclusive, lock
from lumina_ray.store.lock import in_turn

HOLD = """
import sys, time
from pathlib import Path
from lumina_ray.store import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_holder_is_no_holder(tmp_path: Path) -> None:
    store = tmp_path / "store"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(store)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(StoreBusy, match=f"process {holder.pid}, ") as caught, exclusive(store):
        pass
    assert exit_code(caught.value) == 1
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with exclusive(store):
        (store / "run.json").touch()
    assert store.is_dir()


def test_two_in_one_process_exclude_each_other_as_well(tmp_path: Path) -> None:
    with exclusive(tmp_path / "store"), pytest.raises(StoreBusy), exclusive(tmp_path / "store"):
        pass


def test_a_job_that_never_began_leaves_nothing(tmp_path: Path) -> None:
    with exclusive(tmp_path / "store"):
        assert (tmp_path / "store").is_dir()
    assert not (tmp_path / "store").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = tmp_path / "file" / "store"
    with pytest.raises(StoreError, match=r"file/store: cannot be written \(Not a directory\)"), exclusive(store):
        pass


def test_whoever_has_to_wait_too_long_for_their_turn_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_TURN_S", 0.0)
    file = tmp_path / "x.lock"
    with in_turn(file), ThreadPoolExecutor(1) as other:
        waiting = other.submit(in_turn(file).__enter__)
    with pytest.raises(StoreBusy, match=r"x\.lock: held by another process for 0 s"):
        waiting.result()
    with in_turn(file):
        pass


def test_who_is_refused_leaves_the_store_to_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that begin at once: neither finds the folder, and one of them has made it and holds it by then."""
    store, acquire = tmp_path / "store", lock._acquire
    with ExitStack() as holder:

        def lose(*args: Any) -> None:
            monkeypatch.setattr(lock, "_acquire", acquire)
            holder.enter_context(exclusive(store))
            acquire(*args)

        monkeypatch.setattr(lock, "_acquire", lose)
        with pytest.raises(StoreBusy), exclusive(store):
            pass
        assert (store / "_LOCK").exists()
        with pytest.raises(StoreBusy), exclusive(store):
            pass
    assert not store.exists()
