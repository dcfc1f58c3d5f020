"""Jobs: kept on disk until they are done, whatever happens to who works at them."""

import asyncio
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import ray
from ray.exceptions import ActorDiedError, NodeDiedError
from ray.serve.exceptions import BackPressureError

from lumina_ray.answers import Job
from lumina_ray.audio import Audio
from serve.access import Access
from serve.app import ServeArgs
from serve.jobs import Jobs
from serve.jobstore import JobStore, StoredJob
from serve.keys import KeyRing, add_key, revoke_key
from serve.problems import Problem
from tests.serve.app import Deployment, asking, make_services
from tests.serve.conftest import sound, wav
from tests.serve.problems import assert_problem

URL = "/v1/jobs"


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path, 100_000, 100_000)


def spooled(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "spool").iterdir())


def create(store: JobStore, *uploads: bytes, owner: str = "acme", key: str | None = None) -> StoredJob:
    return store.create(owner, key, "v8", 5, list(uploads), 100.0)[0]


def test_a_job_goes_from_waiting_to_results(store: JobStore, tmp_path: Path) -> None:
    job = create(store, b"one", b"two", b"three")
    assert (job.finished, job.policy, job.top_k, job.created_s) == ((None, None, None), "v8", 5, 100.0)
    assert spooled(tmp_path) == [f"{job.id}-{n}" for n in range(3)]
    first, second, third = store.waiting(10)
    assert [store.audio(file) for file in (first, second, third)] == [b"one", b"two", b"three"]
    assert store.results("acme", job.id, 0, 10) == ([], True)
    store.finish(second, '{"b":1}', failed=False)
    store.finish(first, '{"a":1}', failed=True)
    assert store.get("acme", job.id).finished == (False, True, None)
    assert spooled(tmp_path) == [f"{job.id}-2"]
    assert store.results("acme", job.id, 0, 1) == ([(1, 1, False, '{"b":1}')], True)
    assert store.results("acme", job.id, 1, 10) == ([(2, 0, True, '{"a":1}')], True)
    # Twice, as by two replicas during an update: the first counts.
    store.finish(first, "{}", failed=False)
    store.finish(third, "{}", failed=False)
    assert store.results("acme", job.id, 2, 10) == ([(3, 2, False, "{}")], False)
    assert (store.waiting(10), spooled(tmp_path)) == ([], [])


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.iterdir())}


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.usefixtures("usual_umask")
def test_no_other_user_may_read_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {"spool": 0o700, "jobs.sqlite": 0o600, "jobs.sqlite-wal": 0o600, "jobs.sqlite-shm": 0o600}
    folder = tmp_path / "a" / "jobs"
    store = JobStore(folder, 100_000, 100_000)
    create(store, b"one")
    assert modes(folder) == {"jobs": 0o700} | inside
    # As it was made before.
    store._db.close()
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755)
    store = JobStore(folder, 100_000, 100_000)
    create(store, b"one")
    assert modes(folder) == {"jobs": 0o700} | inside
    # Where the folder, but not what is in it, is somebody else's.
    volume = tmp_path / "volume"
    volume.mkdir()
    monkeypatch.setattr("serve.jobstore.os.geteuid", lambda: os.getuid() + 1)
    store = JobStore(volume, 100_000, 100_000)
    create(store, b"one")
    assert modes(volume) == {"volume": 0o755} | inside


def test_what_was_not_finished_waits_for_the_next_process(store: JobStore, tmp_path: Path) -> None:
    job = create(store, b"one", b"two")
    store.finish(store.waiting(1)[0], "{}", failed=False)
    orphan, young = (tmp_path / "spool" / name for name in ("of a job that was never told", "of one that will be"))
    for path in (orphan, young):
        path.write_bytes(b"x")
    os.utime(orphan, (0, 0))
    again = JobStore(tmp_path, 1000, 1000)
    assert again.get("acme", job.id).finished == (True, None)
    (file,) = again.waiting(10)
    assert (file.number, again.audio(file)) == (1, b"two")
    assert spooled(tmp_path) == [f"{job.id}-1", young.name]
    # Of a crash just before: it need not wait for the next one.
    os.utime(young, (0, 0))
    again.expire(100.0)
    assert spooled(tmp_path) == [f"{job.id}-1"]


