"""A Ray that does not answer, or cannot start, is one clear line within seconds."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from cluster import session
from cluster.session import ray_session
from lumina_ray.errors import ClusterError
from lumina_ray.front.ray_address import check_ray_address


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of something that takes connections and never answers, as a stopped process does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def web() -> Iterator[str]:
    """The address of a web server."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        ("127.0.0.1:1", "does not answer .*refused.* unset RAY_ADDRESS"),
        ("ray://127.0.0.1:1", "does not answer"),
        ("[::1]:1", "does not answer"),
        ("http://127.0.0.1:8265", "is no address of a Ray cluster.*`ray job submit --address`"),
        *(
            (address, "is no address of a Ray cluster")
            for address in ("nonsense", "host:", ":6379", "host:99999", "h:x")
        ),
        ("silent", "no answer within 3 s"),
        ("web", "what listens there is not Ray"),
    ],
)
def test_a_dead_address_is_one_line_within_seconds(
    address: str, cause: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if address in ("silent", "web"):
        address = request.getfixturevalue(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    begin_s = time.monotonic()
    with pytest.raises(ClusterError, match=cause) as raised:
        check_ray_address()
    assert time.monotonic() - begin_s < 8
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("address", [None, "", "auto", "local"])
def test_no_address_is_asked_nothing(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address is not None:
        monkeypatch.setenv("RAY_ADDRESS", address)
    check_ray_address()


def test_a_cluster_that_is_there_answers(ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    check_ray_address()


def started(monkeypatch: pytest.MonkeyPatch, *causes: str | None) -> list[str]:
    """Run a session while Ray fails to start for some causes in turn (None for a start); give what it says."""
    left, said = list(causes), []

    def start(_: object) -> None:
        if (cause := left.pop(0)) is not None:
            raise Exception(cause)  # as Ray does

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(session.ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "start_local", start)
    with ray_session(said.append):
        said.append("started")
    return said


def test_on_a_busy_machine_ray_is_started_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = "The current node timed out during startup. This could happen because some of the raylet failed to startup"
    said = started(monkeypatch, slow, None)
    assert said == ["Starting Ray on this machine.", "Ray did not start in time; trying once more.", "started"]
    with pytest.raises(ClusterError, match=r"did not start on this machine in two attempts .*less busy"):
        started(monkeypatch, slow, slow)
    with pytest.raises(ClusterError, match="cannot connect to a local Ray: Exception: no such thing"):
        started(monkeypatch, "no such thing")


def test_a_temporary_folder_whose_name_is_too_long_names_the_variable(tmp_path: Path) -> None:
    """It is Ray's own refusal, in a process of its own: this one has a Ray already."""
    (folder := tmp_path / ("x" * 100)).mkdir()
    program = "from cluster.session import ray_session\nwith ray_session(): pass"
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"RAY_TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    last = done.stderr.splitlines()[-1]
    assert "ClusterError: Ray cannot start: the name of its temporary folder is too long" in last
    assert "Set RAY_TMPDIR to a folder with a short name, such as /tmp" in last
