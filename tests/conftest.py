"""Fixtures that several packages' tests share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# Before anything imports Triton, which reads it then: without a GPU its kernels are interpreted.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from tests.s3 import CREDENTIALS, S3, s3_server

if TYPE_CHECKING:
    from tests.small_catalog import SmallCatalog

# How long an example takes is no property of what is tested, and on a busy machine anything. Property tests draw the
# same examples each time, so that chance says nothing about a change; `make fuzz` draws others.
settings.register_profile("same examples", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None)
settings.load_profile("same examples")

# Of no use anywhere. Before anything starts a process, as Ray's take over the environment of the first. What is down
# for good need not be asked for minutes.
os.environ.update(CREDENTIALS | {"AWS_MAX_ATTEMPTS": "4"})
# Ray's workers give way to other processes. Here they are what tests wait for, while others run in another process.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray gives its agent 15 s to start, which a machine that runs other tests may not have.
os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")

_TESTS = Path(__file__).parent
# They start processes, Ray among them, or compute for long: what is fast should fail first. Of two processes, one
# begins with the longest; the second longest comes before what can be shared out in the end.
_SLOW = ("serve", "replay", "fingerprint", "truth", "model", "cli", "training", "examples", "cluster")
# `make check` leaves these folders and files out: they start Ray, a browser or a training, render music, or take a core
# for longer than several other folders together.
_NOT_IN_CHECK = (
    *("cluster/", "serve/", "client/", "training/", "demo/", "docs/test_walks.py", "examples/"),
    *("cli/test_contract.py", "cli/test_attribute.py", "cli/test_unlearning.py", "cli/test_statistics.py"),
    *("test_front_door.py", "unlearning/test_unlearn.py"),
    *("fingerprint/test_precision.py", "fingerprint/test_memory.py", "fingerprint/test_batching.py"),
    *("fingerprint/test_sketches.py", "calibration/test_near_silence.py", "model/test_float16.py"),
    *("model/test_sampling.py", "index/test_kinds.py", "truth/test_method_rows.py", "cli/test_any_input.py"),
    *("replay/test_reverse.py", "replay/test_run.py", "truth/test_factorial_set.py", "evidence/test_search_audio.py"),
    *("fingerprint/test_latents.py", "fingerprint/test_companion.py", "fingerprint/test_embeddings.py"),
    *("model/diffusion/", "embedding/test_clap.py", "symbolic/test_card.py", "benchmarks/test_symbolic_tables.py"),
    *("gradients/test_capture_latents.py",),
    # They wait for time limits and for servers more than they compute.
    *("catalog/test_durations.py", "store/test_storage.py", "store/test_bucket_songs.py", "store/test_bucket_store.py"),
    *("store/test_bucket_index.py", "store/test_google.py", "store/test_lease.py"),
)
# Most of the tests of these share the Ray of `ray_cluster`, but for those of a file with nodes of its own.
_ON_ONE_RAY = {"tests/cluster/": "cluster", "tests/examples/": "cluster", "tests/serve/": "serve"}
_ON_THEIR_OWN = "tests/cluster/test_chaos_cluster.py"


class _Together(LoadScopeScheduling):
    """Gives the tests of a file, or those of a folder that share a Ray, to one of several processes."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        shared = next((scope for folder, scope in _ON_ONE_RAY.items() if file.startswith(folder)), None)
        return shared if shared and file != _ON_THEIR_OWN else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Together:
    """For `pytest -n`; its own `--dist loadgroup` does nothing under pytest 9.2."""
    # In the order of `pytest_collection_modifyitems`, and not by the number of tests.
    config.option.loadscopereorder = False
    return _Together(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--check", action="store_true", help="Run the tests of `make check` alone.")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files out before they are imported, which takes as long as many tests."""
    file = collection_path.is_file() and collection_path.relative_to(_TESTS).as_posix()
    return True if config.getoption("check") and file and file.startswith(_NOT_IN_CHECK) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow packages last, in this order."""
    assert not (gone := [name for name in _NOT_IN_CHECK if not (_TESTS / name).exists()]), f"no such tests: {gone}"
    ranks = {name: rank for rank, name in enumerate(_SLOW, start=1)}
    if os.environ.get("PYTEST_XDIST_WORKER"):
        ranks["cluster"] = -1

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(_TESTS)
        return len(_SLOW) if f"tests/{path.as_posix()}" == _ON_THEIR_OWN else ranks.get(path.parts[0], 0)

    items.sort(key=rank)


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


@pytest.fixture(scope="session")
def small_catalog(tmp_path_factory: pytest.TempPathFactory) -> "SmallCatalog":
    """A calibrated store and an index of a few tones under nano."""
    from tests.small_catalog import make_small_catalog

    return make_small_catalog(tmp_path_factory.mktemp("small"))