def test_jobs_are_their_owners_own(store: JobStore, tmp_path: Path) -> None:
    job = create(store, b"one")
    for ask in (store.get, store.delete, lambda *a: store.results(*a, 0, 1)):
        with pytest.raises(Problem) as error:
            ask("other", job.id)
        assert (error.value.status, error.value.code) == (404, "jobs.unknown")
    (file,) = store.waiting(1)
    store.delete("acme", job.id)
    assert (store.waiting(1), spooled(tmp_path), store.audio(file)) == ([], [], None)
    store.finish(file, "{}", failed=False)
    with pytest.raises(Problem, match="no such job"):
        store.get("acme", job.id)


def test_an_idempotency_key_gives_the_same_job(store: JobStore) -> None:
    job, new = store.create("acme", "k", "v8", 5, [b"one"], 1.0)
    assert new
    assert store.create("acme", "k", "v8", 5, [b"one"], 2.0) == (job, False)
    assert store.create("other", "k", "v8", 5, [b"one"], 2.0)[1]
    for policy, uploads in (("v8", [b"two"]), ("v7", [b"one"])):
        with pytest.raises(Problem) as error:
            store.create("acme", "k", policy, 5, uploads, 2.0)
        assert (error.value.status, error.value.code) == (422, "jobs.idempotency")
    assert len(store.waiting(10)) == 2


def test_the_store_is_bounded_in_bytes_and_age(store: JobStore, tmp_path: Path) -> None:
    # A result for each of five candidates will take room as well.
    job = create(store, bytes(68_000))
    with pytest.raises(Problem) as error:
        create(store, b"one")
    assert (error.value.status, error.value.code) == (429, "jobs.full")
    # Its result takes less than was kept for it.
    store.finish(store.waiting(1)[0], "{}", failed=False)
    create(store, bytes(68_000))
    store.expire(100.0)
    store.get("acme", job.id)
    store.expire(100.1)
    assert (store.waiting(1), spooled(tmp_path)) == ([], [])


def owners_in_turn(store: JobStore, n: int) -> str:
    """Whose the next files are, each of them done before the next one is asked for."""
    done = ""
    for _ in range(n):
        (file,) = store.waiting(1)
        store.begin(file)
        (owner,) = store._db.execute("SELECT owner FROM jobs WHERE id = ?", (file.job,)).fetchone()
        store.finish(file, "{}", failed=False)
        done += owner
    return done


def test_owners_take_turns(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 1 << 30, 1 << 30)
    many = create(store, *[b"x"] * 50, owner="A")
    one = create(store, b"x", owner="B")
    assert [(file.job, file.number) for file in store.waiting(2)] == [(many.id, 0), (one.id, 0)]
    store.delete("B", one.id)
    # Whoever comes later has neither to wait for what was stored before, nor what the others had meanwhile.
    assert owners_in_turn(store, 20) == "A" * 20
    create(store, *[b"x"] * 3, owner="B")
    create(store, *[b"x"] * 3, owner="C")
    assert owners_in_turn(store, 9) == "BCA" * 3
    # Neither many jobs instead of one, nor deleting those that are done, gives more turns; a new process goes on.
    for _ in range(6):
        create(store, b"x", owner="B")
    again = JobStore(tmp_path, 1 << 30, 1 << 30)
    assert sorted(owners_in_turn(again, 6)) == ["A"] * 3 + ["B"] * 3
    done = "SELECT DISTINCT job FROM files JOIN jobs ON id = job WHERE owner = 'B' AND finished > 0"
    for (job,) in again._db.execute(done).fetchall():
        again.delete("B", job)
    assert sorted(owners_in_turn(again, 6)) == ["A"] * 3 + ["B"] * 3


def test_nobody_overtakes_by_what_is_under_way_for_long(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 1 << 30, 1 << 30)
    create(store, b"long", owner="A")
    create(store, *[b"x"] * 50, owner="B")
    store.begin(store.waiting(1)[0])
    for _ in range(20):
        _, short = store.waiting(2)
        store.begin(short)
        store.finish(short, "{}", failed=False)
    create(store, *[b"x"] * 20, owner="C")
    create(store, *[b"x"] * 20, owner="A")
    long, *next_ones = store.waiting(7)
    assert store.audio(long) == b"long"
    owners = dict(store._db.execute("SELECT id, owner FROM jobs"))
    assert "".join(owners[file.job] for file in next_ones) == "CABCAB"


