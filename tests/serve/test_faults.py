"""Clients that mean ill, and replicas that die: what it costs the others."""

import asyncio
import functools
import http.client
import io
import itertools
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from ray.exceptions import RayError

from lumina_ray.errors import AudioError
from lumina_ray.index import Snapshot
from serve.app import ServeArgs, Server
from serve.decoding import Decoders
from serve.jobs import Jobs
from serve.problems import Problem
from tests.serve.app import Deployment
from tests.serve.conftest import beside, fingerprint_of, sound, wav
from tests.serve.problems import assert_problem
from tests.serve.processes import kill, pids, resident_bytes
from tests.serve.test_fuzz import peak_bytes

URL = "/v1/attributions"
PART = b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'


def begin(address: str, **headers: str) -> http.client.HTTPConnection:
    """A request that has sent its headers."""
    url = httpx.URL(address)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=60)
    connection.putrequest("POST", url.path.rstrip("/") + URL)
    connection.putheader("Content-Type", "multipart/form-data; boundary=B")
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    return connection


def refusal(connection: http.client.HTTPConnection) -> tuple[int, str]:
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())["code"]


@pytest.fixture
def hurried(server: Server, serve_args: ServeArgs) -> Iterator[str]:
    """A second gateway, that waits for an upload for two seconds. Gives its address."""
    with beside(server, serve_args, "hurried", request_timeout_s=2.0) as address:
        yield address


def test_an_upload_that_dribbles_in_loses_its_place(hurried: str) -> None:
    connection = begin(hurried, Content_Length="100000")
    begin_s = time.monotonic()
    connection.sock.settimeout(0.2)
    sent = 0
    for byte in PART + bytes(1000):
        connection.send(bytes([byte]))
        sent += 1
        try:
            if connection.sock.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
    connection.sock.settimeout(30)
    assert 1.5 < time.monotonic() - begin_s < 45
    assert sent > 5
    assert refusal(connection) == (408, "request.timeout")


def test_ten_gigabytes_are_refused_by_their_announcement(server: Server) -> None:
    connection = begin(server.address, Content_Length=str(10 << 30))
    assert refusal(connection) == (413, "audio.too_large")
    connection.close()


@pytest.mark.parametrize("gib", [1, pytest.param(10, marks=pytest.mark.soak)])
def test_whoever_never_stops_sending_takes_no_memory(client: httpx.Client, server: Server, gib: int) -> None:
    before = {kind: resident_bytes(kind) for kind in ("gateway", "proxy")}
    connection = begin(server.address, Transfer_Encoding="chunked")
    sent = 0
    try:
        for piece in (PART, *itertools.repeat(bytes(1 << 20), gib << 10)):
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += len(piece)
    except OSError:
        # Nobody listens any more.
        pass
    after = {kind: resident_bytes(kind) for kind in before}
    grown = {kind: after[kind] - before[kind] for kind in before}
    print(f"{sent >> 20} MiB were sent, and memory has grown by {grown} bytes")
    connection.close()
    assert max(grown.values()) < 256 << 20
    assert client.get("/healthz").status_code == 200


@functools.cache
def silence(hours: int) -> bytes:
    """A FLAC file of silence."""
    file = io.BytesIO()
    minute = np.zeros(60 * 8000, np.int16)
    with soundfile.SoundFile(file, "w", 8000, 1, format="FLAC", subtype="PCM_16") as flac:
        for _ in range(60 * hours):
            flac.write(minute)
    return file.getvalue()


def claiming(flac: bytes, frames: int) -> bytes:
    """The same file, whose header says another length; 0 stands for an unknown one."""
    fields = int.from_bytes(flac[18:26], "big")
    return flac[:18] + ((fields >> 36 << 36) | frames).to_bytes(8, "big") + flac[26:]


@pytest.mark.parametrize("frames", [None, 0, 8000 * 60, (1 << 36) - 1])
def test_hours_of_silence_in_a_small_file_take_no_memory(frames: int | None) -> None:
    bomb = silence(4) if frames is None else claiming(silence(4), frames)
    assert len(bomb) < 1 << 20

    async def decode() -> tuple[str, int]:
        decoders = Decoders(1, 60.0)
        try:
            audio = await decoders.load(bomb, 600.0, 64 << 20)
            outcome = f"{audio.duration_s:.0f} s"
        except AudioError as error:
            outcome = error.code
        return outcome, peak_bytes(decoders)

    outcome, peak = asyncio.run(decode())
    # Whoever says a minute has another minute's MD5.
    assert outcome == ("audio.truncated" if frames == 8000 * 60 else "audio.too_long")
    assert peak < 512 << 20


