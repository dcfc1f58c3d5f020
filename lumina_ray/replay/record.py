"""A training as it is kept for replays: its identity, some of its states, and a hash of the weights after every step.

Layout of a record:

    run.json                    plan, hashes of data, start and frozen parts, environment, hash of each state
    states/00000.safetensors    a state, and hashes of each parameter after each step since the state before
    gate.json                   whether derivatives predicted removals (`lumina_ray.replay.gate`)

Shape legend: N = songs, P = numbers that learn, M = parameters, S = steps.
"""

import hashlib
import json
import math
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from lumina_ray.errors import NumericsError, SpecificationMismatch, StoreError, UsageError
from lumina_ray.files import atomic_path, read_file, sha256_of
from lumina_ray.replay.training import State, Training

RUN_FILE = "run.json"
FORMAT = 1
_MAX_JSON_BYTES = 16 << 20
DISK_BYTES = 2 << 30
MEMORY_BYTES = 2 << 30
"""Budgets of a record, by default: of all kept states, and of the states between two of them."""

Report = Callable[[int, int], None]
"""Told how many steps are done, and of how many."""


@dataclass(frozen=True)
class Replayed:
    """A step of a replay.

    Attributes:
        before, after: states.
        clipped_P: gradient of the step, clipped.
        norm: of the gradient before it was clipped.
    """

    before: State
    after: State
    clipped_P: Tensor
    norm: float


@dataclass(frozen=True)
class Record:
    """A recorded training that was found to be that of the given data, start and environment.

    Attributes:
        folder: where it lies.
        training: what it is a record of.
        weights_N: of each song; 1 for one that is learned from, 0 for one that only keeps its places.
        states: hash of each kept state's file, by the number of steps done.
    """

    folder: Path
    training: Training
    weights_N: tuple[float, ...]
    states: dict[int, str]

    @property
    def kept(self) -> list[int]:
        """At which steps states are kept, from 0 to the last."""
        return sorted(self.states)

    @property
    def identity(self) -> str:
        """Hash of everything that the record says."""
        return sha256_of(self.folder / RUN_FILE)

    def state(self, step: int) -> State:
        """Read a kept state.

        Raises:
            StoreError: it is missing or damaged.
        """
        return self._read(step)[0]

    def replay(self, begin: int, end: int) -> Iterator[Replayed]:
        """Train again from one kept state to the next, and check the weights after every step.

        Raises:
            NumericsError: a weight differs; names the first step and parameter that do.
            StoreError: a state is missing or damaged.
        """
        before, (after, trace_SM) = self.state(begin), self._read(end)
        for moment in self.training.run(self.weights_N, before):
            self._check(moment.step, digests(self.training), trace_SM[moment.step - begin - 1])
            state = moment.state()
            yield Replayed(before, state, moment.gradient(), moment.norm)
            before = state
            if moment.step == end:
                break
        for name in ("first_P", "second_P"):
            if not torch.equal(getattr(before, name), getattr(after, name)):
                raise NumericsError(f"{self.folder}: the replay's optimizer differs after step {end}")

    def _check(self, step: int, own_M: np.ndarray, recorded_M: np.ndarray) -> None:
        if (differing := np.flatnonzero(own_M != recorded_M)).size:
            name = parameter_names(self.training)[differing[0]]
            raise NumericsError(
                f"{self.folder}: the replay is not the recorded training: after step {step} of "
                f"{len(self.training.steps)}, {name} differs, the first of {differing.size} parameters; replay on the "
                "machine that recorded it, or record it again"
            )

    def _read(self, step: int) -> tuple[State, np.ndarray]:
        path = state_path(self.folder, step)
        if not path.is_file():
            raise StoreError(f"{path}: this state of the training is missing; record the training again")
        if sha256_of(path) != self.states[step]:
            raise StoreError(f"{path}: not the state that was recorded; record the training again")
        try:
            tensors = load_file(path)
            state = State(step, tensors["theta"], tensors["first"], tensors["second"])
            return state, tensors["trace"].numpy()
        except (SafetensorError, KeyError) as error:
            raise StoreError(f"{path}: cannot be read as a state ({error}); record the training again") from error


