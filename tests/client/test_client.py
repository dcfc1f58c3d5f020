"""The client against scripted answers, and against a real server for what goes over the wire."""

import hashlib
import json
import re
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest

import serve
from lumina_ray.attribution import Report
from lumina_ray.cli.exits import exit_code
from lumina_ray.client import Client, EndpointError, FingerprintQuery
from lumina_ray.errors import AudioError, UsageError
from lumina_ray.report import from_json, to_json
from tests.calibration.synthetic import query

URL = "http://endpoint.example"
READY = {
    "status": "ready",
    "model": "nano",
    "weights_sha256": "a",
    "fingerprint": "influence",
    "specification_sha256": "b",
    "index_version": "v0001",
    "index_key": "c",
    "index_wanted": "v0001",
    "index_fault": None,
    "songs": 3,
    "policy": "calibrated",
    "top_k": 256,
    "max_upload_bytes": 1,
    "max_audio_s": 1.5,
    "confirms": False,
}
SONG = json.loads(Path(serve.__file__).with_name("example_report.json").read_text("utf-8"))["near_copies"]["P"][
    "candidates"
][0]["song"]
JOB = {
    "id": "j/1",
    "state": "running",
    "policy": "v8",
    "top_k": 5,
    "created": "2026-11-21T18:00:00Z",
    "expires": "2026-11-28T18:00:00Z",
    "files": [{"file": 0, "state": "done"}, {"file": 1, "state": "queued"}],
}
FAILED = {"file": 1, "report": None, "problem": {"status": 422, "code": "audio.silent", "detail": "No."}}
VERSION = {
    "version": "v0002",
    "live": True,
    "key": "k",
    "specification_sha256": "s",
    "songs": 3,
    "generation": None,
    "created": "2026-11-21T18:00:00Z",
}


def problem(status: int, code: str, detail: str = "No.", **headers: str) -> httpx.Response:
    body = {"type": f"urn:lumina:{code}", "title": "x", "status": status, "detail": detail, "code": code}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"} | headers)


class Endpoint:
    """Gives its answers one after the other, the last one again and again, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, url: str = URL, **options) -> Client:
        return Client(url, transport=httpx.MockTransport(self), **options)

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url.raw_path.decode()}" for request in self.requests]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have waited, in seconds."""
    found: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", found.append)
    return found


@pytest.fixture
def song(tmp_path: Path) -> Path:
    (tmp_path / "a.wav").write_bytes(b"RIFF of a song")
    return tmp_path / "a.wav"


def test_it_needs_httpx_and_no_model() -> None:
    heavy = {"torch", "ray", "fastapi", "starlette", "transformers", "matplotlib"}
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, lumina_ray.client; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "[]\n"


def test_a_report_is_the_bytes_that_came(song: Path, reports: dict[str, Report]) -> None:
    text = to_json(reports["v8"])
    endpoint = Endpoint(httpx.Response(200, content=text.encode()))
    with endpoint.client() as client:
        assert to_json(client.attribute(song, policy="v8", top_k=7)) == text
    assert endpoint.asked == ["POST /v1/attributions?policy=v8&top_k=7"]
    body = endpoint.requests[0].content
    assert b'name="audio"; filename="a.wav"' in body
    assert b"RIFF of a song" in body


def test_a_fingerprint_arrives_bit_for_bit(reports: dict[str, Report]) -> None:
    rng = np.random.default_rng(0)
    sent = query({c: rng.normal(size=5).astype(np.float32) for c in ("P", "M")})
    endpoint = Endpoint(httpx.Response(200, content=to_json(reports["v8"]).encode()))
    endpoint.client().attribute_fingerprint(FingerprintQuery.model_validate(sent))
    assert endpoint.asked == ["POST /v1/attributions/by-fingerprint"]
    body = json.loads(endpoint.requests[0].content)
    assert body["codes_sha256"] == sent.codes_sha256
    for name, channel in sent.channels.items():
        np.testing.assert_array_equal(np.array(body["channels"][name], np.float32), channel.vector)


