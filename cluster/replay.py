"""Derivatives of a training with respect to the weight of each song, on Ray: one group of queries in each task.

A training is recorded where it is not yet, checked by removals (`lumina_ray.replay.gate`), and then differentiated for
each group. Resumable: what is on disk is not redone, and an interrupted pass goes on at its last segment.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import ray
import torch
from rich.console import Console

from cluster.progress import show_steps
from cluster.session import one_line, ray_session, root_cause, stoppable
from lumina_ray.errors import ClusterError, LuminaError, StoreError, UsageError
from lumina_ray.files import atomic_path, sha256_of
from lumina_ray.replay.gate import (
    GATE_FILE,
    REMOVALS,
    check_gate,
    draw_removals,
    judge_removals,
    losses_without,
    write_gate,
)
from lumina_ray.replay.record import RUN_FILE, Report, open_record, record
from lumina_ray.replay.reverse import Group, differentiate
from lumina_ray.replay.training import Training

OpenTraining = Callable[[], Training]
"""Makes the training anew in any process: data, start and plan, not yet trained."""
GATE_GROUPS = 4
"""How many of the groups the gate asks about: more would say the same for more."""
Job = tuple[Any, ...]
_RETRIES = 3
_POLL_S = 1.0
_NAME = re.compile(r"[\w.-]{1,80}")


def replay(
    open_training: OpenTraining,
    folder: Path,
    groups: Mapping[str, Group],
    weights_N: Sequence[float] | None = None,
    console: Console | None = None,
) -> dict[str, np.ndarray]:
    """Differentiate the mean loss of each group, under the finished model, with respect to the weight of each song.

    Args:
        open_training: called in each process.
        folder: of the record; derivatives lie beside it.
        groups: by names that files can have.
        weights_N: of each song in the training; 1 for all by default.

    Returns:
        By name, float64 `[N]`.

    Raises:
        UsageError: no groups, or a name that no file can have.
        SpecificationMismatch: the folder holds a record of another training, or this is another environment.
        StoreError: a part of the record is missing or damaged.
        NumericsError: the replay is not the recorded training, or its derivatives do not predict removals.
        ClusterError: the cluster cannot run it.
    """
    if not groups:
        raise UsageError("nothing is asked: give at least one group of queries")
    if wrong := [name for name in groups if not _NAME.fullmatch(name)]:
        raise UsageError(f"{wrong[0][:80]!r} cannot name a file; use letters, digits, '.', '-' and '_'")
    console, folder = console or Console(stderr=True), folder.resolve()
    with ray_session(), stoppable():
        run = partial(run_jobs, console=console, steps=len(open_training().steps))
        run("Training", record_training, [(open_training, folder, weights_N)])
        # A record that is made anew has other derivatives, and a group of another name's pieces too.
        identity = sha256_of(folder / RUN_FILE)
        paths = {
            name: folder / "derivatives" / f"{name}-{_hash(identity, group)}.npz" for name, group in groups.items()
        }

        def derive(what: str, names: Sequence[str]) -> None:
            missing = [name for name in names if not paths[name].exists()]
            run(what, _differentiate, [(open_training, folder, groups[name], paths[name]) for name in missing])

        names = list(groups)
        for_gate = names[:GATE_GROUPS]
        derive("Derivatives for the gate", for_gate)
        if not (folder / GATE_FILE).exists():
            asked = tuple(groups[name] for name in for_gate)
            removed = [folder / "removals" / f"{_hash(identity, *asked)}-{n}.npz" for n in range(REMOVALS)]
            run("Removals for the gate", _remove, [
                (open_training, folder, asked, n, path) for n, path in enumerate(removed) if not path.exists()
            ])  # fmt: skip
            run("Gate", _judge, [(open_training, folder, asked, [paths[name] for name in for_gate], removed)])
        check_gate(folder)
        derive("Derivatives", names)
    return {name: _read(path) for name, path in paths.items()}


def record_training(
    open_training: OpenTraining, folder: Path, weights_N: Sequence[float] | None, report: Report
) -> None:
    """Record a training, or go on with it: a job for `run_jobs`."""
    record(open_training(), folder, weights_N, report=report)


def _differentiate(open_training: OpenTraining, folder: Path, group: Group, path: Path, report: Report) -> None:
    unfinished = path.with_suffix(".unfinished")
    (derivatives_N,) = differentiate(open_record(folder, open_training()), [group], unfinished, report)
    _save(path, derivatives_N)


def _remove(
    open_training: OpenTraining, folder: Path, groups: Sequence[Group], number: int, path: Path, report: Report
) -> None:
    found = open_record(folder, open_training())
    removed = draw_removals(len(found.training.songs), found.training.plan.seed)[number]
    _save(path, losses_without(found, groups, removed, report))


def _judge(
    open_training: OpenTraining,
    folder: Path,
    groups: Sequence[Group],
    derived: Sequence[Path],
    removed: Sequence[Path],
    _: Report,
) -> None:
    found = open_record(folder, open_training())
    write_gate(
        found, judge_removals(found, groups, np.stack(list(map(_read, derived))), np.stack(list(map(_read, removed))))
    )


class Progress:
    """Steps that jobs have done, told by them."""

    def __init__(self) -> None:
        self._done: dict[int, int] = {}

    def tell(self, job: int, done: int) -> None:
        """Note how many steps a job has done."""
        self._done[job] = done

    def done(self) -> int:
        """How many steps all jobs have done."""
        return sum(self._done.values())


def _work(progress: Any, number: int, job: Callable[..., None], *arguments: Any) -> None:
    # One thread: the last bits of a training depend on their number.
    torch.set_num_threads(1)
    job(*arguments, lambda done, _: progress.tell.remote(number, done))


def run_jobs(what: str, job: Callable[..., None], jobs: Sequence[Job], *, console: Console, steps: int) -> None:
    """Run a job for each tuple of arguments, as many at a time as the cluster has CPUs; show their steps together."""
    if not jobs:
        return
    work = ray.remote(num_cpus=1, max_retries=_RETRIES)(_work)
    progress: Any = ray.remote(num_cpus=0)(Progress).remote()
    try:
        with show_steps(what, steps * len(jobs), console) as step:
            waiting, shown = [work.remote(progress, i, job, *arguments) for i, arguments in enumerate(jobs)], 0
            while waiting:
                done, waiting = ray.wait(waiting, timeout=_POLL_S)
                ray.get(done)
                # What is finished counts whole: a job that had nothing to do says nothing.
                told: int = ray.get(progress.done.remote()) if waiting else steps * len(jobs)
                for _ in range(shown, told):
                    step()
                shown = max(shown, told)
    except ray.exceptions.RayError as error:
        cause = root_cause(error)
        if isinstance(cause, LuminaError):
            raise cause from None
        raise ClusterError(f"{what}: the cluster could not finish it ({one_line(error)})") from error
    finally:
        ray.kill(progress)


def _hash(identity: str, *groups: Group) -> str:
    digest = hashlib.sha256(identity.encode())
    for group in groups:
        digest.update(repr((group.texts, group.codebook, [tuple(codes.shape) for codes in group.codes])).encode())
        for codes_KT in group.codes:
            digest.update(codes_KT.to(torch.int64).numpy().tobytes())
    return digest.hexdigest()[:12]


def _save(path: Path, values: np.ndarray) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, values=values)


def _read(path: Path) -> np.ndarray:
    try:
        with np.load(path) as arrays:
            return np.asarray(arrays["values"], np.float64)
    except (OSError, EOFError, KeyError, ValueError, BadZipFile) as error:
        raise StoreError(f"{path}: damaged ({error}); delete it, and the same command makes it again") from error
