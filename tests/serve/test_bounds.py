"""What is slow, lost, broken or gone is answered, and takes nobody's place for long."""

import asyncio
import encodings
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import httpx
import pytest
from ray.exceptions import (
    ActorDiedError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfMemoryError,
    OwnerDiedError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.serve._private.common import DeploymentID
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from lumina_ray.answers import SongPage
from lumina_ray.audio import Audio
from lumina_ray.errors import StoreError
from serve.app import Server
from serve.decoding import Decoders
from serve.gateway import create_app
from serve.local import drain
from serve.places import Places
from serve.problems import Problem
from serve.schemas import ServeArgs
from serve.services import Services
from tests.serve import faults
from tests.serve.app import MODEL, Deployment, asking, make_services
from tests.serve.conftest import beside, sound, wav
from tests.serve.problems import assert_problem
from tests.serve.processes import decoders

URL = "/v1/attributions"
HURRIED = ServeArgs(index="unused", open_access=True, request_timeout_s=0.3)


def post(services: Services) -> httpx.Response:
    with asking(services) as client:
        return client.post(URL, files={"audio": wav(sound(1))})


async def never(*_: object) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("fingerprint", "status", "code"),
    [
        (never, 504, "server.timeout"),
        (BackPressureError(0, 0), 429, "server.busy"),
        (ActorDiedError(), 503, "server.unavailable"),
        (NodeDiedError("gone"), 503, "server.unavailable"),
        (OwnerDiedError("", "", ""), 503, "server.unavailable"),
        (OutOfMemoryError("gone"), 503, "server.unavailable"),
        (ObjectStoreFullError(), 503, "server.unavailable"),
        (WorkerCrashedError(), 503, "server.unavailable"),
        (RayTaskError("f", "", ObjectLostError("", "", "")).as_instanceof_cause(), 503, "server.unavailable"),
        (RayTaskError("f", "", ValueError("ours")).as_instanceof_cause(), 500, "internal"),
        (DeploymentUnavailableError(DeploymentID("Fingerprinter", "lumina")), 503, "server.unavailable"),
        (RuntimeError("a bug that names /tmp/secret"), 500, "internal"),
        (OSError(errno.ENOSPC, "No space left on device"), 507, "server.disk_full"),
        (OSError(errno.EIO, "I/O error"), 500, "internal"),
    ],
)
def test_what_keeps_the_model_from_answering(fingerprint: Callable | Exception, status: int, code: str) -> None:
    args = HURRIED if fingerprint is never else ServeArgs(index="unused", open_access=True)
    answer = post(make_services(args=args, fingerprinter=Deployment(fingerprint=fingerprint)))
    assert_problem(answer, status, code)
    assert ("retry-after" in answer.headers) == (status in (429, 503, 504, 507))


def test_what_nobody_waits_for_any_more_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.routes.status._PATIENCE_S", 0.3)
    cancelled: list[str] = []

    def endless(name: str) -> Callable:
        async def call(*_: object) -> None:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(name)
                raise

        return call

    async def load(*_: object) -> Audio:
        return Audio(sound(1), "0" * 64)

    fingerprinter = Deployment(fingerprint=endless("model"), describe=endless("health"))
    searcher = Deployment(attribute=endless("search"), songs=endless("catalog"), describe=endless("health"))
    given = {"args": HURRIED, "decoders": SimpleNamespace(load=load), "searcher": searcher}
    with asking(make_services(**given, fingerprinter=fingerprinter)) as client:
        assert_problem(client.post(URL, files={"audio": wav(sound(1))}), 504, "server.timeout")
        assert_problem(client.get("/v1/songs"), 504, "server.timeout")
        assert_problem(client.get("/readyz"), 503, "server.unavailable")
        assert cancelled == ["model", "catalog", "health", "health"]
    with asking(make_services(**given)) as client:
        assert_problem(client.post(URL, files={"audio": wav(sound(1))}), 504, "server.timeout")
        assert cancelled[4:] == ["search"]


def test_an_upload_that_does_not_arrive_in_time() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\nRIFF'
        await asyncio.sleep(3600)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(make_services(args=HURRIED)))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            headers = {"Content-Type": "multipart/form-data; boundary=B"}
            return await client.post(URL, content=slowly(), headers=headers)

    assert_problem(asyncio.run(ask()), 408, "request.timeout")