def test_a_report_is_sent_with_what_belongs_to_it(song: Path) -> None:
    found = {
        "report_sha256": "a" * 64,
        "index_version": "v1",
        "signed_by": None,
        "result": "different",
        "environment": [],
    }
    difference = {"path": "/x", "report": 1, "recomputed": [2]}
    endpoint = Endpoint(httpx.Response(200, json=found | {"difference": difference, "withdrawn_since": 3}))
    answer = endpoint.client().verify_report(song, signature=song)
    assert (answer.result, answer.difference.recomputed, answer.withdrawn_since) == ("different", [2], 3)
    assert endpoint.asked == ["POST /v1/reports/verify"]
    assert re.findall(rb'name="(\w+)"; filename', endpoint.requests[0].content) == [b"report", b"signature"]


CALLS: dict[str, tuple[Callable[[Client], object], str, dict]] = {
    "ready": (lambda c: c.ready(), "GET /readyz", READY),
    "indexes": (
        lambda c: c.indexes(),
        "GET /v1/indexes",
        {"indexes": [VERSION], "unusable": ["v0002"]},
    ),
    "a song of dots": (lambda c: c.song(".."), "GET /v1/songs/%2E%2E", {"index_version": "v1", "song": SONG}),
    "song": (lambda c: c.song("a/b ü"), "GET /v1/songs/a%2Fb%20%C3%BC", {"index_version": "v1", "song": SONG}),
    "songs": (
        lambda c: c.songs("x", 2),
        "GET /v1/songs?cursor=x&limit=2",
        {"index_version": "v1", "songs": [SONG], "next_cursor": None},
    ),
    "nearest": (
        lambda c: c.nearest("s", "M", 3),
        "GET /v1/songs/s/nearest?channel=M&limit=3",
        {"index_version": "v1", "channel": "M", "neighbours": [{"similarity": 0.5, "song": SONG}]},
    ),
    "job": (lambda c: c.job("j/1"), "GET /v1/jobs/j%2F1", JOB),
    "job_results": (
        lambda c: c.job_results("j", limit=2),
        "GET /v1/jobs/j/results?limit=2",
        {"results": [FAILED], "next_cursor": "y"},
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_each_route_is_a_method_whose_answer_is_a_model(name: str) -> None:
    call, request, body = CALLS[name]
    # What a newer endpoint says in addition is left out.
    endpoint = Endpoint(httpx.Response(200, json=body | {"new": 1}))
    answer = call(endpoint.client())
    assert endpoint.asked == [request]
    assert json.loads(answer.model_dump_json()) == body  # type: ignore[attr-defined]


CONFIRMED = {
    "query_codes_sha256": "a",
    "weights_sha256": "b",
    "fisher_sha256": "c",
    "settings": {"layers": "heads", "steps": 1},
    "rise_nats": 0.005,
    "repeats": 0,
    "n_random": 2,
    "random_mean_nats": {"P": 1e-6},
    "random_sd_nats": {"P": 2e-6},
    "songs": [
        {"channel": "P", "song_id": "s", "listed_rank": 1, "rank": 1, "effect_nats": 3e-5, "noise_nats": None}
        | {"p_value": 0.3}
    ],
}


def test_a_confirmation_comes_behind_its_report(song: Path) -> None:
    report = to_json(from_json(Path(serve.__file__).with_name("example_report.json").read_text("utf-8")))
    # What a newer endpoint says in addition is left out.
    endpoint = Endpoint(httpx.Response(200, text=f"{report}\n{json.dumps(CONFIRMED | {'new': 1})}\n"))
    shown, found = endpoint.client().confirm(song, policy="v8")
    assert endpoint.asked == ["POST /v1/attributions?policy=v8&confirm=unlearn"]
    assert to_json(shown) == report
    assert json.loads(json.dumps(found.to_dict())) == CONFIRMED
    lacking = Endpoint(httpx.Response(200, text=report))
    with pytest.raises(EndpointError, match="not the answer that this version") as refused:
        lacking.client().confirm(song)
    assert refused.value.code == "endpoint.answer"


def test_pages_are_turned() -> None:
    pages = [{"songs": [SONG, SONG], "next_cursor": "a+b"}, {"songs": [SONG], "next_cursor": None}]
    endpoint = Endpoint(*(httpx.Response(200, json=page | {"index_version": "v1"}) for page in pages))
    assert [song.song_id for song in endpoint.client().all_songs()] == [SONG["song_id"]] * 3
    assert endpoint.asked == ["GET /v1/songs", "GET /v1/songs?cursor=a%2Bb"]


@pytest.mark.parametrize("last", [{"results": [FAILED], "next_cursor": None}, {"results": [], "next_cursor": "b"}])
def test_results_end_where_nothing_has_come_yet(last: dict) -> None:
    endpoint = Endpoint(*(httpx.Response(200, json=page) for page in ({"results": [FAILED], "next_cursor": "a"}, last)))
    assert len(list(endpoint.client().all_job_results("j"))) == 1 + len(last["results"])
    assert endpoint.asked == ["GET /v1/jobs/j/results", "GET /v1/jobs/j/results?cursor=a"]


def test_a_job_sent_again_is_the_same_job(song: Path, waits: list[float]) -> None:
    endpoint = Endpoint(httpx.ConnectError("broken"), problem(503, "server.unavailable"), httpx.Response(202, json=JOB))
    job = endpoint.client().submit_job([song, song])
    assert (job.id, len(job.files)) == ("j/1", 2)
    keys = [request.headers["Idempotency-Key"] for request in endpoint.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert endpoint.requests[2].content.count(b"RIFF of a song") == 2
    endpoint.client().submit_job([song])
    assert endpoint.requests[3].headers["Idempotency-Key"] not in keys
    endpoint.client().submit_job([song], idempotency_key="mine")
    assert endpoint.requests[4].headers["Idempotency-Key"] == "mine"
    for bad in ("", " ", " mine", "a\nb", "ü", "x" * 256):
        with pytest.raises(UsageError, match="idempotency_key must be"):
            endpoint.client().submit_job([song], idempotency_key=bad)


def test_deleting_a_job_answers_nothing() -> None:
    endpoint = Endpoint(httpx.Response(204))
    endpoint.client().delete_job("j")
    assert endpoint.asked == ["DELETE /v1/jobs/j"]


def test_a_job_that_is_gone_when_it_is_deleted_again_is_deleted(waits: list[float]) -> None:
    lost = Endpoint(httpx.ReadTimeout("the answer was lost"), problem(404, "jobs.unknown"))
    lost.client().delete_job("j")
    assert len(lost.asked) == 2
    unknown = Endpoint(problem(404, "jobs.unknown"))
    with pytest.raises(EndpointError, match=r"jobs\.unknown"):
        unknown.client().delete_job("j")
    off = Endpoint(problem(503, "server.unavailable"), problem(404, "jobs.off"))
    with pytest.raises(EndpointError, match=r"jobs\.off"):
        off.client().delete_job("j")


@pytest.mark.parametrize("status", [429, 503, 504])
def test_retry_after_is_kept_to(waits: list[float], status: int) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    refusals = [problem(status, "server.busy", **{"Retry-After": when}) for when in ("5", at)]
    endpoint = Endpoint(*refusals, httpx.Response(200, json=READY))
    assert endpoint.client().ready().songs == 3
    assert 5 <= waits[0] <= 6
    assert 15 <= waits[1] <= 21


def test_attempts_are_bounded_and_further_and_further_apart(waits: list[float]) -> None:
    endpoint = Endpoint(httpx.ReadTimeout("slow"))
    with pytest.raises(EndpointError) as failed:
        endpoint.client(attempts=4).ready()
    assert (failed.value.status, failed.value.code, exit_code(failed.value)) == (None, "endpoint.unreachable", 1)
    assert len(endpoint.requests) == 4
    assert len(waits) == 3
    for wait, least in zip(waits, (0.5, 1, 2), strict=True):
        assert least <= wait <= least + 1


def test_nobody_waits_longer_than_the_patience(waits: list[float]) -> None:
    endpoint = Endpoint(problem(429, "server.busy", **{"Retry-After": "61"}))
    with pytest.raises(EndpointError) as failed:
        endpoint.client(patience_s=60).ready()
    assert (failed.value.code, failed.value.retry_after_s, waits) == ("server.busy", 61, [])


def test_a_refusal_is_final_and_says_why(song: Path, waits: list[float]) -> None:
    endpoint = Endpoint(problem(422, "audio.silent", "No chunk is above the gate."))
    with pytest.raises(EndpointError) as refused:
        endpoint.client().attribute(song, policy="v8")
    error = refused.value
    assert (error.status, error.code, error.detail) == (422, "audio.silent", "No chunk is above the gate.")
    assert str(error) == f"{URL}/v1/attributions: No chunk is above the gate. (audio.silent)"
    assert exit_code(error) == 2
    assert (len(endpoint.requests), waits) == (1, [])


@pytest.mark.parametrize("answer", [httpx.Response(502, text="<html>\nBad gateway"), httpx.Response(302)])
def test_what_a_proxy_says_is_an_error_too(answer: httpx.Response) -> None:
    with pytest.raises(EndpointError) as failed:
        Endpoint(answer).client().ready()
    assert failed.value.code == f"http.{answer.status_code}"
    assert failed.value.detail in ("<html> Bad gateway", "Found")


def test_an_answer_that_is_not_understood_says_what_is_wrong() -> None:
    with pytest.raises(EndpointError, match=r"songs: Field required \(endpoint.answer\)"):
        Endpoint(httpx.Response(200, json={k: v for k, v in READY.items() if k != "songs"})).client().ready()


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint(problem(401, "access.denied"))
    monkeypatch.setenv("LUMINA_KEY", "of-the-environment\n")
    for client, key in ((endpoint.client(), "of-the-environment"), (endpoint.client(key="given"), "given")):
        with pytest.raises(EndpointError) as refused:
            client.ready()
        assert endpoint.requests[-1].headers["Authorization"] == f"Bearer {key}"
        assert key not in str(refused.value) + repr(client)
    monkeypatch.delenv("LUMINA_KEY")
    with pytest.raises(EndpointError):
        endpoint.client().ready()
    assert "Authorization" not in endpoint.requests[-1].headers


def test_an_endpoint_may_lie_under_a_path() -> None:
    endpoint = Endpoint(httpx.Response(200, json=READY))
    endpoint.client(f"{URL}/lumina/").ready()
    assert endpoint.asked == ["GET /lumina/readyz"]


@pytest.mark.parametrize("url", ["endpoint", "ftp://endpoint", "http://", "http://a:b", ""])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(UsageError, match="is no URL"):
        Client(url)


def test_a_missing_file_is_not_sent(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=re.escape(f"{tmp_path / 'none.wav'}: cannot be read")):
        Client(URL).attribute(tmp_path / "none.wav")


class Receiver(BaseHTTPRequestHandler):
    """Hashes what arrives, refuses it the first time, and then answers with the hash as a job's id."""

    lengths: list[int]

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        self.lengths.append(left)
        digest = hashlib.sha256()
        while left:
            block = self.rfile.read(min(left, 1 << 16))
            digest.update(block)
            left -= len(block)
        status = 503 if len(self.lengths) == 1 else 202
        body = json.dumps(JOB | {"id": digest.hexdigest()}).encode()
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[str]:
    Receiver.lengths = []
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_uploads_are_streamed_from_disk_at_each_attempt(receiver: str, tmp_path: Path, waits: list[float]) -> None:
    size = 32 << 20
    with (tmp_path / "long.wav").open("wb") as file:
        file.truncate(size)
    with Client(receiver) as client:
        tracemalloc.start()
        job = client.submit_job([tmp_path / "long.wav"])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < size / 8
    assert len(Receiver.lengths) == 2
    assert all(size < length < size + 1000 for length in Receiver.lengths)
    assert len(job.id) == 64


@pytest.mark.parametrize(
    "key", ["secret1\nsecret2", "secret1 secret2", "secret1\x7f", "sécret1", "secret1\u200b", "\x00secret1"]
)
@pytest.mark.parametrize("given", [True, False])
def test_a_key_that_is_none_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str, given: bool) -> None:
    if not given:
        # Not the real one, which takes no zero byte.
        monkeypatch.setattr("lumina_ray.client.client.os.environ", {"LUMINA_KEY": key})
    with pytest.raises(UsageError, match="the API key") as error:
        Client(URL, key if given else None)
    assert "cret" not in str(error.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "127.8.9.1"])
def test_loopback_goes_past_a_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:3128")
    with Client(f"http://{host}:1", attempts=1) as client, pytest.raises(EndpointError, match=r"refused|assign"):
        client.ready()


@pytest.mark.parametrize("proxy", ["ftp://x", "http://x:y"])
def test_a_proxy_that_is_none_is_named(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(UsageError, match="the environment's proxy or certificates cannot be used"):
        Client("https://lumina.example")
    Client("http://127.0.0.1:1").close()
