"""The endpoint over HTTP, on real Serve replicas with a real (random) model and index."""

import asyncio
import http.client
import io
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

import serve
from lumina_ray.attribution import Report
from lumina_ray.front.index import open_index
from lumina_ray.index import load_snapshot
from lumina_ray.report import to_json
from lumina_ray.vocabulary import SAMPLE_RATE_HZ
from serve.app import ServeArgs, Server
from tests.audio.formats import with_ffmpeg
from tests.serve.app import Deployment, asking, make_services
from tests.serve.conftest import MAX_UPLOAD_BYTES, N_SONGS, sound, wav
from tests.serve.problems import assert_problem

URL = "/v1/attributions"


def post(client: httpx.Client, body: bytes, **options: str | int) -> httpx.Response:
    return client.post(URL, files={"audio": ("unused name.wav", body)}, params=options)


def encoded(samples: np.ndarray, format: str, subtype: str | None = None, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=format, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"policy": "v8"}, {"policy": "v7", "top_k": 3, "candidates": 2}])
def test_the_answer_is_byte_for_byte_the_local_report(
    client: httpx.Client, serve_args: ServeArgs, tmp_path: Path, options: dict
) -> None:
    song = np.concatenate([sound(3, 12.0), sound(7, 8.5)])
    file = tmp_path / "query.mp3"
    file.write_bytes(encoded(song, "MP3"))

    local = to_json(open_index(serve_args.index, model=serve_args.model).attribute(file, **options))
    response = post(client, file.read_bytes(), **options)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.content == local.encode()


def test_the_answer_says_which_of_several_streams_was_attributed(client: httpx.Client) -> None:
    song = sound(3)[:, None]
    report = post(client, with_ffmpeg([0 * song, song], "matroska", "flac", rate_hz=SAMPLE_RATE_HZ)).json()
    assert report["query"]["audio_stream"] == {"number": 2, "of": 2, "reason": "first_with_sound"}
    assert post(client, wav(sound(3))).json()["query"]["audio_stream"] is None


def test_a_catalog_song_comes_out_on_top(client: httpx.Client) -> None:
    response = post(client, wav(sound(3)))
    report = Report.model_validate(response.json())
    for channel in report.near_copies.values():
        assert channel.searched == N_SONGS
        assert channel.candidates[0].song.song_id == "song-0003"
        assert channel.candidates[0].similarity > 0.99
        assert channel.candidates[0].share > 0.5


BAD_UPLOADS: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "text": (lambda: b"not audio, but text\n" * 50, 422, "audio.undecodable"),
    "no bytes": (lambda: b"", 422, "audio.empty"),
    "no frames": (lambda: wav(np.zeros(0, np.float32)), 422, "audio.empty"),
    "too short": (lambda: wav(sound(1, 0.5)), 422, "audio.empty"),
    "silent": (lambda: wav(np.zeros(3 * SAMPLE_RATE_HZ, np.float32)), 422, "audio.silent"),
    "too long": (
        lambda: encoded(np.zeros(61 * 8000, np.float32), "FLAC", rate_hz=8000),
        422,
        "audio.too_long",
    ),
    "not a number": (
        lambda: encoded(np.where(np.arange(96_000) == 5, np.nan, sound(1, 3.0)), "WAV", "FLOAT"),
        422,
        "audio.not_finite",
    ),
    "truncated": (lambda: encoded(sound(1, 4.0), "FLAC")[:100_000], 422, "audio.truncated"),
    "too large": (lambda: bytes(MAX_UPLOAD_BYTES + 1), 413, "audio.too_large"),
    "far too large": (lambda: bytes(MAX_UPLOAD_BYTES * 4), 413, "audio.too_large"),
    "a path": (lambda: b"/etc/passwd", 422, "audio.undecodable"),
}


@pytest.mark.parametrize("name", BAD_UPLOADS)
def test_a_bad_upload_is_refused_with_its_reason(client: httpx.Client, name: str) -> None:
    body, status, code = BAD_UPLOADS[name]
    assert_problem(post(client, body()), status, code)