def test_a_turn_is_had_also_if_the_job_is_deleted_meanwhile(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 1 << 30, 1 << 30)
    create(store, *[b"x"] * 50, owner="A")
    job, turns = create(store, b"x", owner="B"), ""
    for _ in range(8):
        (file,) = store.waiting(1)
        store.begin(file)
        turns += "B" if file.job == job.id else "A"
        if file.job == job.id:
            store.delete("B", job.id)
            job = create(store, b"x", owner="B")
        store.finish(file, "{}", failed=False)
    assert turns == "ABABABAB"


def test_what_cannot_be_done_now_lets_others_go_first(tmp_path: Path) -> None:
    store = JobStore(tmp_path, 1 << 30, 1 << 30)
    first = create(store, b"x", b"x", owner="A")
    other = create(store, b"x", owner="B")
    (stuck,) = store.waiting(1)
    store.begin(stuck)
    store.defer(stuck)
    order = [(other.id, 0), (first.id, 1), (first.id, 0)]
    assert [(file.job, file.number) for file in store.waiting(3)] == order
    store.delete("A", first.id)
    store.begin(stuck)
    store.defer(stuck)
    assert len(store.waiting(3)) == 1


def test_waiting_files_are_found_without_going_through_all(store: JobStore) -> None:
    asked: list[str] = []
    store._db.set_trace_callback(asked.append)
    store.waiting(1)
    plan = store._db.execute(f"EXPLAIN QUERY PLAN {asked[0]}").fetchall()
    assert "USING INDEX waiting" in plan[0][3]
    assert not any("TEMP B-TREE" in step for *_, step in plan)


def test_an_owner_has_a_share_of_the_room(tmp_path: Path) -> None:
    # Each file, with a result for each of five candidates to come, takes 17 kB.
    store = JobStore(tmp_path, 100_000, 40_000)
    create(store, bytes(1000), bytes(1000), owner="A")
    with pytest.raises(Problem, match="This key's jobs") as error:
        create(store, bytes(1000), owner="A")
    assert (error.value.status, error.value.code) == (429, "jobs.full")
    create(store, bytes(1000), owner="B")
    for file in store.waiting(10):
        # In bytes, of which this letter has two, and not in letters.
        store.finish(file, '"' + "é" * 8_000 + '"', failed=False)
    with pytest.raises(Problem, match="This key's jobs"):
        create(store, bytes(1000), owner="A")


@pytest.mark.parametrize(("access", "files"), [({"keys": "unused"}, 1), ({"open_access": True}, 4)])
def test_a_key_has_a_quarter_of_the_room_and_open_access_all(tmp_path: Path, access: dict, files: int) -> None:
    async def fill() -> list[tuple | Problem]:
        jobs = Jobs.__new__(Jobs)
        args = ServeArgs(index="unused", jobs=tmp_path, max_jobs_bytes=70_000, **access)
        stuck_here = Deployment(fingerprint=stuck)
        await jobs.__init__(args, stuck_here, Deployment())  # type: ignore[misc]
        return [await jobs.create("", None, "v8", 5, [bytes(1000)]) for _ in range(5)]

    taken = asyncio.run(fill())
    assert [isinstance(answer, Problem) for answer in taken] == [False] * files + [True] * (5 - files)


def test_a_folder_of_before_owners_took_turns_goes_on(tmp_path: Path) -> None:
    old = JobStore(tmp_path, 1 << 30, 1 << 30)
    job = create(old, b"one", b"two")
    old._db.executescript("DROP INDEX waiting; ALTER TABLE files DROP COLUMN turn")
    new = JobStore(tmp_path, 1 << 30, 1 << 30)
    later = create(new, b"three", owner="B")
    found = [(file.job, file.number) for file in new.waiting(3)]
    assert found == [(job.id, 0), (job.id, 1), (later.id, 0)]


def test_a_full_disk_leaves_nothing_behind(store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = tmp_path / "spool" / "full"
    full.symlink_to("/dev/full")
    with monkeypatch.context() as patch:
        patch.setattr(store, "_audio", lambda job, number: full if number else full.with_name(job))
        with pytest.raises(OSError, match="No space left"):
            create(store, b"one", b"two")
    assert (spooled(tmp_path), store.waiting(1)) == ([], [])

    job = create(store, b"one")
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError) as error:
        store.finish(store.waiting(1)[0], '"' + "x" * 100_000 + '"', failed=False)
    assert error.value.sqlite_errorcode == sqlite3.SQLITE_FULL
    # The file waits on, with its audio.
    assert [store.audio(file) for file in store.waiting(10)] == [b"one"]
    assert spooled(tmp_path) == [f"{job.id}-0"]


