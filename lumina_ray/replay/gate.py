"""The smoothness gate: derivatives of a training are used only if they predict what leaving songs out does to it.

Shape legend: R = removals, Q = queries, N = songs.
"""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lumina_ray.errors import NumericsError, StoreError
from lumina_ray.files import atomic_path, read_file, sha256_of
from lumina_ray.replay.record import RUN_FILE, Record, Report
from lumina_ray.replay.reverse import Group, group_losses

GATE_FILE = "gate.json"
REMOVALS = 6
FRACTION = 0.1
MIN_R = 0.95
SLOPES = (0.8, 1.25)


@dataclass(frozen=True)
class Gate:
    """How well derivatives predicted removals.

    Attributes:
        record: identity of the training.
        r: correlation of predicted and actual effects over removals, of each query about its mean.
        slope: by how much actual effects rise for each nat predicted, likewise.
        removals: how many there were.
        queries: how many were asked.
        predicted, actual: effect of each removal, the mean over queries, in nats per code.
    """

    record: str
    r: float
    slope: float
    removals: int
    queries: int
    predicted: tuple[float, ...]
    actual: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether both numbers are good enough."""
        return self.r >= MIN_R and SLOPES[0] <= self.slope <= SLOPES[1]

    def check(self) -> None:
        """Refuse a training whose derivatives predict no removals.

        Raises:
            NumericsError: it failed; names both numbers.
        """
        if not self.passed:
            raise NumericsError(
                f"derivatives of this training do not predict removals: r {self.r:.3f} (at least {MIN_R}) and slope "
                f"{self.slope:.3f} ({SLOPES[0]} to {SLOPES[1]}) over {self.removals} removals and {self.queries} "
                "queries; train with a smaller rate, a larger epsilon, or for fewer steps"
            )


def draw_removals(
    n_songs: int, seed: int, removals: int = REMOVALS, fraction: float = FRACTION
) -> list[tuple[int, ...]]:
    """Draw the songs that each removal leaves out, by position: a tenth of all, and one at least."""
    rng = random.Random(f"gate {seed}")
    return [tuple(sorted(rng.sample(range(n_songs), max(1, round(fraction * n_songs))))) for _ in range(removals)]


def predicted_effects(
    derivatives_QN: np.ndarray, weights_N: Sequence[float], removals: Sequence[Sequence[int]]
) -> np.ndarray:
    """Predict by how much each scalar rises when songs are left out: float64 `[R, Q]`."""
    lost_QN = -derivatives_QN * np.asarray(weights_N)
    return np.stack([lost_QN[:, list(songs)].sum(axis=1) for songs in removals])


def losses_without(
    record: Record,
    groups: Sequence[Group],
    removed: Sequence[int],
    report: Report = lambda *_: None,
) -> np.ndarray:
    """Train without some songs, in the same order and under the same texts, and compute each scalar: float64 `[Q]`."""
    gone = set(removed)
    weights_N = [0.0 if song in gone else weight for song, weight in enumerate(record.weights_N)]
    for moment in record.training.run(weights_N):
        report(moment.step, len(record.training.steps))
    return group_losses(record.training, groups)


def judge(record: str, predicted_RQ: np.ndarray, actual_RQ: np.ndarray) -> Gate:
    """Compare predicted with actual effects.

    Each query counts about its own mean over removals: that all removals hurt says nothing about which songs matter.

    Args:
        record: identity of the training.
    """
    x, y = (effects_RQ - effects_RQ.mean(axis=0) for effects_RQ in (predicted_RQ, actual_RQ))
    xx, yy, xy = float((x**2).sum()), float((y**2).sum()), float((x * y).sum())
    fine = all(map(math.isfinite, (xx, yy, xy))) and xx > 0 and yy > 0
    # No spread, or no number: nothing was predicted.
    r, slope = (xy / math.sqrt(xx * yy), xy / xx) if fine else (0.0, 0.0)
    means = (tuple(effects_RQ.mean(axis=1).tolist()) for effects_RQ in (predicted_RQ, actual_RQ))
    return Gate(record, r, slope, *predicted_RQ.shape, *means)


def run_gate(
    record: Record,
    groups: Sequence[Group],
    derivatives_QN: np.ndarray,
    report: Report = lambda *_: None,
) -> Gate:
    """Leave songs out of a training, compare with what its derivatives predict, and keep the answer in the record.

    Args:
        groups: a few scalars.
        derivatives_QN: of them, from `differentiate`.
        report: called after each step of each training.
    """
    training = record.training
    removals = draw_removals(len(training.songs), training.plan.seed)
    losses_RQ = np.stack([losses_without(record, groups, removed, report) for removed in removals])
    gate = judge_removals(record, groups, derivatives_QN, losses_RQ)
    write_gate(record, gate)
    return gate


def judge_removals(record: Record, groups: Sequence[Group], derivatives_QN: np.ndarray, losses_RQ: np.ndarray) -> Gate:
    """Compare what derivatives predict with the losses of trainings without the songs of `draw_removals`."""
    training = record.training
    training.set_weights(record.state(len(training.steps)).theta_P)
    actual_RQ = losses_RQ - group_losses(training, groups)
    removals = draw_removals(len(training.songs), training.plan.seed)
    return judge(record.identity, predicted_effects(derivatives_QN, record.weights_N, removals), actual_RQ)


def write_gate(record: Record, gate: Gate) -> None:
    """Keep a gate in the record's folder."""
    with atomic_path(record.folder / GATE_FILE) as temporary:
        temporary.write_text(json.dumps(asdict(gate), indent=1) + "\n")


def check_gate(folder: Path) -> Gate:
    """Read the gate of a record's folder, and refuse a training that failed it.

    Raises:
        StoreError: there is none, or it is damaged or of another training.
        NumericsError: the training failed; names both numbers.
    """
    path = folder / GATE_FILE
    if not path.is_file():
        raise StoreError(f"{path}: nobody has checked yet that derivatives of this training predict removals")
    try:
        values = json.loads(read_file(path))
        gate = Gate(**values | {name: tuple(values[name]) for name in ("predicted", "actual")})
        if gate.record != sha256_of(folder / RUN_FILE):
            raise StoreError(f"{path}: the gate of another training; delete it, and check this one")
        gate.check()
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{path}: damaged ({error!r}); delete it, and check the training again") from error
    return gate
