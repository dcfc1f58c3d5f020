"""Another version of the index takes the place of the one that answers: by a config, with nobody noticing."""

import asyncio
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import ray
from ray import serve

from lumina_ray.answers import FingerprintQuery
from lumina_ray.attribution import Report, attribute
from lumina_ray.errors import StoreError
from lumina_ray.index import load_snapshot
from lumina_ray.report import to_json
from serve.app import ServeArgs, Server
from serve.catalog import as_query
from serve.live import LiveIndex
from serve.searcher import Searcher
from serve.shards import Merger
from tests.serve.processes import deploy_config
from tests.serve.test_catalog import BY_FINGERPRINT, fingerprint_of

GOOD, ALSO_GOOD, DAMAGED, FOREIGN, CUT_OFF = ("v0001", "v0002", "v0003", "v0004", "v0005")


@pytest.fixture(scope="module")
def versions(index_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index folder of five versions, of which two can be served."""
    index = tmp_path_factory.mktemp("swap") / "index"
    for version in (GOOD, ALSO_GOOD, DAMAGED, FOREIGN, CUT_OFF):
        shutil.copytree(index_dir / "v0001", index / version)
    with (index / DAMAGED / "P.faiss").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)[0]
        file.seek(-1, 2)
        file.write(bytes([last ^ 1]))
    manifest = json.loads((index / FOREIGN / "manifest.json").read_text())
    (index / FOREIGN / "manifest.json").write_text(json.dumps(manifest | {"specification_sha256": "0" * 64}))
    (index / CUT_OFF / "ids.parquet").unlink()
    return index


@pytest.fixture
def live(versions: Path) -> LiveIndex:
    return LiveIndex(versions / GOOD, load_snapshot(versions / GOOD).specification_sha256)


class Exchanged(LiveIndex):
    """Another version takes the place of the one that answers each time that somebody looks."""

    looked = 0

    @property
    def snapshot(self) -> Any:
        self.looked += 1
        return SimpleNamespace(version=(GOOD, ALSO_GOOD)[self.looked % 2])


@pytest.mark.parametrize("kind", [Searcher, Merger])
def test_a_report_is_verified_on_one_version(kind: type, versions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = kind.__new__(kind)
    searcher._live = Exchanged(versions / GOOD, "")
    for module in ("searcher", "shards"):
        monkeypatch.setattr(f"serve.{module}.verify", lambda *given: given[3:])
    snapshot, folder = asyncio.run(searcher.verify(b"", None, None))
    assert folder == versions / snapshot.version


def follow(live: LiveIndex, version: Any) -> tuple[str, str | None, str | None]:
    """What answers, what is asked for, and the fault, once the thread that loads is done."""

    async def change() -> None:
        await live.follow({"index_version": version} if isinstance(version, str) else version)
        await asyncio.get_running_loop().run_in_executor(live._thread, lambda: None)

    asyncio.run(change())
    return live.snapshot.version, live.wanted, live.fault


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (DAMAGED, "index.unusable"),
        (CUT_OFF, "index.unusable"),
        ("v0099", "index.unusable"),
        ("../index/v0002", "index.unusable"),
        (FOREIGN, "index.specification"),
        ({"index_versions": ALSO_GOOD}, "index.config"),
        ([], "index.config"),
    ],
)
def test_a_bad_version_leaves_the_old_one(live: LiveIndex, bad: Any, fault: str) -> None:
    assert follow(live, ALSO_GOOD) == (ALSO_GOOD, ALSO_GOOD, None)
    snapshot = live.snapshot
    wanted = bad if isinstance(bad, str) else None
    assert follow(live, bad) == (ALSO_GOOD, wanted, fault)
    assert live.snapshot is snapshot
    # Back to what answers: nothing is loaded, and nothing is at fault.
    assert follow(live, ALSO_GOOD) == (ALSO_GOOD, ALSO_GOOD, None)
    assert live.snapshot is snapshot


def test_a_version_that_does_not_find_its_own_songs_is_bad(live: LiveIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(live, GOOD)
    monkeypatch.setattr("serve.live.attribute", lambda *_: 1 / 0)
    assert follow(live, ALSO_GOOD) == (GOOD, ALSO_GOOD, "index.failed")


def test_a_searcher_that_starts_with_a_bad_version_serves_the_one_it_was_built_with(live: LiveIndex) -> None:
    assert follow(live, DAMAGED) == (GOOD, DAMAGED, "index.unusable")


def test_a_searcher_with_nothing_to_serve_does_not_start(versions: Path) -> None:
    live = LiveIndex(versions / DAMAGED, load_snapshot(versions / GOOD).specification_sha256)
    with pytest.raises(StoreError, match=r"P\.faiss"):
        follow(live, DAMAGED)


def test_serve_does_not_wait_for_another_version(live: LiveIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(live, GOOD)
    loading, load = threading.Event(), live._load

    def slowly(version: str):
        loading.wait(60)
        return load(version)

    monkeypatch.setattr(live, "_load", slowly)

    async def change() -> str:
        await live.follow({"index_version": ALSO_GOOD})
        meanwhile = live.snapshot.version
        loading.set()
        await asyncio.get_running_loop().run_in_executor(live._thread, lambda: None)
        return meanwhile

    assert asyncio.run(change()) == GOOD
    assert live.snapshot.version == ALSO_GOOD


Deploy = Callable[[str], None]


@pytest.fixture
def deploy(server: Server, serve_args: ServeArgs, versions: Path) -> Iterator[Deploy]:
    """Deploys a config that asks for a version, as `serve deploy` does, beside the session's endpoint."""
    arguments = {"index": str(versions / GOOD), "model": serve_args.model, "open_access": True}
    # The session's endpoint has the CPUs.
    free = {"ray_actor_options": {"num_cpus": 0}}

    def deploy(version: str) -> None:
        searcher = {"name": "Searcher", "user_config": {"index_version": version}}
        application = {
            "name": "swap",
            "route_prefix": "/swap",
            "import_path": "serve.app:build",
            "args": arguments,
            "deployments": [free | {"name": name} for name in ("Gateway", "Fingerprinter")] + [free | searcher],
        }
        deploy_config(application)

    yield deploy
    serve.delete("swap")


def searchers() -> set[str]:
    actors = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in actors if re.search("swap#Searcher#", actor["name"])}


