"""Confirmation by forgetting at the endpoint: as on this machine, one at a time, and ended when nobody waits for it."""

import asyncio
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from ray import serve as ray_serve
from ray.serve.exceptions import BackPressureError

from lumina_ray.attribution import Report
from lumina_ray.attribution.confirmation import Confirmation
from lumina_ray.audio import ChunkedAudio, load_chunks
from lumina_ray.client import Client
from lumina_ray.errors import LuminaError, ModelError, SpecificationMismatch, StoreError, UsageError
from lumina_ray.front.index import open_index
from lumina_ray.index import load_snapshot
from lumina_ray.model import open_model
from lumina_ray.model.fisher import load_fisher, save_fisher
from lumina_ray.report import to_json
from lumina_ray.store.stream import codes_of, stream_store
from lumina_ray.unlearning.fisher import fisher_diagonal
from serve.app import ServeArgs, Server, build
from serve.confirmer import MAX_CONFIRMED, Confirmer, GivenUp
from serve.deployments import CONFIRMER, GATEWAY
from serve.local import APPLICATION_LOGS
from serve.problems import Problem
from tests.serve.app import Deployment, asking, make_services
from tests.serve.conftest import N_SONGS, sound, wav
from tests.serve.problems import assert_problem

URL = "/v1/attributions?confirm=unlearn"
HURRIED = ServeArgs(index="unused", open_access=True, request_timeout_s=0.3)
CANDIDATES = 3


@pytest.fixture(scope="session")
def store_dir(index_dir: Path) -> Path:
    return index_dir.with_name("catalog")