def test_no_charset_but_utf_8_is_looked_up() -> None:
    body = b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n%b\r\n--B--\r\n' % wav(sound(1))
    with asking(make_services()) as client:

        def post(charset: str) -> httpx.Response:
            headers = {"Content-Type": f"multipart/form-data; boundary=B{charset}"}
            return client.post(URL, content=body, headers=headers)

        assert {post(charset).status_code for charset in ("", "; charset=UTF-8", '; charset="utf-8"')} == {200}
        # Python remembers every name that it looks up, for good; `undefined` is an encoding that always fails.
        known = set(encodings._cache)
        for charset in ("undefined", "nobody-has-heard-of-it", "x" * 1000, ""):
            assert_problem(post(f"; charset={charset}"), 400, "request.malformed")
        assert set(encodings._cache) == known


@pytest.mark.parametrize(
    ("decoder", "status", "code"),
    [
        (faults.crash, 422, "audio.crash"),
        (faults.hang, 422, "audio.timeout"),
        (faults.be_killed, 503, "server.unavailable"),
        (faults.fail, 500, "internal"),
    ],
)
def test_an_upload_that_ends_the_decoder(
    monkeypatch: pytest.MonkeyPatch, decoder: Callable, status: int, code: str
) -> None:
    services = make_services(decoders=Decoders(1, 1.0))
    with asking(services) as client:
        with monkeypatch.context() as patch:
            patch.setattr("serve.decoding.load_chunks", decoder)
            assert_problem(client.post(URL, files={"audio": wav(sound(1))}), status, code)
        # Time for a process that has to start.
        services.decoders._limit_s = 60.0
        assert client.post(URL, files={"audio": wav(sound(1))}).status_code == 200


def test_who_goes_away_while_decoding_frees_the_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> int:
        decoders = Decoders(1, 3600.0)
        guard = await decoders._idle.get()
        decoders._idle.put_nowait(guard)
        busy = guard.process
        with monkeypatch.context() as patch:
            patch.setattr("serve.decoding.load_chunks", faults.hang)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await decoders.load(b"", 1.0, 1)
        assert busy.wait(timeout=10) < 0
        return len((await decoders.load(wav(sound(1)), 60.0, 1 << 20)).chunks[0].samples)

    assert asyncio.run(go()) == len(sound(1))


@pytest.mark.parametrize("module", ["gateway", "searcher", "shards", "jobs"])
def test_only_the_fingerprinter_loads_torch(module: str) -> None:
    code = f"import sys, serve.{module}; assert not {{'torch', 'transformers', 'matplotlib'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})


def test_clients_that_go_away_free_their_places(server: Server, serve_args: ServeArgs) -> None:
    address = httpx.URL(server.address)
    form = b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n%b\r\n--B--\r\n' % wav(sound(1))
    head = (
        f"POST {URL} HTTP/1.1\r\nHost: {address.host}\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        f"Content-Length: {len(form)}\r\n\r\n"
    ).encode()
    songs = f"{server.address}/v1/songs"
    # No upload is done with its place: nothing decodes it. Whoever gives up a decoder ends it, and has another started.
    for decoder in decoders():
        os.kill(decoder, signal.SIGSTOP)
    held = [socket.create_connection((address.host, address.port)) for _ in range(serve_args.max_requests)]
    for connection in held:
        connection.sendall(head + form)
    deadline_s = time.monotonic() + 30
    # Once each of them has its place, there is none left.
    with pytest.raises(httpx.ReadTimeout):
        while time.monotonic() < deadline_s:
            httpx.get(songs, timeout=2, trust_env=False)
    # Whether it is well is said without a place.
    assert httpx.get(f"{server.address}/healthz", timeout=20, trust_env=False).status_code == 200
    for connection in held:
        connection.close()
    assert httpx.get(songs, timeout=20, trust_env=False).status_code == 200