def test_an_endless_body_is_refused_while_it_arrives(server: Server) -> None:
    address = httpx.URL(server.address)
    connection = http.client.HTTPConnection(address.host, address.port, timeout=30)
    connection.putrequest("POST", URL)
    connection.putheader("Content-Type", "multipart/form-data; boundary=B")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    part = b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
    for block in (part, *[bytes(64 << 10)] * (MAX_UPLOAD_BYTES // (64 << 10) + 2)):
        connection.send(b"%x\r\n%b\r\n" % (len(block), block))
    # The body has not ended, and never will.
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (413, "audio.too_large")
    connection.close()


@pytest.mark.parametrize(
    ("document", "other"),
    [
        ("ffconcat version 1.0\nfile pyproject.toml\n", "ffconcat version 1.0\nfile missing.toml\n"),
        ("#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n", "#EXTM3U\n#EXTINF:10,\nfile:///missing\n"),
    ],
)
def test_a_document_cannot_make_the_server_open_files(client: httpx.Client, document: str, other: str) -> None:
    # If the server looked, it would have something else to say of a file that exists.
    answers = [post(client, body.encode()) for body in (document, other)]
    for answer in answers:
        assert_problem(answer, 422, "audio.undecodable")
    assert answers[0].text == answers[1].text


FORM = {"Content-Type": "multipart/form-data; boundary=B"}
BAD_REQUESTS: dict[str, tuple[dict, int, str]] = {
    "no body": ({}, 415, "request.not_multipart"),
    "bare bytes": (
        {"content": b"RIFF", "headers": {"Content-Type": "audio/wav"}},
        415,
        "request.not_multipart",
    ),
    "a URL": ({"data": {"audio": "http://127.0.0.1:1/a.wav"}}, 415, "request.not_multipart"),
    "other field": ({"files": {"file": b"RIFF"}}, 422, "request.no_audio"),
    "text field": ({"files": {"audio": (None, "song.wav")}}, 422, "request.no_audio"),
    "two files": ({"files": [("audio", b"a"), ("audio", b"b")]}, 400, "request.malformed"),
    "no boundary": (
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "request.malformed",
    ),
    "garbage": ({"content": b"garbage", "headers": FORM}, 400, "request.malformed"),
    "cut off": (
        {
            "content": b'--B\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\nRIFF',
            "headers": FORM,
        },
        422,
        "request.no_audio",
    ),
    "unknown policy": ({"files": {"audio": b"x"}, "params": {"policy": "v9"}}, 422, "request.invalid"),
    "top_k of 0": ({"files": {"audio": b"x"}, "params": {"top_k": 0}}, 422, "request.invalid"),
    "misspelt option": ({"files": {"audio": b"x"}, "params": {"topk": 5}}, 422, "request.invalid"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_reason(client: httpx.Client, name: str) -> None:
    request, status, code = BAD_REQUESTS[name]
    assert_problem(client.post(URL, **request), status, code)


def test_unknown_addresses_and_methods_are_problems_too(client: httpx.Client) -> None:
    assert_problem(client.get("/v2/attributions"), 404, "http.404")
    assert_problem(client.get(URL), 405, "http.405")


def test_a_refused_method_names_those_that_there_are() -> None:
    with asking(make_services(jobs=Deployment())) as client:
        paths = client.get("/openapi.json").json()["paths"]
        known = {path: {method.upper() for method in methods} for path, methods in paths.items()}
        assert known["/v1/jobs/{job_id}"] == {"GET", "DELETE"}
        known |= {"/static/page.js": {"GET", "HEAD"}, "/openapi.json": {"GET", "HEAD"}, "/": {"GET"}, "/docs": {"GET"}}
        for path, methods in known.items():
            for other in {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "BREW"} - methods:
                answer = client.request(other, path.format(job_id="j", song_id="s"))
                assert answer.status_code == 405, (other, path)
                assert set(answer.headers["allow"].split(", ")) == methods, (other, path)
                if other != "HEAD":
                    assert_problem(answer, 405, "http.405")


def test_health_and_readiness(client: httpx.Client, serve_args: ServeArgs) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz").json()
    snapshot = load_snapshot(serve_args.index)
    assert (ready["status"], ready["songs"], ready["policy"]) == ("ready", N_SONGS, "calibrated")
    assert (ready["index_version"], ready["index_key"]) == (snapshot.version, snapshot.key)
    assert ready["specification_sha256"] == snapshot.specification_sha256
    # The name of a local folder, and not where it lies.
    assert ready["model"] == Path(str(serve_args.model)).name


def test_a_request_has_an_id_which_its_answer_repeats(client: httpx.Client) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "mine"}).headers["x-request-id"] == "mine"
    made = {client.get("/healthz").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2
    # Any other is replaced.
    for hostile in ("", "a b", "a\tb", "x" * 129, "x" * (1 << 20), "ü".encode(), b"\xff", "{{7*7}}", "a/b"):
        answer = client.get("/healthz", headers={"X-Request-ID": hostile})
        assert (answer.status_code, len(answer.headers.get_list("x-request-id"))) == (200, 1)
        assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


def test_the_reference_describes_the_report_and_the_upload(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"][URL]["post"]
    answer = operation["responses"]["200"]["content"]["application/json"]
    assert answer["schema"] == {"$ref": "#/components/schemas/Report"}
    assert answer["example"]["format_version"] == 7
    upload = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert (upload["required"], upload["properties"]["audio"]["format"]) == (["audio"], "binary")
    for status in ("400", "408", "413", "415", "422", "429", "500", "503", "504"):
        assert list(operation["responses"][status]["content"]) == ["application/problem+json"]


def test_the_reference_for_people_asks_no_other_host_and_runs_no_script(client: httpx.Client) -> None:
    answer, document = client.get("/docs"), client.get("/openapi.json").json()
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"] == client.get("/").headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    assert not re.search(r"<script|<style| style=| on\w+=|https?:", answer.text)
    used = set(re.findall(r'(?:src|href)="([^"#][^"]*)"', answer.text))
    assert used == {"static/icon.svg", "static/page.css", "openapi.json"}
    for file in used:
        assert client.get(f"/{file}").status_code == 200
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>" in answer.text
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in answer.text
    named = set(re.findall(r' id="([^"]+)"', answer.text))
    assert set(re.findall(r'href="#([^"]+)"', answer.text)) <= named
    assert {"Report", "Candidate", "ProblemDetails"} <= named


def test_the_example_is_a_report() -> None:
    # An answer to a request with top_k=1.
    Report.model_validate_json(Path(serve.__file__).with_name("example_report.json").read_text("utf-8"))


def test_requests_at_once_get_their_own_answers(client: httpx.Client) -> None:
    bodies = [wav(sound(seed)) for seed in range(5)] + [wav(np.zeros(64_000, np.float32))]
    alone = [post(client, body) for body in bodies]
    with ThreadPoolExecutor(12) as pool:
        together = list(pool.map(lambda body: post(client, body), bodies * 2))
    assert [response.status_code for response in alone] == [200] * 5 + [422]
    for i, response in enumerate(together):
        assert response.content == alone[i % len(alone)].content


def test_too_many_requests_are_told_to_come_back(server: Server) -> None:
    async def flood() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=server.address, timeout=60, limits=limits, trust_env=False) as client:
            return await asyncio.gather(*(client.post(URL, files={"audio": b"not audio"}) for _ in range(300)))

    responses = asyncio.run(flood())
    assert {response.status_code for response in responses} == {422, 429}
    refused = [response for response in responses if response.status_code == 429]
    for response in refused:
        assert_problem(response, 429, "server.busy")
        assert int(response.headers["retry-after"]) > 0