@pytest.fixture(scope="session")
def fisher_file(store_dir: Path, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = stream_store(store_dir)
    path = tmp_path_factory.mktemp("fisher") / "fisher.npz"
    songs = codes_of(store, store.song_ids[:3]).values()
    save_fisher(fisher_diagonal(open_model(str(model_dir)), songs), path)
    return path


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("song") / "query.wav"
    path.write_bytes(wav(sound(3, 6.0)))
    return path


@pytest.fixture(scope="module")
def local(index_dir: Path, model_dir: Path, store_dir: Path, fisher_file: Path, song: Path) -> tuple[str, Confirmation]:
    """What this machine says of the song."""
    index = open_index(index_dir, model=str(model_dir))
    report = index.attribute(song, candidates=CANDIDATES)
    return to_json(report), index.confirm(song, report, store_dir, fisher_file)


@pytest.fixture(scope="module")
def confirmer(index_dir: Path, model_dir: Path, store_dir: Path, fisher_file: Path) -> Confirmer:
    specification = load_snapshot(index_dir).record.specification
    # How fast a busy machine is, is not what is tested.
    return Confirmer(str(model_dir), specification, "cpu", str(store_dir), fisher_file, 3600.0)


def post(url: str = URL, **services: object) -> httpx.Response:
    with asking(make_services(**services)) as client:  # type: ignore[arg-type]
        return client.post(url, files={"audio": wav(sound(1))})


def test_two_lines_are_the_report_and_its_confirmation() -> None:
    seen: list[tuple] = []

    async def confirm(*arguments: object) -> str:
        seen.append(arguments)
        return '{"c":1}'

    answer = post(searcher=Deployment(attribute='{"r":1}'), confirmer=Deployment(confirm=confirm))
    assert (answer.status_code, answer.text) == (200, '{"r":1}\n{"c":1}\n')
    assert answer.headers["content-type"] == "application/x-ndjson"
    ((audio, report),) = seen
    assert isinstance(audio, ChunkedAudio)
    assert report == '{"r":1}'
    plain = post("/v1/attributions", searcher=Deployment(attribute='{"r":1}'), confirmer=Deployment(confirm=confirm))
    assert (plain.text, plain.headers["content-type"], len(seen)) == ('{"r":1}', "application/json", 1)


def test_what_is_not_offered_is_said() -> None:
    assert_problem(post(), 422, "confirm.off")
    assert_problem(post("/v1/attributions?confirm=retrain", confirmer=Deployment(confirm="{}")), 422, "request.invalid")
    with asking(make_services(confirmer=Deployment(confirm="{}"))) as client:
        # There is no audio to forget.
        assert_problem(client.post("/v1/attributions/by-fingerprint?confirm=unlearn", json={}), 422, "request.invalid")


async def never(*_: object) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize(
    ("confirm", "status", "code"),
    [
        (never, 504, "server.timeout"),
        (BackPressureError(0, 0), 429, "server.busy"),
        (StoreError("/secret is damaged"), 503, "server.unavailable"),
        (Problem(422, "confirm.impossible", "No."), 422, "confirm.impossible"),
    ],
)
def test_what_keeps_a_report_from_being_confirmed(confirm: Callable | Exception, status: int, code: str) -> None:
    args = HURRIED if confirm is never else ServeArgs(index="unused", open_access=True)

    async def answer(*arguments: object) -> object:
        # A deployment returns its problems.
        if isinstance(confirm, Problem):
            return confirm
        if isinstance(confirm, Exception):
            raise confirm
        return await confirm(*arguments)

    answered = post(args=args, confirmer=Deployment(confirm=answer))
    assert_problem(answered, status, code)
    assert "secret" not in answered.text


def test_a_replica_says_what_this_machine_says(
    confirmer: Confirmer, local: tuple[str, Confirmation], song: Path
) -> None:
    report, expected = local
    assert json.loads(asyncio.run(confirmer.confirm(load_chunks(song), report))) == json.loads(
        json.dumps(expected.to_dict())
    )
    assert {one.rank for one in expected.songs if one.song_id == "song-0003"} == {1}
    asyncio.run(confirmer.check_health())


def test_no_more_songs_are_confirmed_than_the_bound(
    confirmer: Confirmer, index_dir: Path, model_dir: Path, song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = open_index(index_dir, model=str(model_dir)).attribute(song, candidates=MAX_CONFIRMED + 2)
    assert MAX_CONFIRMED + 2 < N_SONGS
    asked: list[tuple] = []
    confirmation = Confirmation("", "", "", {}, 0.0, 0, 0, {}, {}, ())
    monkeypatch.setattr(
        "lumina_ray.attribution.confirmer.confirm", lambda *given, **_: asked.append(given) or confirmation
    )
    assert json.loads(asyncio.run(confirmer.confirm(load_chunks(song), to_json(report)))) == json.loads(
        json.dumps(confirmation.to_dict())
    )
    ((_, _, _, listed, random_songs, codes),) = asked
    for name, channel in report.near_copies.items():
        assert listed[name] == [one.song.song_id for one in channel.candidates[:MAX_CONFIRMED]]
    # None of those that the report lists, whether they are confirmed or not.
    everything = {one.song.song_id for channel in report.near_copies.values() for one in channel.candidates}
    assert not everything & set(random_songs)
    assert len(random_songs) == N_SONGS - len(everything)
    assert codes.keys() == {*listed["P"], *listed["M"], *random_songs}


def test_time_runs_out(
    confirmer: Confirmer, local: tuple[str, Confirmation], song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmer, "_limit_s", 0.0)
    with pytest.raises(GivenUp):
        asyncio.run(confirmer.confirm(load_chunks(song), local[0]))
    monkeypatch.undo()
    asyncio.run(confirmer.check_health())


def test_a_catalog_without_other_songs_cannot_confirm(
    confirmer: Confirmer, index_dir: Path, model_dir: Path, song: Path
) -> None:
    report = open_index(index_dir, model=str(model_dir)).attribute(song, candidates=N_SONGS)
    found = asyncio.run(confirmer.confirm(load_chunks(song), to_json(report)))
    assert isinstance(found, Problem)
    assert (found.status, found.code) == (422, "confirm.impossible")
    assert "no songs besides" in found.detail


def test_a_store_that_lacks_a_song_is_no_reason_to_try_again(
    confirmer: Confirmer, local: tuple[str, Confirmation], song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*_: object, **__: object) -> Confirmation:
        raise StoreError("/secret/store: has no song 7")

    monkeypatch.setattr("lumina_ray.attribution.confirmer.confirm", lacking)
    found = asyncio.run(confirmer.confirm(load_chunks(song), local[0]))
    assert isinstance(found, Problem)
    assert (found.status, found.code) == (422, "confirm.impossible")
    assert "operator" in found.detail
    assert "secret" not in found.detail


def test_what_nobody_waits_for_ends_and_leaves_the_model_as_it_was(
    confirmer: Confirmer, local: tuple[str, Confirmation], song: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, own = confirmer._confirmer.model, confirmer._confirmer.model.weights_sha256
    begun, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def watched(*arguments: object) -> np.ndarray:
        # The first song once the model has forgotten the query: the request is cancelled in the middle of it.
        seen.append(model.weights_sha256)
        if model.weights_sha256 != own:
            begun.set()
            go_on.wait(30)
        return np.zeros((4, 1))

    async def cancelled() -> None:
        with monkeypatch.context() as patch:
            patch.setattr("lumina_ray.attribution.confirm.code_losses", watched)
            patch.setattr("lumina_ray.unlearning.scores.code_losses", watched)
            task = asyncio.create_task(confirmer.confirm(load_chunks(song), local[0]))
            await asyncio.to_thread(begun.wait, 30)
            with pytest.raises(RuntimeError, match="busy with one confirmation"):
                patch.setattr(confirmer, "_limit_s", -1.0)
                await confirmer.check_health()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            go_on.set()
            # The thread is free again.
            await asyncio.get_running_loop().run_in_executor(confirmer._thread, lambda: None)

    asyncio.run(cancelled())
    assert begun.is_set()
    # Not one song more.
    assert sum(sha256 != own for sha256 in seen) == 1
    assert model.weights_sha256 == own
    asyncio.run(confirmer.check_health())


def test_a_replica_whose_model_has_changed_is_unwell(confirmer: Confirmer) -> None:
    weights = confirmer._confirmer.model.heads()[0].data
    weights.mul_(-1.0)
    try:
        with pytest.raises(RuntimeError, match="no longer gives the numbers"):
            asyncio.run(confirmer.check_health())
    finally:
        weights.mul_(-1.0)


def test_a_confirmation_waits_in_a_short_queue() -> None:
    assert (CONFIRMER.max_ongoing_requests, CONFIRMER.max_queued_requests) == (1, 4)
    assert CONFIRMER.backpressure_config.status_code == 429


def test_what_confirmations_take_is_checked_where_the_application_is_built(
    serve_args: ServeArgs, store_dir: Path, fisher_file: Path, tmp_path: Path
) -> None:
    def refused(kind: type[LuminaError], **changes: object) -> str:
        with pytest.raises(kind) as error:
            build(ServeArgs(**(serve_args.model_dump() | changes)))
        return str(error.value)

    assert "fisher is for confirmations" in refused(UsageError, fisher=fisher_file)
    assert str(tmp_path) in refused(StoreError, store=str(tmp_path))
    nowhere = tmp_path / "nowhere.npz"
    assert "lumina fisher" in refused(ModelError, store=str(store_dir), fisher=nowhere)
    other = tmp_path / "other.npz"
    save_fisher(replace(load_fisher(fisher_file), weights_sha256="f" * 64), other)
    assert "was measured with weights ffff" in refused(SpecificationMismatch, store=str(store_dir), fisher=other)


def test_the_client_of_a_real_endpoint_says_the_same(
    server: Server,
    serve_args: ServeArgs,
    local: tuple[str, Confirmation],
    store_dir: Path,
    fisher_file: Path,
    song: Path,
) -> None:
    handles = [ray_serve.get_deployment_handle(deployment, "lumina") for deployment in ("Fingerprinter", "Searcher")]
    specification = load_snapshot(serve_args.index).record.specification
    # The cluster of the tests has no CPU left for it.
    light = CONFIRMER.options(ray_actor_options={"num_cpus": 0})
    confirmer = light.bind(serve_args.model, specification, "cpu", str(store_dir), fisher_file, 3600.0)
    application = GATEWAY.bind(serve_args, *handles, None, confirmer)
    ray_serve.run(application, name="confirming", route_prefix="/confirming", logging_config=APPLICATION_LOGS)
    try:
        with Client(f"{server.address}/confirming") as client:
            assert client.ready().confirms
            report, found = client.confirm(song, candidates=CANDIDATES)
    finally:
        ray_serve.delete("confirming")
    assert (to_json(Report.model_validate(report)), found) == local
    with Client(server.address) as client:
        assert not client.ready().confirms
