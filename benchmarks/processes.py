"""Measures processor time and memory of this process and its children; processor time by their role for Ray."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_SAMPLE_EVERY_S = 1.0
_ROLES = ("driver", "workers", "tasks", "Ray's servers")


@dataclass(frozen=True)
class Sample:
    """Processor time at one moment.

    Attributes:
        at_s: the moment, in seconds since the epoch.
        processor_s: processor seconds since the processes began, by role.
    """

    at_s: float
    processor_s: dict[str, float]


@contextmanager
def sampled() -> Iterator[list[Sample]]:
    """Take a sample every second while the block runs; the list grows meanwhile."""
    samples: list[Sample] = []
    stopped = threading.Event()
    # A process shows in its title that it is an actor only while it works, so actors are remembered.
    actors: set[int] = set()

    def watch() -> None:
        while not stopped.wait(_SAMPLE_EVERY_S):
            samples.append(Sample(time.time(), _processor_s(actors)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        stopped.set()
        thread.join()


def _processor_s(actors: set[int]) -> dict[str, float]:
    parents: dict[int, int] = {}
    used_s: dict[int, float] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The text before the last bracket is the process's name, which may hold any characters.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            title = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue  # The process has ended.
        pid = int(folder.name)
        parents[pid], titles[pid] = int(fields[1]), title
        used_s[pid] = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        if "MapWorker" in title:
            actors.add(pid)
    total = dict.fromkeys(_ROLES, 0.0)
    for pid in used_s:
        if _is_ours(pid, parents):
            total[_role(pid, titles[pid], actors)] += used_s[pid]
    return total


def _is_ours(pid: int, parents: dict[int, int]) -> bool:
    while pid and pid != os.getpid():
        pid = parents.get(pid, 0)
    return pid == os.getpid()


def _role(pid: int, title: str, actors: set[int]) -> str:
    if pid == os.getpid():
        return "driver"
    if pid in actors:
        return "workers"
    if title.startswith("ray::"):
        return "tasks"
    return "Ray's servers"


def proportional_gib(root: int, without: frozenset[int] | set[int] = frozenset()) -> float:
    """Memory of a process and its descendants, in GiB; memory that processes share is divided among them. Linux only.

    Args:
        root: id of the process.
        without: ids of processes that do not count. Descendants of these do not count either, except the root's.
    """
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # The process has ended.
        children.setdefault(parent, []).append(int(folder.name))
    total_kb, pending = 0, [root]
    while pending:
        pid = pending.pop()
        if pid in without and pid != root:
            continue
        pending += children.get(pid, [])
        if pid not in without:
            total_kb += _proportional_kb(pid)
    return total_kb / 2**20


def _proportional_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
