"""An index spread over shards: the same answers, one version at a time, and none without a part that is missing."""

import asyncio
import inspect
import os
import pickle
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from ray import serve
from ray.exceptions import NodeDiedError, RayActorError
from ray.serve.exceptions import BackPressureError

from lumina_ray.answers import FingerprintQuery
from lumina_ray.attribution import Report, attribute
from lumina_ray.errors import StoreError
from lumina_ray.index import Shard, load_snapshot
from lumina_ray.report import from_json, sentences, to_json
from serve import catalog
from serve.app import ServeArgs, Server
from serve.problems import Problem
from serve.schemas import shard_name
from serve.shards import Merger, ShardHolder
from tests.cluster.processes import processes
from tests.serve.app import Method
from tests.serve.conftest import N_SONGS
from tests.serve.problems import assert_problem
from tests.serve.processes import deploy_config, wait_until_running
from tests.serve.test_catalog import BY_FINGERPRINT, fingerprint_of

OLD, NEW = "v0001", "v0002"
OF = 3


class Handle:
    """A replica in this process, which can be lost."""

    def __init__(self, replica: ShardHolder) -> None:
        self.replica = replica
        self.lost: Exception | None = None
        self.slow = False
        self.cancelled = 0

    def __getattr__(self, name: str) -> Method:
        async def call(*arguments: Any) -> Any:
            if self.lost:
                raise self.lost
            if self.slow:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            # What travels between replicas is pickled.
            outcome = getattr(self.replica, name)(*pickle.loads(pickle.dumps(arguments)))
            return pickle.loads(pickle.dumps(await outcome if inspect.isawaitable(outcome) else outcome))

        return Method(call)


class Sharded:
    """A merger and its shards in this process."""

    def __init__(self, index: Path) -> None:
        self.whole = load_snapshot(index / OLD)
        built = (str(index / OLD), self.whole.specification_sha256)
        self.shards = [Handle(ShardHolder(*built, Shard(i, i + 1, OF))) for i in range(OF)]
        self.merger = Merger(*built, self.shards)  # type: ignore[arg-type]
        self.follow(OLD, self.merger, *(shard.replica for shard in self.shards))

    def follow(self, version: str, *replicas: Merger | ShardHolder) -> None:
        async def change() -> None:
            for replica in replicas:
                await replica.reconfigure({"index_version": version})
                await asyncio.get_running_loop().run_in_executor(replica._live._thread, lambda: None)

        asyncio.run(change())

    def ask(self, method: str, *arguments: Any) -> Any:
        return asyncio.run(getattr(self.merger, method)(*arguments))


