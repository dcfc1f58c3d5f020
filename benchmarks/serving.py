"""Measures the endpoint under load, and the cost of Ray Serve over a plain FastAPI process that does equal work.

    make bench-serving

Both servers run on this machine at once, and are loaded in turns at equal rates: a fixed rate of arrivals that does not
wait for answers (`benchmarks.open_loop`). Rates are fractions of the rate that one client gets from the plain process
when it waits for each answer. Two kinds of requests separate the model's time from the search's: an audio file of 5 s,
and a fingerprint. Three longer runs have one rate: the first is undisturbed, the second asks for health 20 times per
second, and during the third a config swaps another version of the index in. The index has 99 songs with random vectors
of the bundled model's default fingerprint, and 50 controls. Writes results/serving.json.
"""

import asyncio
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
import typer
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ApplicationStatus, ServeDeploySchema
from rich.console import Console
from rich.table import Table

from benchmarks.environment import describe_machine
from benchmarks.open_loop import AtRate, knee, offer, summarise
from benchmarks.processes import proportional_gib
from benchmarks.search import Mixture
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.fingerprint import Specification
from lumina_ray.index import build_index
from lumina_ray.model import open_model
from lumina_ray.store import Run, Store, begin_run, read_store, store_schema
from lumina_ray.store.schema import norm_column
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, Channel
from serve.app import ServeArgs, start
from serve.deployments import SEARCHER
from serve.local import APPLICATION

RESULTS = Path(__file__).parent / "results"
MODEL, AUDIO_S = "nano", 5.0
FIRST, SECOND = "v0001", "v0002"
# Rates of arrivals, as fractions of the rate that one client gets when it waits for each answer.
LOADS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5)
# The fraction for runs with a disturbance; it leaves both servers room for that.
DISTURBED_LOAD = 0.125
_TIMEOUT_S, _STARTED_WITHIN_S = 60.0, 180.0


@dataclass(frozen=True)
class Scenario:
    """A kind of request.

    Attributes:
        request: function of i; returns the arguments with which `httpx` posts the i-th request.
    """

    name: str
    path: str
    request: Callable[[int], dict[str, Any]]


def make_index(folder: Path, songs: int, controls: int) -> tuple[Path, dict[Channel, np.ndarray]]:
    """Make a calibrated index of random vectors; returns its folder and the vectors."""
    specification = Specification.for_model(open_model(MODEL), "influence")
    worlds = {c: Mixture(songs, d) for c, d in specification.dims.items()}
    vectors = {c: world.music(songs, seed=ord(c)) for c, world in worlds.items()}
    store = _write_store(folder / "catalog", specification, vectors)
    others = {c: world.music(controls, seed=ord(c) + 1000) for c, world in worlds.items()}
    write_calibration(calibrate_store(store, _write_store(folder / "controls", specification, others)), store.path)
    build_index(store, folder / "index")
    return folder / "index", vectors


def _write_store(path: Path, specification: Specification, vectors: dict[Channel, np.ndarray]) -> Store:
    n = len(next(iter(vectors.values())))
    ids = [f"{path.name}-{i:05d}" for i in range(n)]
    schema = store_schema(specification)
    same: dict[str, Any] = dict.fromkeys(METADATA_COLUMNS) | {"error_code": None, "error": None}
    same |= {"status": "ok", "duration_s": 30.0, "codes": b"", "chunk_frames": [500], "chunk_starts_s": [0.0]}
    columns = {name: [value] * n for name, value in same.items()}
    columns |= dict.fromkeys(("song_id", "path", "title", "audio_sha256", "codes_sha256"), ids)
    columns |= {c: list(of_channel) for c, of_channel in vectors.items()}
    columns |= {norm_column(c): [1.0] * n for c in specification.channels}
    begin_run(path, Run("0" * 64, n, MODEL, specification, {}))
    (path / "data").mkdir()
    table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in schema.names}, schema=schema)
    pq.write_table(table, path / "data" / "part-0.parquet")
    (path / "_SUCCESS").touch()
    return read_store(path)