def at_once(address: str, n: int, body: bytes) -> list[httpx.Response | None]:
    """What each of n clients is answered; None for one that lost its connection."""

    async def ask(client: httpx.AsyncClient) -> httpx.Response | None:
        try:
            return await client.post(URL, files={"audio": body})
        except httpx.TransportError:
            return None

    async def flood() -> list[httpx.Response | None]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits, trust_env=False) as client:
            return await asyncio.gather(*(ask(client) for _ in range(n)))

    return asyncio.run(flood())


def statuses(answers: list[httpx.Response | None]) -> Counter[int]:
    return Counter(answer.status_code if answer else 0 for answer in answers)


def test_a_hundred_clients_at_once(client: httpx.Client, server: Server) -> None:
    answers = at_once(server.address, 100, wav(sound(3)))
    print(f"answers by status: {dict(statuses(answers))}")
    assert set(statuses(answers)) <= {200, 429, 503}
    assert statuses(answers)[200] >= 16
    for refused in [answer for answer in answers if answer and answer.status_code != 200]:
        assert_problem(refused, refused.status_code, refused.json()["code"])
        assert int(refused.headers["retry-after"]) > 0
    assert client.get("/healthz").status_code == 200


def test_a_full_disk_refuses_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "full"
    full.symlink_to("/dev/full")
    monkeypatch.setattr("serve.jobstore.JobStore._audio", lambda *_: full)

    async def ask() -> object:
        jobs = Jobs.__new__(Jobs)
        # As Serve does, which awaits it.
        await jobs.__init__(  # type: ignore[misc]
            ServeArgs(index="unused", open_access=True, jobs=tmp_path / "jobs"), Deployment(), Deployment()
        )
        return await jobs.create("acme", None, "v8", 5, [b"x"])

    refused = asyncio.run(ask())
    assert isinstance(refused, Problem)
    assert (refused.status, refused.code) == (507, "server.disk_full")


@pytest.mark.parametrize(
    "kind",
    [
        "gateway",
        "fingerprinter",
        pytest.param("searcher", marks=pytest.mark.soak),
        pytest.param("jobs", marks=pytest.mark.soak),
        pytest.param("proxy", marks=pytest.mark.soak),
    ],
)
def test_a_process_killed_under_load_loses_only_what_is_in_it(client: httpx.Client, server: Server, kind: str) -> None:
    body = wav(sound(3))
    expected = client.post(URL, files={"audio": body}).content
    lost = pids(kind)
    killer = threading.Timer(0.5, kill, [kind])
    killer.start()
    begin_s = time.monotonic()
    counted = statuses(at_once(server.address, 60, body))
    killer.join()
    while True:
        try:
            answer = client.post(URL, files={"audio": body})
            if answer.status_code != 200 and kind == "fingerprinter":
                assert_problem(answer, 503, "server.unavailable")
                assert int(answer.headers["retry-after"]) > 0
            if answer.status_code == 200 and pids(kind) and not pids(kind) & lost:
                break
        except (httpx.TransportError, RayError, ValueError):
            # Not there yet, or no more.
            pass
        assert time.monotonic() < begin_s + 120
        time.sleep(0.2)
    print(f"{kind}: {dict(counted)}, healthy again after {time.monotonic() - begin_s - 0.5:.1f} s")
    assert answer.content == expected
    # Those that were inside the gateway get Ray's own 500, those inside the proxy nothing.
    assert set(counted) <= {200, 429, 503} | ({0, 500} if kind in ("gateway", "proxy") else set())
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_five_thousand_requests_leave_no_memory_behind(client: httpx.Client, snapshot: Snapshot) -> None:
    query = json.dumps(fingerprint_of(snapshot, 3)).encode()
    typed = {"Content-Type": "application/json"}
    song = wav(sound(3))

    def ask(number: int) -> int:
        if number % 50 == 0:
            return client.post(URL, files={"audio": song}).status_code
        if number % 2:
            return client.post(f"{URL}/by-fingerprint", content=query, headers=typed).status_code
        return client.post(URL, files={"audio": b"not audio" * 1000}).status_code

    kinds = ("gateway", "fingerprinter", "searcher", "proxy")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(500)))
        before = {kind: resident_bytes(kind) for kind in kinds}
        counted = Counter(pool.map(ask, range(5000)))
    after = {kind: resident_bytes(kind) for kind in kinds}
    print(f"{dict(counted)}, MiB before and after:")
    print({kind: (before[kind] >> 20, after[kind] >> 20) for kind in kinds})
    assert set(counted) == {200, 422}
    for kind in kinds:
        assert after[kind] < before[kind] + (48 << 20), kind