def refused_metric() -> float:
    (node,) = ray.nodes()
    text = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics").text
    lines = [line for line in text.splitlines() if re.match(r"ray_lumina_serve_index_refused{.*swap", line)]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


@pytest.mark.timeout(300)
def test_a_config_exchanges_the_index_and_no_request_is_lost(deploy: Deploy, server: Server, versions: Path) -> None:
    snapshot = load_snapshot(versions / GOOD)
    query = fingerprint_of(snapshot, 3)
    expected = {
        version: to_json(
            attribute(
                as_query(FingerprintQuery(**query), load_snapshot(versions / version)),
                load_snapshot(versions / version),
            )
        )
        for version in (GOOD, ALSO_GOOD)
    }
    address = f"{server.address}/swap"

    def until(condition: Callable[[dict], bool]) -> dict:
        end_s = time.monotonic() + 120
        while True:
            response = httpx.get(f"{address}/readyz", timeout=120, trust_env=False)
            if response.status_code == 200 and condition(response.json()):
                return response.json()
            assert time.monotonic() < end_s, response.text
            time.sleep(0.2)

    deploy(GOOD)
    until(lambda facts: facts["index_version"] == GOOD)
    replicas, ended = searchers(), threading.Event()

    def ask() -> list[httpx.Response]:
        answers = []
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not ended.is_set():
                answers.append(client.post(address + BY_FINGERPRINT, json=query))
        return answers

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            time.sleep(1)
            deploy(ALSO_GOOD)
            until(lambda facts: facts["index_version"] == ALSO_GOOD)
            time.sleep(1)
            deploy(DAMAGED)
            facts = until(lambda facts: facts["index_fault"] is not None)
            time.sleep(1)
        finally:
            ended.set()
    for asked in asking:
        answers = asked.result()
        assert {answer.status_code for answer in answers} == {200}
        named = [Report.model_validate_json(answer.content).basis.index_version for answer in answers]
        # Each answer is of one version as a whole, and nobody is answered by the old one after the new one.
        assert all(answer.text == expected[version] for answer, version in zip(answers, named, strict=True))
        assert named == sorted(named)
        assert set(named) == {GOOD, ALSO_GOOD}
    assert (facts["index_version"], facts["index_wanted"], facts["index_fault"]) == (
        ALSO_GOOD,
        DAMAGED,
        "index.unusable",
    )
    assert searchers() == replicas
    live = {v["version"]: v["live"] for v in httpx.get(f"{address}/v1/indexes", trust_env=False).json()["indexes"]}
    assert live[ALSO_GOOD]
    assert sum(live.values()) == 1
    end_s = time.monotonic() + 60
    while refused_metric() != 1:
        assert time.monotonic() < end_s
        time.sleep(1)