def test_places_are_bounded_and_so_is_waiting_for_them() -> None:
    async def songs(*_: object) -> SongPage:
        await asyncio.sleep(0.05)
        return SongPage(index_version="v0001", songs=[], next_cursor=None)

    async def flood() -> list[httpx.Response]:
        args = ServeArgs(index="unused", open_access=True, max_requests=2, max_waiting=3)
        transport = httpx.ASGITransport(create_app(make_services(args=args, searcher=Deployment(songs=songs))))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await asyncio.gather(*(client.get("/v1/songs") for _ in range(7)))

    answers = sorted(asyncio.run(flood()), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
    for refused in answers[5:]:
        assert_problem(refused, 429, "server.busy")
        assert int(refused.headers["retry-after"]) > 0


def test_nobody_waits_for_a_place_longer_than_for_an_answer() -> None:
    async def wait_behind() -> None:
        places, now_s = Places(1, 1), asyncio.get_running_loop().time()
        async with places.take(now_s + 60):
            with pytest.raises(Problem, match="places are taken"):
                async with places.take(now_s + 0.05):
                    raise AssertionError
        async with places.take(now_s + 60):
            pass

    asyncio.run(wait_behind())


def test_closed_places_are_given_to_nobody_and_finished_with() -> None:
    async def close() -> list[str]:
        places, now_s = Places(1, 1), asyncio.get_running_loop().time()
        said: list[str] = []

        async def ask(name: str) -> None:
            try:
                async with places.take(now_s + 60):
                    await asyncio.sleep(0.2)
                    said.append(name)
            except Problem as problem:
                said.append(f"{name} {problem.status} {problem.code}")

        asking = [asyncio.create_task(ask(name)) for name in ("under way", "waiting")]
        await asyncio.sleep(0.05)
        closing = asyncio.create_task(places.close())
        await asyncio.sleep(0)
        await ask("late")
        await closing
        said.append("closed")
        await asyncio.gather(*asking)
        return said

    refused = "503 server.unavailable"
    assert asyncio.run(close()) == [f"late {refused}", "under way", f"waiting {refused}", "closed"]


def test_requests_under_way_are_finished_before_it_stops(server: Server, serve_args: ServeArgs) -> None:
    begun, going_on = threading.Event(), threading.Event()

    def upload() -> Iterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        begun.set()
        going_on.wait(60)
        yield wav(sound(1)) + b"\r\n--B--\r\n"

    with (
        beside(server, serve_args, "stopping", max_uploads=1, upload_idle_s=60.0) as address,
        httpx.Client(timeout=60, trust_env=False) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        songs, deadline_s = f"{address}/v1/songs", time.monotonic() + 60
        typed = {"Content-Type": "multipart/form-data; boundary=B"}
        answer = pool.submit(client.post, address + URL, content=upload(), headers=typed)
        # Not before it is on its way: one of the next could take its place.
        assert begun.wait(30)
        # Once it is let in, no other upload is. One of these can still have had its place when it came: then once more.
        while client.post(address + URL, files={"audio": b"x"}).status_code != 429:
            assert time.monotonic() < deadline_s
            if answer.done():
                assert answer.result().status_code == 429
                answer = pool.submit(client.post, address + URL, content=upload(), headers=typed)
        drained = pool.submit(drain, "stopping", 60.0)
        refused = None
        while not refused:
            assert time.monotonic() < deadline_s
            # Until it is told to stop.
            answer_now = client.get(songs)
            refused = None if answer_now.is_success else answer_now
        assert_problem(refused, 503, "server.unavailable")
        assert not drained.done()
        going_on.set()
        assert answer.result(60).status_code == 200
        drained.result(30)


def test_whoever_asks_whether_it_is_ready_shares_one_probe() -> None:
    probes = []

    async def describe() -> dict[str, str]:
        probes.append(1)
        return MODEL

    with asking(make_services(fingerprinter=Deployment(describe=describe))) as client:
        answers = [client.get("/readyz") for _ in range(5)]
    assert {answer.json()["index_version"] for answer in answers} == {"v0001"}
    assert len(probes) < 5


@pytest.mark.parametrize(
    "error",
    [
        NodeDiedError("gone"),
        OwnerDiedError("", "", ""),
        RuntimeError("not well"),
        RayTaskError("f", "", StoreError("/tmp/secret/withdrawn.json is damaged")).as_instanceof_cause(),
        RayTaskError("f", "", OSError(errno.EIO, "I/O error")).as_instanceof_cause(),
    ],
)
def test_it_is_not_ready_while_a_replica_is_lost_or_unwell(error: Exception) -> None:
    with asking(make_services(searcher=Deployment(describe=error))) as client:
        for route in ("/healthz", "/readyz"):
            assert_problem(client.get(route), 503, "server.unavailable")


def test_an_index_that_cannot_be_read_may_be_again() -> None:
    error = RayTaskError("f", "", StoreError("/tmp/secret/withdrawn.json is damaged")).as_instanceof_cause()
    with asking(make_services(searcher=Deployment(songs=error, attribute=error))) as client:
        assert_problem(client.get("/v1/songs"), 503, "server.unavailable")
        assert_problem(client.post(URL, files={"audio": wav(sound(1))}), 503, "server.unavailable")


def test_a_client_that_goes_away_does_not_take_the_probe_that_it_shares_along(server: Server) -> None:
    address = httpx.URL(server.address)
    for wait_s in (0.001, 0.002, 0.005, 0.01, 0.02):
        # Until nobody shares the last answer any more.
        time.sleep(1.1)
        with socket.create_connection((address.host, address.port)) as gone:
            gone.sendall(f"GET /readyz HTTP/1.1\r\nHost: {address.host}\r\n\r\n".encode())
            time.sleep(wait_s)
        assert httpx.get(f"{server.address}/readyz", timeout=20, trust_env=False).status_code == 200
