"""Derivatives on Ray are those of one process; what is there is used again, and what failed the gate is refused."""

from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from cluster.replay import replay
from lumina_ray.errors import NumericsError, SpecificationMismatch, StoreError, UsageError
from lumina_ray.replay.gate import check_gate
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.record import record
from lumina_ray.replay.reverse import Group, differentiate
from lumina_ray.replay.training import Training
from tests.replay.toy import toy_songs, toy_training

SMOOTH = Plan(seed=3, epochs=6, batch=4, window_frames=24, rate=1e-2, epsilon=1.0, clip=100.0)
GROUPS = {f"song-{i}": Group((song,), ("music",)) for i, song in enumerate(toy_songs())}


def opened(plan: Plan = SMOOTH) -> Training:
    return toy_training(torch.float32, plan)


def test_derivatives_are_those_of_one_process_and_are_not_made_twice(ray_cluster: str, tmp_path: Path) -> None:
    said = StringIO()
    found = replay(partial(opened), tmp_path / "run", GROUPS, console=Console(file=said))
    assert list(found) == list(GROUPS)
    assert "ETA" in said.getvalue()
    assert check_gate(tmp_path / "run").passed
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        own_QN = differentiate(record(opened(), tmp_path / "own"), list(GROUPS.values()))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(np.stack(list(found.values())), own_QN, rtol=1e-4, atol=1e-7)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    # One is lost: it alone is made again, to the same numbers.
    (lost,) = (path for path in files if path.name.startswith("song-4"))
    lost.unlink()
    again = replay(partial(opened), tmp_path / "run", GROUPS, console=Console(file=StringIO()))
    assert all(np.array_equal(again[name], found[name]) for name in GROUPS)
    assert {path for path, time in files.items() if path.stat().st_mtime_ns != time} == {lost}
    lost.write_bytes(b"")
    with pytest.raises(StoreError, match=r"song-4.*damaged"):
        replay(partial(opened), tmp_path / "run", GROUPS, console=Console(file=StringIO()))
    with pytest.raises(SpecificationMismatch, match=r"plan\.seed"):
        replay(partial(opened, Plan(**vars(SMOOTH) | {"seed": 4})), tmp_path / "run", GROUPS)


def test_a_training_that_is_not_smooth_is_refused(ray_cluster: str, tmp_path: Path) -> None:
    rough = Plan(seed=3, epochs=20, batch=1, window_frames=24, rate=0.3, epsilon=1e-8, warmup=0.0)
    with pytest.raises(NumericsError, match=r"do not predict removals: r .* and slope"):
        replay(
            partial(opened, rough), tmp_path / "run", dict(list(GROUPS.items())[:1]), console=Console(file=StringIO())
        )


def test_impossible_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing is asked"):
        replay(partial(opened), tmp_path, {})
    with pytest.raises(UsageError, match="cannot name a file"):
        replay(partial(opened), tmp_path, {"../x": GROUPS["song-0"]})