def scenarios(index: Path, vectors: dict[Channel, np.ndarray]) -> tuple[Scenario, Scenario]:
    """Two kinds of requests: audio, which the model must fingerprint, and fingerprints that are half a song."""
    files = [_sound(seed) for seed in range(8)]
    manifest = json.loads((index / FIRST / "manifest.json").read_text("utf-8"))
    rng = np.random.default_rng(0)
    bodies = []
    for i in range(16):
        channels = {}
        for channel, vectors_ND in vectors.items():
            noise_D = rng.normal(size=vectors_ND.shape[1])
            both_D = vectors_ND[rng.integers(len(vectors_ND))] + noise_D / np.linalg.norm(noise_D)
            channels[channel] = (both_D / np.linalg.norm(both_D)).astype(np.float32).tolist()
        fingerprint = {
            "specification_sha256": manifest["specification_sha256"],
            "audio_sha256": f"{i:064x}",
            "codes_sha256": f"{i:064x}",
            "duration_s": 30.0,
            "channels": channels,
        }
        bodies.append(json.dumps(fingerprint).encode())
    return (
        Scenario("extraction", "/v1/attributions", lambda i: {"files": {"audio": ("query.flac", files[i % 8])}}),
        Scenario(
            "search",
            "/v1/attributions/by-fingerprint",
            lambda i: {"content": bodies[i % 16], "headers": {"Content-Type": "application/json"}},
        ),
    )


def _sound(seed: int) -> bytes:
    """Make a FLAC file of a few tones and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(AUDIO_S * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tones = sum(0.1 * np.sin(2 * np.pi * f * t) for f in rng.uniform(80, 3000, 4))
    file = io.BytesIO()
    soundfile.write(file, tones + 0.02 * rng.normal(size=len(t)), SAMPLE_RATE_HZ, format="FLAC")
    return file.getvalue()


@contextmanager
def plain_server(index: Path) -> Iterator[tuple[str, int]]:
    """Start the plain server, wait until it is ready, and yield its address and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Ray sets this for a worker with one CPU.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.plain_server", index, str(port)], env=environment)
    try:
        address, deadline_s = f"http://127.0.0.1:{port}", time.monotonic() + _STARTED_WITHIN_S
        while process.poll() is None and time.monotonic() < deadline_s:
            try:
                httpx.get(f"{address}/readyz", trust_env=False).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(0.2)
        else:
            raise RuntimeError("the plain server did not start")
        yield address, process.pid
    finally:
        process.terminate()
        process.wait()


async def load(address: str, scenario: Scenario, rate: float, seconds: float) -> list:
    """Send requests at a rate, and return their outcomes."""
    async with _client(address) as client:
        return await offer(lambda i: _status(client, scenario, i), rate, seconds)


def _client(address: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=address, limits=limits, timeout=_TIMEOUT_S, trust_env=False)


async def _status(client: httpx.AsyncClient, scenario: Scenario, i: int) -> int:
    try:
        return (await client.post(scenario.path, **scenario.request(i))).status_code
    except httpx.TransportError:
        return 0


async def closed_loop_rate(address: str, scenario: Scenario, seconds: float) -> float:
    """Answers per second to one client that waits for each answer."""
    async with _client(address) as client:
        await _status(client, scenario, 0)
        begin_s, n = time.perf_counter(), 0
        while time.perf_counter() - begin_s < seconds:
            if await _status(client, scenario, n) != 200:
                raise RuntimeError(f"{address}: {scenario.name} cannot be answered")
            n += 1
        return n / (time.perf_counter() - begin_s)


async def ask_for_health(address: str, seconds: float) -> None:
    """Ask both health endpoints ten times per second each."""

    async def both(client: httpx.AsyncClient) -> int:
        answers = await asyncio.gather(*(client.get(path) for path in ("/healthz", "/readyz")))
        return max(answer.status_code for answer in answers)

    async with _client(address) as client:
        await offer(lambda _: both(client), 10.0, seconds)


def publish_copy(index: Path) -> None:
    """Publish a copy of an index's first version as its second."""
    shutil.copytree(index / FIRST, index / ".copy")
    (index / ".copy").rename(index / SECOND)


def deploy(index: Path, version: str) -> None:
    """Deploy a config that names the version of the index, as `serve deploy` does; returns at once."""
    application = {
        "name": APPLICATION,
        "route_prefix": "/",
        "import_path": "serve.app:build",
        "args": {"index": str(index / FIRST), "open_access": True},
        "deployments": [{"name": SEARCHER.name, "user_config": {"index_version": version}}],
    }
    client = _get_global_client()
    assert client is not None
    client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}))


def deploy_first(index: Path) -> None:
    """Deploy the first version by a config and wait, so that a later config changes nothing but the version."""
    deploy(index, FIRST)
    deadline_s = time.monotonic() + _STARTED_WITHIN_S
    while serve.status().applications[APPLICATION].status != ApplicationStatus.RUNNING:
        if time.monotonic() > deadline_s:
            raise RuntimeError("the application was not deployed from a config")
        time.sleep(0.2)


async def disturbed(
    address: str, scenario: Scenario, rate: float, seconds: float, disturb: Callable[[], Awaitable]
) -> AtRate:
    """Measure a load during which something else happens, after a quarter of the time."""

    async def later() -> None:
        await asyncio.sleep(seconds / 4)
        await disturb()

    outcomes, _ = await asyncio.gather(load(address, scenario, rate, seconds), later())
    return summarise(rate, outcomes)