def wait_for(client: httpx.Client, job: str) -> dict:
    deadline_s = time.monotonic() + 200
    while time.monotonic() < deadline_s:
        answer = client.get(f"{URL}/{job}")
        if answer.status_code == 200 and answer.json()["state"] == "done":
            return answer.json()
        time.sleep(0.3)
    raise AssertionError(answer.text)


def post(client: httpx.Client, *uploads: bytes, **headers: str) -> httpx.Response:
    files = [("audio", ("unused name", upload)) for upload in uploads]
    return client.post(URL, files=files, params={"policy": "v8", "top_k": 3}, headers=headers)


def pages(client: httpx.Client, job: str, limit: int) -> Iterator[dict]:
    cursor = None
    while True:
        page = client.get(f"{URL}/{job}/results", params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
        yield from page.json()["results"]
        if (cursor := page.json()["next_cursor"]) is None:
            return


def test_a_job_gives_what_single_requests_give_and_survives_its_replica(
    client: httpx.Client, serve_args: ServeArgs
) -> None:
    uploads = [wav(sound(1)), b"not audio", wav(sound(2)), wav(sound(3))]
    answer = post(client, *uploads)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == f"{URL}/{job['id']}"
    assert [file["file"] for file in job["files"]] == [0, 1, 2, 3]
    lost = [a for a in ray.util.list_named_actors(all_namespaces=True) if "#Jobs#" in a["name"]]
    assert lost
    for actor in lost:
        ray.kill(ray.get_actor(**actor))
    states = [file["state"] for file in wait_for(client, job["id"])["files"]]
    assert states == ["done", "failed", "done", "done"]
    found = {result["file"]: result for result in pages(client, job["id"], 3)}
    assert sorted(found) == [0, 1, 2, 3]
    for number, upload in enumerate(uploads):
        alone = client.post("/v1/attributions", files={"audio": upload}, params={"policy": "v8", "top_k": 3})
        assert found[number]["problem" if number == 1 else "report"] == alone.json()
    assert spooled(serve_args.jobs) == []
    assert client.delete(f"{URL}/{job['id']}").status_code == 204
    assert_problem(client.get(f"{URL}/{job['id']}"), 404, "jobs.unknown")


async def stuck(*_: object) -> None:
    await asyncio.sleep(3600)


async def work(folder: Path, answers: list, **changes: float) -> tuple[Jobs, StoredJob]:
    """Jobs without Ray, at one file, for which the model answers so, and then as it should."""

    async def fingerprint(*_: object) -> bytes:
        answer = answers.pop(0) if answers else b"vectors"
        if isinstance(answer, Exception):
            raise answer
        return await answer() if callable(answer) else answer

    async def load(*_: object) -> Audio:
        return Audio(sound(1), "0" * 64)

    args = ServeArgs(index="unused", open_access=True, jobs=folder, **changes)
    jobs = Jobs.__new__(Jobs)
    await jobs.__init__(args, Deployment(fingerprint=fingerprint), Deployment(attribute="{}"))  # type: ignore[misc]
    jobs._services = replace(jobs._services, decoders=SimpleNamespace(load=load))  # type: ignore[arg-type]
    job, _ = await jobs.create("acme", None, "v8", 5, [b"audio"])
    return jobs, job


async def outcome(folder: Path, answers: list, **changes: float) -> str:
    """What became of it."""
    jobs, job = await work(folder, answers, **changes)
    async with asyncio.timeout(30):
        while (found := await jobs.get("acme", job.id)).state != "done":
            await asyncio.sleep(0.02)
    return found.files[0].state


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_POLL_S", "_CLEAN_EVERY_S", "RETRY_AFTER_S"):
        monkeypatch.setattr(f"serve.jobs.{name}", 0.02)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([BackPressureError(0, 0)] * 9, "done"),
        ([NodeDiedError("gone"), ActorDiedError()], "done"),
        ([NodeDiedError("gone"), ActorDiedError(), NodeDiedError("gone")], "failed"),
    ],
)
def test_a_file_waits_on_until_it_has_lost_three_workers(tmp_path: Path, answers: list, state: str) -> None:
    assert asyncio.run(outcome(tmp_path, answers)) == state
    assert answers == []


