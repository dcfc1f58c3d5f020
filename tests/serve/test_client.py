"""The Python client, and the command on top of it, against the real endpoint."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.cli.exits import exit_code
from lumina_ray.cli.main import run
from lumina_ray.client import Client, EndpointError
from lumina_ray.front.index import open_index
from lumina_ray.report import to_json
from lumina_ray.report.verify import verify_report
from serve.app import ServeArgs, Server
from tests.serve.conftest import N_SONGS, sound, wav


@pytest.fixture
def song(tmp_path: Path) -> Path:
    (tmp_path / "query.wav").write_bytes(wav(sound(3, 12.0)))
    return tmp_path / "query.wav"


def test_the_client_the_command_and_a_local_run_say_the_same(
    server: Server,
    serve_args: ServeArgs,
    song: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    local = to_json(open_index(serve_args.index, model=serve_args.model).attribute(song, policy="v8", top_k=5))
    with Client(server.address) as client:
        assert client.ready().songs == N_SONGS
        report = client.attribute(song, policy="v8", top_k=5)
    assert to_json(report) == local

    html = song.with_name("report.html")
    command = ["lumina", "attribute", song, "--url", server.address, "--policy", "v8", "--top-k", 5, "--json"]
    monkeypatch.setattr(sys, "argv", [str(part) for part in (*command, "--html", html)])
    with pytest.raises(SystemExit) as ended:
        run()
    assert not ended.value.code
    assert capsys.readouterr().out == local
    assert "<html" in html.read_text()


def test_a_report_of_the_endpoint_is_verified_on_this_machine(
    server: Server, serve_args: ServeArgs, song: Path
) -> None:
    with Client(server.address) as client:
        report = client.attribute(song)
    assert verify_report(report, song, serve_args.index, model=serve_args.model).result == "identical"


def test_a_refusal_has_its_status_and_code(server: Server, tmp_path: Path) -> None:
    (tmp_path / "silence.wav").write_bytes(wav(np.zeros(96_000, np.float32)))
    with Client(server.address) as client, pytest.raises(EndpointError) as refused:
        client.attribute(tmp_path / "silence.wav")
    assert (refused.value.status, refused.value.code, exit_code(refused.value)) == (422, "audio.silent", 2)
