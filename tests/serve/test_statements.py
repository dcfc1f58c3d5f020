"""Statements over HTTP: the same bytes as the command's, and bounds."""

import threading
from pathlib import Path

import httpx
import pytest

from lumina_ray.client import Client
from lumina_ray.statement.files import make_files
from lumina_ray.statement.json import parse_statement, to_json
from serve.access import Access
from serve.keys import KeyRing, add_key
from serve.routes import statements
from serve.schemas import ServeArgs, StatementOptions
from tests.serve.app import asking, make_services
from tests.serve.problems import assert_problem
from tests.statement.making import changed, of_audio, real_reports

URL = "/v1/statements"
NDJSON = {"Content-Type": "application/x-ndjson"}
ASKED = {"by": "owner", "period": "2026-Q3"}


@pytest.fixture(scope="module")
def reports() -> list[bytes]:
    return [of_audio(report, number) for number, report in enumerate(real_reports(6))]


def test_the_endpoint_gives_the_commands_bytes(reports: list[bytes], tmp_path: Path) -> None:
    for number, report in enumerate(reports):
        (tmp_path / f"{number}.json").write_bytes(report)
    made = make_files([str(tmp_path)], None, "owner", "2026-Q3").statement
    with asking(make_services()) as client:
        answer = client.post(URL, params=ASKED, content=b"\n".join(reports), headers=NDJSON)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.text == to_json(made)
        assert parse_statement(answer.content, "answer") == made
        table = client.post(URL, params=ASKED | {"format": "csv"}, content=b"\n".join(reports), headers=NDJSON)
        assert table.headers["content-disposition"] == 'attachment; filename="statement.csv"'
        assert table.content.startswith("\ufeff".encode() + b'"period","by","channel"')
        page = client.post(URL, params=ASKED | {"format": "html"}, content=b"\n".join(reports), headers=NDJSON)
        assert "Signatures of the reports were not checked" in page.text


def test_the_client_sends_files(reports: list[bytes], tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.json" for number in range(len(reports))]
    for file, report in zip(files, reports, strict=True):
        file.write_bytes(report)
    with asking(make_services()) as http:

        def forward(request: httpx.Request) -> httpx.Response:
            answer = http.request(request.method, str(request.url), content=request.read(), headers=request.headers)
            return httpx.Response(answer.status_code, content=answer.content)

        client = Client("http://localhost", transport=httpx.MockTransport(forward))
        assert client.statement(files, "owner", "2026-Q3").reports.counted == len(reports)


def test_what_is_refused(reports: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    other = changed(reports[1], lambda values: values["policy"].update(top_k=3))
    with asking(make_services(args=ServeArgs(index="unused", open_access=True, max_upload_bytes=1 << 20))) as client:

        def ask(content: bytes, headers: dict[str, str] = NDJSON, **params: str):
            return client.post(URL, params=ASKED | params, content=content, headers=headers)

        assert_problem(ask(b"{}\n"), 422, "statement.invalid")
        assert_problem(ask(b""), 422, "statement.invalid")
        mixed = ask(reports[0] + b"\n" + other)
        assert_problem(mixed, 422, "statement.invalid")
        assert "the request, line 1 and the request, line 2" in mixed.json()["detail"]
        assert_problem(ask(b"[" * 200_000), 422, "report.invalid")
        assert_problem(ask(bytes((1 << 20) + 1)), 413, "request.too_large")
        assert_problem(ask(reports[0], {"Content-Type": "application/json"}), 415, "request.not_ndjson")
        assert_problem(ask(reports[0], period="autumn"), 422, "request.invalid")
        assert_problem(ask(reports[0], by="label"), 422, "request.invalid")
        assert_problem(ask(reports[0], fromat="csv"), 422, "request.invalid")
        monkeypatch.setattr(statements, "MAX_STATEMENT_REPORTS", 3)
        assert_problem(ask(b"\n".join(reports)), 413, "statement.too_many")


def test_it_needs_a_key_and_stops_when_its_time_is_up(
    reports: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = add_key(tmp_path / "keys.json", "acme")
    with asking(make_services(Access(KeyRing(tmp_path / "keys.json"), 1))) as client:
        assert_problem(client.post(URL, params=ASKED, content=reports[0], headers=NDJSON), 401, "access.denied")
        allowed = client.post(
            URL, params=ASKED, content=reports[0], headers=NDJSON | {"Authorization": f"Bearer {key}"}
        )
        assert allowed.status_code == 200
    begun, seen = threading.Event(), list[bool]()

    def slow(text: bytes, options: StatementOptions, stopped: threading.Event) -> bytes:
        begun.set()
        seen.append(stopped.wait(20))
        return b""

    monkeypatch.setattr(statements, "_add_up", slow)
    hurried = ServeArgs(index="unused", open_access=True, request_timeout_s=0.3)
    with asking(make_services(args=hurried)) as client:
        assert_problem(client.post(URL, params=ASKED, content=reports[0], headers=NDJSON), 504, "server.timeout")
    statements._ADDER.submit(lambda: None).result()
    assert seen == [True]