@pytest.mark.usefixtures("eager")
def test_a_file_waits_on_however_often_nobody_answers(tmp_path: Path) -> None:
    answers = [stuck] * 4
    assert asyncio.run(outcome(tmp_path, answers, request_timeout_s=0.1)) == "done"
    assert answers == []


@pytest.mark.usefixtures("eager")
def test_nobody_waits_for_a_file_that_nobody_answers(tmp_path: Path) -> None:
    async def go() -> None:
        # Long enough for the other file to be answered in time on a busy machine.
        jobs, first = await work(tmp_path, [stuck], request_timeout_s=2.0)
        second, _ = await jobs.create("other", None, "v8", 5, [b"audio"])
        async with asyncio.timeout(30):
            while (await jobs.get("acme", first.id)).state != "done":
                await asyncio.sleep(0.02)
        ((position, *_),), _ = await jobs._in_thread(jobs._store.results, "other", second.id, 0, 1)
        assert position == 1

    asyncio.run(go())


@pytest.mark.usefixtures("eager")
def test_a_file_may_take_longer_than_a_request(tmp_path: Path) -> None:
    async def slow(*_: object) -> bytes:
        await asyncio.sleep(0.6)
        return b"vectors"

    answers = [slow, ValueError("asked again")]
    assert asyncio.run(outcome(tmp_path, answers, request_timeout_s=0.5)) == "done"
    assert len(answers) == 1


@pytest.mark.usefixtures("eager")
def test_no_file_waits_longer_than_its_job_is_kept(tmp_path: Path) -> None:
    async def go() -> None:
        jobs, job = await work(tmp_path, [stuck] * 1000, request_timeout_s=0.1, max_job_age_s=0.5)
        async with asyncio.timeout(30):
            while not isinstance(found := await jobs.get("acme", job.id), Problem):
                await asyncio.sleep(0.02)
        assert (found.status, found.code) == (404, "jobs.unknown")
        assert spooled(tmp_path) == []

    asyncio.run(go())


def test_a_request_that_is_sent_twice_is_one_job(client: httpx.Client) -> None:
    first, again = (post(client, b"not audio", **{"Idempotency-Key": "k"}) for _ in range(2))
    assert first.json()["id"] == again.json()["id"]
    assert_problem(post(client, b"other", **{"Idempotency-Key": "k"}), 422, "jobs.idempotency")


def test_jobs_belong_to_a_key_and_not_to_its_name(tmp_path: Path) -> None:
    owners: list[str] = []

    async def created(owner: str, *_: object) -> tuple[Job, bool]:
        owners.append(owner)
        job = {"id": "j", "state": "queued", "policy": "v8", "top_k": 5, "created": 0, "expires": 1, "files": ()}
        return Job(**job), True

    async def deleted(owner: str, _: str) -> None:
        owners.append(owner)

    file = tmp_path / "keys.json"
    services = make_services(Access(KeyRing(file), 1), jobs=Deployment(create=created, delete=deleted))
    with asking(services) as client:
        for _ in range(2):
            key = {"Authorization": f"Bearer {add_key(file, 'acme')}"}
            assert client.post(URL, files={"audio": b"x"}, headers=key).status_code == 202
            assert client.delete(f"{URL}/j", headers=key).status_code == 204
            revoke_key(file, "acme")
    assert owners[0] == owners[1] != owners[2] == owners[3]
    assert "acme" not in owners


def test_bad_requests_for_jobs(client: httpx.Client) -> None:
    assert_problem(post(client, *[b"x"] * 9), 400, "request.malformed")
    refused = post(client, b"x", **{"Idempotency-Key": ""})
    assert_problem(refused, 400, "request.malformed")
    assert "Idempotency-Key is empty" in refused.json()["detail"]
    assert_problem(client.post(URL, files={"file": b"x"}), 422, "request.no_audio")
    assert_problem(client.get(f"{URL}/nothing"), 404, "jobs.unknown")
    assert_problem(client.get(f"{URL}/nothing/results", params={"cursor": "eA"}), 422, "request.invalid")
    assert_problem(client.delete(f"{URL}/nothing"), 404, "jobs.unknown")


def test_without_a_folder_no_jobs_are_taken() -> None:
    with asking(make_services()) as client:
        assert_problem(client.post(URL, files={"audio": b"x"}), 404, "jobs.off")