def record(
    training: Training,
    folder: Path,
    weights_N: Sequence[float] | None = None,
    *,
    disk_bytes: int = DISK_BYTES,
    memory_bytes: int = MEMORY_BYTES,
    report: Report = lambda *_: None,
) -> Record:
    """Train, and keep what a replay needs; go on where an earlier call was interrupted.

    Args:
        training: the learner has the start's weights, and has the final ones afterwards.
        folder: for the record.
        weights_N: of each song; 1 for all by default.
        disk_bytes: what all kept states may take.
        memory_bytes: what the states between two kept ones may take during a replay.

    Raises:
        UsageError: the states do not fit, or not one weight for each song.
        SpecificationMismatch: the folder holds a record of another training.
        StoreError: a state of the interrupted record is missing or damaged.
    """
    weights_N = tuple(1.0 for _ in training.songs) if weights_N is None else tuple(map(float, weights_N))
    if len(weights_N) != len(training.songs):
        raise UsageError(f"{len(training.songs)} songs need as many weights, not {len(weights_N)}")
    start, total = training.start(), len(training.steps)
    every = steps_between(total, start.theta_P.element_size() * start.theta_P.numel(), disk_bytes, memory_bytes)
    wanted = _identity(training) | {"weights": list(weights_N), "every": every}
    states: dict[int, str] = {}
    if (folder / RUN_FILE).exists():
        found = read_run(folder)
        _compare(folder, found, wanted)
        states = {int(step): sha for step, sha in found["states"].items()}
    begun = Record(folder, training, weights_N, states)
    state = begun.state(max(states)) if states else start
    if not states:
        _keep(begun, wanted, start, [])
    trace: list[np.ndarray] = []
    training.set_weights(state.theta_P)
    for moment in training.run(weights_N, state) if state.step < total else ():
        trace.append(digests(training))
        if moment.step % every == 0 or moment.step == total:
            _keep(begun, wanted, moment.state(), trace)
            trace = []
        report(moment.step, total)
    return begun


def open_record(folder: Path, training: Training) -> Record:
    """Open a record of a training that has the same data, start, plan and environment.

    Raises:
        StoreError: no record, an unfinished one, or a state is missing.
        SpecificationMismatch: it is of another training; names the first difference with both values.
    """
    if not (folder / RUN_FILE).is_file():
        raise StoreError(f"{folder}: holds no recorded training (no {RUN_FILE})")
    found = read_run(folder)
    _compare(folder, found, _identity(training))
    try:
        states = {int(step): str(sha) for step, sha in found["states"].items()}
        weights_N = tuple(float(weight) for weight in found["weights"])
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder / RUN_FILE}: damaged ({error!r}); record the training again") from error
    if max(states, default=0) != len(training.steps):
        raise StoreError(
            f"{folder}: the training was recorded up to step {max(states, default=0)} of {len(training.steps)}; "
            "the command that recorded it goes on with it"
        )
    for step in states:
        if not state_path(folder, step).is_file():
            raise StoreError(f"{state_path(folder, step)}: this state of the training is missing; record it again")
    return Record(folder, training, weights_N, states)


def steps_between(total: int, vector_bytes: int, disk_bytes: int, memory_bytes: int) -> int:
    """Choose how many steps lie between two kept states: √S, or what the budgets of disk and memory allow.

    Args:
        total: steps of the training, S.
        vector_bytes: of the weights.

    Raises:
        UsageError: no number fits both budgets.
    """
    fits = [
        every
        for every in range(1, total + 1)
        if kept_bytes(total, every, vector_bytes) <= disk_bytes and held_bytes(every, vector_bytes) <= memory_bytes
    ]
    if not fits:
        root = math.ceil(math.sqrt(total))
        raise UsageError(
            f"states of this training do not fit into {disk_bytes / 1e9:.2f} GB of disk and {memory_bytes / 1e9:.2f} "
            f"GB of memory; {kept_bytes(total, root, vector_bytes) / 1e9:.2f} and "
            f"{held_bytes(root, vector_bytes) / 1e9:.2f} GB would do"
        )
    return min(fits, key=lambda every: abs(every - math.sqrt(total)))


def kept_steps(total: int, every: int) -> list[int]:
    """List the steps after which a state is kept, from 0 to the last."""
    return [*range(0, total, every), total]


