"""Uploads that come slowly, stop, or are many: they end by themselves, and keep nobody else waiting."""

import asyncio
import select
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from lumina_ray.answers import SongPage
from serve.access import Access
from serve.app import ServeArgs, Server
from serve.gateway import create_app
from serve.keys import KeyRing, add_key
from serve.services import Services
from tests.serve.app import Deployment, make_services
from tests.serve.conftest import beside, sound, wav
from tests.serve.problems import assert_problem

URL = "/v1/attributions"
FORM = {"Content-Type": "multipart/form-data; boundary=B"}
HEAD = b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
TAIL = b"\r\n--B--\r\n"
PAGE = SongPage(index_version="v0001", songs=[], next_cursor=None)
Ask = Callable[[httpx.AsyncClient], Awaitable[None]]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def asked(services: Services, ask: Ask) -> None:
    """Ask the interface of some services, several requests at once."""

    async def go() -> None:
        transport = httpx.ASGITransport(create_app(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as client:
            await ask(client)

    asyncio.run(go())


async def body(*blocks: bytes, pause_s: float = 0.0, then: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    """A body that comes block by block, and goes on only after an event."""
    for block in (HEAD, *blocks):
        yield block
        await asyncio.sleep(pause_s)
    if then:
        await then.wait()
    yield TAIL


def args(**changes: float) -> ServeArgs:
    return ServeArgs(**({"index": "unused", "open_access": True} | changes))


@pytest.mark.parametrize(
    ("limits", "blocks", "pause_s"),
    [
        ({"upload_idle_s": 0.2}, [b"RIFF"], 30.0),
        # Each byte comes before it is taken for idle, and all together are too slow.
        ({"upload_idle_s": 0.3, "min_upload_bytes_per_s": 1000}, [b"x"] * 1000, 0.05),
    ],
)
def test_an_upload_that_stalls_or_dribbles_ends(limits: dict, blocks: list[bytes], pause_s: float) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        for url, headers in (
            (URL, FORM),
            ("/v1/reports/html", {}),
            ("/v1/attributions/by-fingerprint", {"Content-Type": "application/json"}),
        ):
            answer = await client.post(url, content=body(*blocks, pause_s=pause_s), headers=headers)
            assert_problem(answer, 408, "request.timeout")
            assert "stalled" in answer.json()["detail"]

    begin_s = time.monotonic()
    asked(make_services(args=args(**limits)), ask)
    assert time.monotonic() - begin_s < 60


def test_an_upload_that_is_slow_but_not_too_slow_is_answered() -> None:
    song = wav(sound(1))
    blocks = [song[at : at + 40_000] for at in range(0, len(song), 40_000)]

    async def ask(client: httpx.AsyncClient) -> None:
        # Together they take longer than one may stand still.
        answer = await client.post(URL, content=body(*blocks, pause_s=0.4), headers=FORM)
        assert answer.text == "{}"

    asked(make_services(args=args(upload_idle_s=3.0, min_upload_bytes_per_s=10_000)), ask)


def test_a_place_is_taken_when_an_upload_is_whole() -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        going_on = asyncio.Event()
        slow = [
            asyncio.create_task(client.post(URL, content=body(wav(sound(1)), then=going_on), headers=FORM))
            for _ in range(5)
        ]
        await asyncio.sleep(0.1)
        # There is one place, and nobody may wait for it.
        assert (await client.get("/v1/songs")).status_code == 200
        going_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*slow)} == {200}

    services = make_services(args=args(max_requests=1, max_waiting=0), searcher=Deployment(attribute="{}", songs=PAGE))
    asked(services, ask)


def test_uploads_are_counted_by_key_and_together(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    slow, other, third = (add_key(file, name) for name in ("slow", "other", "third"))

    async def ask(client: httpx.AsyncClient) -> None:
        going_on = asyncio.Event()

        def begin(key: str) -> asyncio.Task[httpx.Response]:
            content = body(wav(sound(1)), then=going_on)
            return asyncio.create_task(client.post(URL, content=content, headers=FORM | bearer(key)))

        async def whole(key: str) -> httpx.Response:
            return await client.post(URL, files={"audio": wav(sound(1))}, headers=bearer(key))

        held = [begin(slow), begin(slow)]
        await asyncio.sleep(0.1)
        refused = await whole(slow)
        assert_problem(refused, 429, "access.uploads")
        assert int(refused.headers["retry-after"]) > 0
        # What is no upload is not counted, and other keys have theirs.
        assert (await client.get("/v1/songs", headers=bearer(slow))).status_code == 200
        assert (await whole(other)).status_code == 200
        held.append(begin(other))
        await asyncio.sleep(0.1)
        assert_problem(await whole(third), 429, "server.busy")
        going_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
        assert [(await whole(key)).status_code for key in (slow, other, third)] == [200] * 3

    services = make_services(
        Access(KeyRing(file), 1),
        args=args(max_uploads=3, max_uploads_per_key=2),
        searcher=Deployment(attribute="{}", songs=PAGE),
    )
    asked(services, ask)


def test_two_keys_cannot_keep_a_third_from_uploading(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    first, second, third = (add_key(file, name) for name in ("first", "second", "third"))

    async def ask(client: httpx.AsyncClient) -> None:
        held: list[tuple[asyncio.Event, asyncio.Task[httpx.Response]]] = []

        async def begin(key: str) -> httpx.Response | None:
            """The answer, or None where the upload was let in and is under way."""
            let_in, going_on = asyncio.Event(), asyncio.Event()

            async def content() -> AsyncIterator[bytes]:
                # Nothing is read of one that is refused.
                let_in.set()
                async for block in body(wav(sound(1)), then=going_on):
                    yield block

            task = asyncio.create_task(client.post(URL, content=content(), headers=FORM | bearer(key)))
            task.add_done_callback(lambda _: let_in.set())
            await let_in.wait()
            if task.done():
                return task.result()
            held.append((going_on, task))
            return None

        async def end() -> None:
            going_on, task = held.pop(0)
            going_on.set()
            assert (await task).status_code == 200

        # The first key may have four by itself, and leaves as much as it has.
        assert [await begin(first) for _ in range(3)] == [None] * 3
        assert_problem(await begin(first), 429, "access.uploads")
        assert [await begin(second) for _ in range(2)] == [None] * 2
        assert_problem(await begin(second), 429, "access.uploads")
        assert await begin(third) is None
        assert_problem(await begin(third), 429, "server.busy")
        # Whatever the first two ask for meanwhile, what they give back is the third's next.
        await end()
        for key in (first, second):
            assert_problem(await begin(key), 429, "access.uploads")
        await end()
        assert await begin(third) is None
        while held:
            await end()
        assert [(await client.post(URL, files={"audio": wav(sound(1))}, headers=bearer(first))).status_code] == [200]

    services = make_services(Access(KeyRing(file), 1), args=args(max_uploads=6, max_uploads_per_key=4))
    asked(services, ask)


def test_keys_take_turns_at_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys.json"
    keys = {name: add_key(file, name) for name in ("first", "second", "third")}
    answered: list[str] = []
    inside = 0

    def show(taken: int, waiting: int) -> None:
        nonlocal inside
        inside = taken + waiting

    monkeypatch.setattr("serve.metrics.show_places", show)

    async def ask(client: httpx.AsyncClient) -> None:
        async def one(name: str, upload: bool) -> int:
            if upload:
                answer = await client.post(URL, files={"audio": wav(sound(1))}, headers=bearer(keys[name]))
            else:
                answer = await client.get("/v1/songs", headers=bearer(keys[name]))
            if answer.status_code == 200:
                answered.append(name)
            return answer.status_code

        async def begin(name: str, n: int, upload: bool = False) -> list[asyncio.Task[int]]:
            tasks = [asyncio.create_task(one(name, upload)) for _ in range(n)]
            begun.extend(tasks)
            # Each is refused, waits or has a place before somebody else comes.
            while inside + sum(task.done() for task in begun) < len(begun):
                await asyncio.sleep(0.01)
            return tasks

        begun: list[asyncio.Task[int]] = []
        # Two places, and room for eight that wait: the first key takes both, and then half of the room.
        flood = await begin("first", 10)
        flood += await begin("second", 10)
        statuses = [task.result() for task in flood if task.done()]
        assert statuses == [429] * len(statuses)
        assert len(statuses) == 20 - 2 - 4 - 2
        # The third key finds room, and so does its upload, which needs none.
        last = await begin("third", 1) + await begin("third", 1, upload=True)
        assert not any(task.done() for task in last)
        n_let_in = len(begun) - len(statuses)
        for n in range(n_let_in):
            # Whoever got the last place is there, so that they are answered in the order of their places.
            while at_work < min(n + 2, n_let_in) or len(answered) < n:
                await asyncio.sleep(0.01)
            let_go.release()
        await asyncio.gather(*begun)
        assert [task.result() for task in last] == [200, 200]

    let_go, at_work = asyncio.Semaphore(0), 0

    async def work() -> None:
        nonlocal at_work
        at_work += 1
        await let_go.acquire()

    async def songs(*_: object) -> SongPage:
        await work()
        return PAGE

    async def attribute(*_: object) -> str:
        await work()
        return "{}"

    services = make_services(
        Access(KeyRing(file), 1),
        args=args(max_requests=2, max_waiting=8),
        searcher=Deployment(attribute=attribute, songs=songs),
    )
    asked(services, ask)
    # A place that comes free goes to a key that has none, and all take turns.
    first, second, third = keys
    assert answered == [first, first, second, first, third, second, first, third, first, first]


def test_uploads_that_wait_for_a_place_are_not_in_memory() -> None:
    block, blocks, waiting = bytes(256 << 10), 16, 8

    async def ask(client: httpx.AsyncClient) -> None:
        arrived = 0
        all_there = asyncio.Event()

        async def whole() -> AsyncIterator[bytes]:
            nonlocal arrived
            async for piece in body(*[block] * blocks):
                yield piece
            arrived += 1
            if arrived == waiting:
                all_there.set()

        tracemalloc.start()
        held = [asyncio.create_task(client.post(URL, content=whole(), headers=FORM)) for _ in range(waiting)]
        await all_there.wait()
        await asyncio.sleep(0.2)
        traced, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # One of them has a place, and is in memory.
        assert traced < 3 * blocks * len(block) < waiting * blocks * len(block) / 2
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)

    class Stuck:
        async def load(self, *_: object) -> None:
            await asyncio.sleep(3600)

    asked(make_services(args=args(max_requests=1), decoders=Stuck()), ask)


N_STALLED, N_ASKED = 50, 100


def test_stalled_uploads_of_one_key_keep_no_other_key_waiting(
    server: Server, serve_args: ServeArgs, keys_file: Path
) -> None:
    slow, other = add_key(keys_file, "slow", 1000), add_key(keys_file, "other")
    # However slow this machine is, those that are let in stay for the whole test.
    limits = {"upload_idle_s": 600.0, "max_uploads_per_key": 8}
    with beside(server, serve_args, "patient", keys=keys_file, open_access=False, **limits) as address:
        url = httpx.URL(address + URL)
        head = (
            f"POST {url.path} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: Bearer {slow}\r\n"
            "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 100000\r\n\r\n"
        ).encode()
        stalled = [socket.create_connection((url.host, url.port), timeout=60) for _ in range(N_STALLED)]
        for connection in stalled:
            connection.sendall(head + HEAD + b"RIFF")
        took_s = []
        with httpx.Client(headers=bearer(other), timeout=60, trust_env=False) as client:
            assert client.post(str(url), files={"audio": wav(sound(3))}).status_code == 200
            for _ in range(N_ASKED):
                begin_s = time.monotonic()
                assert client.get(f"{address}/v1/songs", params={"limit": 1}).status_code == 200
                took_s.append(time.monotonic() - begin_s)
            assert client.post(str(url), files={"audio": wav(sound(3))}).status_code == 200
        p99_s = sorted(took_s)[N_ASKED * 99 // 100 - 1]
        print(f"p99 {p99_s:.3f} s, longest {max(took_s):.3f} s")
        assert p99_s < 1
        # All the while, those that were let in were stalled, and the others were refused at once.
        answered = select.select(stalled, [], [], 0)[0]
        assert len(answered) == N_STALLED - 8
        said = {connection.recv(1 << 16).split(b"\r\n")[0] for connection in answered}
        assert said == {b"HTTP/1.1 429 Too Many Requests"}
        for connection in stalled:
            connection.close()