@pytest.fixture(scope="module")
def index(index_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "index"
    for version in (OLD, NEW):
        shutil.copytree(index_dir / OLD, folder / version)
    return folder


@pytest.fixture
def sharded(index: Path) -> Sharded:
    return Sharded(index)


@pytest.fixture
def query(sharded: Sharded) -> FingerprintQuery:
    return FingerprintQuery(**fingerprint_of(sharded.whole, 3))


def version_of(report: str) -> str:
    return from_json(report).basis.index_version


@pytest.mark.parametrize("top_k", [1, 7, 256])
def test_a_report_is_that_of_one_piece(sharded: Sharded, query: FingerprintQuery, top_k: int) -> None:
    asked = catalog.as_query(query, sharded.whole)
    expected = to_json(attribute(asked, sharded.whole, "calibrated", top_k, 3))
    assert sharded.ask("attribute", asked, "calibrated", top_k, 3, False) == expected
    assert sharded.ask("attribute_vectors", query, "calibrated", top_k, 3, True) == expected
    wrong = query.model_copy(update={"specification_sha256": "0" * 64})
    assert sharded.ask("attribute_vectors", wrong, "v8", top_k, 3, False).code == "fingerprint.specification"


def test_the_catalog_is_that_of_one_piece(sharded: Sharded) -> None:
    whole = sharded.whole
    for after, limit in (("", 4), ("song-0007", 10), ("song-0020", 100), ("song-0024", 5)):
        assert sharded.ask("songs", after, limit) == catalog.list_songs(whole, after, limit)
    for song in ("song-0000", "song-0013", "song-0024"):
        assert sharded.ask("song", song) == catalog.find_song(whole, song)
        for channel in ("P", "M"):
            assert sharded.ask("nearest", song, channel, 6) == catalog.nearest_songs(whole, song, channel, 6)
    for refused in (sharded.ask("song", "nothing"), sharded.ask("nearest", "nothing", "P", 3)):
        assert (refused.status, refused.code) == (404, "song.unknown")
    assert {version.version: version.live for version in sharded.ask("versions").indexes} == {OLD: True, NEW: False}


@pytest.mark.parametrize("how", [RayActorError(), NodeDiedError("gone"), StoreError("damaged"), TimeoutError()])
def test_a_missing_shard_is_503_unless_the_answer_may_be_partial(
    sharded: Sharded, query: FingerprintQuery, how: Exception
) -> None:
    sharded.shards[1].lost = how
    for method, arguments in (
        ("attribute_vectors", (query, "v8", 9, 9, False)),
        ("songs", ("", 5)),
        ("song", ("song-0001",)),
        ("describe", ()),
    ):
        refused = sharded.ask(method, *arguments)
        assert isinstance(refused, Problem)
        assert (refused.status, refused.code) == (503, "server.shard_missing")
        assert refused.headers is not None
    missing = Shard(1, 2, OF).rows(N_SONGS)
    report = from_json(sharded.ask("attribute_vectors", query, "v8", 9, 9, True))
    assert report.format_version == 7
    assert report.unsearched is not None
    assert [(part.first_row, part.n_songs) for part in report.unsearched] == [(missing.start, len(missing))]
    gone = {sharded.whole.songs["song_id"][row].as_py() for row in missing}
    for channel in report.near_copies.values():
        assert channel.searched == N_SONGS - len(missing)
        told = sentences.warnings(report, channel)
        assert told[0].startswith(f"{len(missing)} of the catalog's {N_SONGS} songs were not searched")
        assert not gone & {candidate.song.song_id for candidate in channel.candidates}
    for shard in sharded.shards:
        shard.lost = how
    assert sharded.ask("attribute_vectors", query, "v8", 9, 9, True).code == "server.shard_missing"


def test_what_a_slow_shard_was_asked_is_cancelled(
    sharded: Sharded, query: FingerprintQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.shards._PATIENCE_S", 0.2)
    sharded.shards[1].slow = True
    assert sharded.ask("attribute_vectors", query, "v8", 9, 9, False).code == "server.shard_missing"
    assert sharded.shards[1].cancelled == 1


def test_a_full_queue_is_not_a_missing_shard(sharded: Sharded, query: FingerprintQuery) -> None:
    sharded.shards[0].lost = BackPressureError(num_queued_requests=32, max_queued_requests=32)
    assert sharded.ask("attribute_vectors", query, "v8", 9, 9, True).code == "server.busy"


def test_every_answer_is_of_a_version_that_all_shards_hold(sharded: Sharded, query: FingerprintQuery) -> None:
    def answering() -> tuple[str, str]:
        report = sharded.ask("attribute_vectors", query, "v8", 9, 9, False)
        return version_of(report), sharded.ask("describe")["index_version"]

    # In whatever order they come to know the new one.
    for replica in (sharded.shards[2].replica, sharded.merger, sharded.shards[0].replica):
        sharded.follow(NEW, replica)
        assert answering() == (OLD, OLD)
    sharded.follow(NEW, sharded.shards[1].replica)
    assert answering() == (NEW, NEW)
    assert sharded.ask("songs", "", 3).index_version == NEW
    sharded.follow("v0099", sharded.shards[1].replica)
    assert answering() == (NEW, NEW)
    assert sharded.ask("describe")["index_fault"] == "index.unusable"
    # Back to the one before, which nobody has to load again.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.live.load_snapshot", lambda *_: 1 / 0)
        sharded.follow(OLD, sharded.merger, *(shard.replica for shard in sharded.shards[::2]))
    assert {shard.replica.describe()[1] for shard in sharded.shards[::2]} == {None}
    assert answering() == (NEW, NEW)


@pytest.fixture
def address(server: Server, serve_args: ServeArgs, index: Path) -> Iterator[str]:
    """A real sharded endpoint beside the session's, which has the CPUs."""
    names = ["Gateway", "Fingerprinter", "Searcher", *map(shard_name, range(2))]
    application = {
        "name": "sharded",
        "route_prefix": "/sharded",
        "import_path": "serve.app:build",
        "args": {"index": str(index / OLD), "model": serve_args.model, "open_access": True, "shards": 2},
        "deployments": [{"name": name, "ray_actor_options": {"num_cpus": 0}} for name in names],
    }
    deploy_config(application)
    wait_until_running("sharded")
    yield f"{server.address}/sharded"
    serve.delete("sharded")


def test_real_deployments_answer_and_miss_a_shard(address: str, index: Path) -> None:
    whole = load_snapshot(index / OLD)
    query = fingerprint_of(whole, 3)

    def ask(**options: str) -> httpx.Response:
        return httpx.post(address + BY_FINGERPRINT, json=query, params=options, timeout=60, trust_env=False)

    expected = to_json(attribute(catalog.as_query(FingerprintQuery(**query), whole), whole))
    assert ask().text == expected
    assert httpx.get(f"{address}/readyz", timeout=30, trust_env=False).json()["index_version"] == OLD
    # Alive, and does not answer: one that died would be back before long.
    (stopped,) = processes("ray::ServeReplica:sharded:Shard-1")
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert_problem(ask(), 503, "server.shard_missing")
        partial = Report.model_validate_json(ask(partial="true").content)
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert partial.unsearched is not None
    assert partial.unsearched[0].first_row == N_SONGS // 2
    assert ask().text == expected
