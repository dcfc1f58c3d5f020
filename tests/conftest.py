"""Fixtures that several packages' tests share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Before anything imports Triton, which reads it then: without a GPU its kernels are interpreted.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from tests.s3 import CREDENTIALS, S3, s3_server

# How long an example takes is no property of what is tested, and on a busy machine anything.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Of no use anywhere. Before anything starts a process, as Ray's take over the environment of the first. What is down
# for good need not be asked for minutes.
os.environ.update(CREDENTIALS | {"AWS_MAX_ATTEMPTS": "4"})
# Ray's workers give way to other processes. Here they are what tests wait for, while others run in another process.
os.environ.setdefault("RAY_worker_niceness", "0")

# They start processes, Ray among them: what is fast should fail first.
_SLOW = ("model", "cli", "cluster", "serve", "training")
# Most of their tests share the Ray of `ray_cluster`, but for those of a file with nodes of its own: with two Rays all
# the time, two cores are too slow for what waits for an answer.
_ON_ONE_RAY = ("tests/cluster/", "tests/serve/")
_ON_THEIR_OWN = "tests/cluster/test_chaos_cluster.py"


class _Together(LoadScopeScheduling):
    """Of several processes, let one run the tests of a file, or those that share a Ray; what has most tests, first."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "ray" if file.startswith(_ON_ONE_RAY) and file != _ON_THEIR_OWN else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Together:
    """For `pytest -n`; its own `--dist loadgroup` does nothing under pytest 9.2."""
    return _Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow packages last, in this order."""
    ranks = {name: rank for rank, name in enumerate(_SLOW, start=1)}
    items.sort(key=lambda item: ranks.get(item.path.relative_to(Path(__file__).parent).parts[0], 0))


@pytest.fixture(scope="session")
def tiny_model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random MusicGen in the transformers format."""
    # Not above: it takes seconds, also in the process that only hands out the tests.
    from tests.tiny_model import export_tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    export_tiny_model(folder)
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A real S3-compatible server on this machine, with an empty bucket."""
    with s3_server() as server:
        yield server


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """One real Ray on this machine for all tests: a laptop's two CPUs and no GPU. Gives its address."""
    import ray

    from cluster.session import start_local

    start_local(num_cpus=2, num_gpus=0)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