def kept_bytes(total: int, every: int, vector_bytes: int) -> int:
    """Bytes of all kept states: each has the weights and both moments."""
    return len(kept_steps(total, every)) * 3 * vector_bytes


def held_bytes(steps: int, vector_bytes: int) -> int:
    """Bytes that a replay holds of so many steps: of each, its state and its gradient."""
    return steps * 4 * vector_bytes


def state_path(folder: Path, step: int) -> Path:
    """Where a kept state lies."""
    return folder / "states" / f"{step:05}.safetensors"


def parameter_names(training: Training) -> list[str]:
    """Names of the parameters, in their order."""
    return [name for name, _ in training.learner.module.named_parameters()]


def digests(training: Training) -> np.ndarray:
    """Hash each parameter's present weights: int64 `[M]`."""
    hashes = [
        hashlib.blake2b(parameter.detach().cpu().contiguous().view(-1).numpy().data, digest_size=8).digest()
        for parameter in training.parameters
    ]
    return np.frombuffer(b"".join(hashes), np.int64)


def environment(training: Training) -> dict[str, str]:
    """Everything besides plan, data and start that the last bits of a training depend on."""
    device = training.learner.device
    return {
        "torch": torch.__version__,
        "transformers": version("transformers"),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": str(torch.get_num_threads()),
    }


def _identity(training: Training) -> dict[str, Any]:
    data = hashlib.sha256()
    for codes_KT, caption in zip(training.songs, training.captions, strict=True):
        data.update(f"{tuple(codes_KT.shape)} {caption!r}".encode() + codes_KT.to(torch.int64).numpy().tobytes())
    start_P = training.start().theta_P
    return {
        "format": FORMAT,
        "plan": json.loads(json.dumps(asdict(training.plan))),
        "steps": len(training.steps),
        "songs": len(training.songs),
        "data_sha256": data.hexdigest(),
        "dtype": str(start_P.dtype),
        "start_sha256": _hash([start_P]),
        "frozen_sha256": _hash(training.learner.frozen.state_dict().values()),
        "environment": environment(training),
    }


def _hash(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().data)
    return digest.hexdigest()


def _keep(begun: Record, wanted: dict[str, Any], state: State, trace: Sequence[np.ndarray]) -> None:
    path = state_path(begun.folder, state.step)
    trace_SM = np.stack(trace) if trace else np.zeros((0, len(begun.training.parameters)), np.int64)
    with atomic_path(path) as temporary:
        save_file(
            {
                "theta": state.theta_P,
                "first": state.first_P,
                "second": state.second_P,
                "trace": torch.from_numpy(trace_SM),
            },
            temporary,
        )
    begun.states[state.step] = sha256_of(path)
    with atomic_path(begun.folder / RUN_FILE) as temporary:
        states = {str(step): sha for step, sha in begun.states.items()}
        temporary.write_text(json.dumps(wanted | {"states": states}, indent=1) + "\n")


def _compare(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        inner = isinstance(value, dict) and isinstance(found.get(name), dict)
        pairs = (
            [(f"{name}.{key}", found[name].get(key), value[key]) for key in value]
            if inner
            else [(name, found.get(name), value)]
        )
        for key, before, now in pairs:
            if before != now:
                raise SpecificationMismatch(
                    f"{folder}: a training with {key} = {_short(before)} was recorded, and this one has {_short(now)}; "
                    "give the same data, start and environment, or record it again"
                )


def _short(value: Any) -> str:
    return text if len(text := str(value)) <= 80 else f"{text[:77]}…"


def read_run(folder: Path) -> dict[str, Any]:
    """Read what a record says of its training.

    Raises:
        StoreError: damaged.
    """
    path = folder / RUN_FILE
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise StoreError(f"{path}: larger than {_MAX_JSON_BYTES >> 20} MiB, which no record is")
    try:
        found = json.loads(read_file(path))
    except ValueError as error:
        raise StoreError(f"{path}: damaged ({error}); record the training again") from error
    if not isinstance(found, dict) or not isinstance(found.get("states"), dict):
        raise StoreError(f"{path}: no record of a training; record it again")
    return found