def print_table(console: Console, name: str, servers: dict[str, list[AtRate]]) -> None:
    """Print the measurements of one scenario."""
    table = Table(
        "", "requests/s", "p50 ms", "p95 ms", "p99 ms", "max ms", "goodput/s", "rejected", "failed", "memory GiB",
        title=name,
    )  # fmt: skip
    for server, measured in servers.items():
        for m in measured:
            times = ("–" if p is None else f"{p:.0f}" for p in (m.p50_ms, m.p95_ms, m.p99_ms, m.max_ms))
            memory = "" if m.memory_gib is None else f"{m.memory_gib:.2f}"
            fractions = (f"{m.rejected:.1%}", f"{m.failed:.1%}")
            table.add_row(server, f"{m.rate:.1f}", *times, f"{m.goodput:.1f}", *fractions, memory)
    console.print(table)


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of load at each rate.")] = 8.0,
    songs: Annotated[int, typer.Option(min=20)] = 99,
    load_of: Annotated[
        list[float] | None, typer.Option(help="Fraction of one waiting client's rate; may be given several times.")
    ] = None,
    results: Annotated[Path, typer.Option(help="Folder that serving.json is written to.")] = RESULTS,
) -> None:
    """Measure on this machine and print both servers' latencies."""
    console, machine = Console(width=120), describe_machine()
    summary: dict[str, Any] = {"environment": machine, "audio_s": AUDIO_S, "songs": songs, "scenarios": {}}
    with tempfile.TemporaryDirectory() as name:
        index, vectors = make_index(Path(name), songs, controls=50)
        args = ServeArgs(index=index, open_access=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        with start(args, port=port, blocking=False) as server, plain_server(index) as (plain, plain_pid):
            # Each server's memory leaves out the processes of the other.
            servers = {
                "Serve": (server.address, lambda: proportional_gib(os.getpid(), without={os.getpid(), plain_pid})),
                "plain FastAPI": (plain, lambda: proportional_gib(plain_pid)),
            }
            asked = scenarios(index, vectors)
            alone = {s.name: asyncio.run(closed_loop_rate(plain, s, min(seconds, 4.0))) for s in asked}
            for scenario in asked:
                measured: dict[str, list[AtRate]] = {server: [] for server in servers}
                for fraction in sorted(load_of or LOADS):
                    rate = fraction * alone[scenario.name]
                    for server_name, (address, memory) in servers.items():
                        outcomes = asyncio.run(load(address, scenario, rate, seconds))
                        measured[server_name].append(summarise(rate, outcomes, memory()))
                print_table(console, scenario.name, measured)
                first, plain_first = (measured[server_name][0] for server_name in servers)
                knees = {server_name: knee(of_server) for server_name, of_server in measured.items()}
                of_serve, of_plain = knees.values()
                summary["scenarios"][scenario.name] = {
                    "rates": {
                        server_name: [asdict(m) for m in of_server] for server_name, of_server in measured.items()
                    },
                    "waiting_client_rate": alone[scenario.name],
                    "knee": knees,
                    "knee_ratio": of_serve / of_plain if of_serve and of_plain else None,
                    "p50_ratio": first.p50_ms / plain_first.p50_ms if first.p50_ms and plain_first.p50_ms else None,
                }
                console.print(
                    f"{scenario.name}: knee {knees}; Serve's median over the plain process's at the lowest rate: "
                    f"{summary['scenarios'][scenario.name]['p50_ratio']}"
                )
            search, rate = asked[1], DISTURBED_LOAD * alone["search"]
            publish_copy(index)
            deploy_first(index)
            asyncio.run(closed_loop_rate(server.address, search, min(seconds, 4.0)))
            disturbances: dict[str, Callable[[], Awaitable]] = {
                "undisturbed": lambda: asyncio.sleep(0),
                "health asked for": lambda: ask_for_health(server.address, 2 * seconds),
                "index swapped": lambda: asyncio.to_thread(deploy, index, SECOND),
            }
            during = {
                what: asyncio.run(disturbed(server.address, search, rate, 4 * seconds, disturb))
                for what, disturb in disturbances.items()
            }
            version = httpx.get(f"{server.address}/readyz", timeout=_TIMEOUT_S, trust_env=False).json()["index_version"]
            print_table(console, "search, with something else going on", {what: [m] for what, m in during.items()})
            summary["disturbed"] = {what: asdict(m) for what, m in during.items()} | {"index_version_after": version}
    results.mkdir(exist_ok=True)
    (results / "serving.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
