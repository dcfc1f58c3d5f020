"""What Prometheus, Grafana and the logs are told of requests, and what they are not."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st
from ray._private import worker
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

import cluster
from lumina_ray.index import load_snapshot
from serve.app import ServeArgs
from serve.gateway import create_app
from serve.keys import add_key
from serve.metrics import COUNTERS, GAUGES, HISTOGRAMS
from tests.serve.app import INDEX, MODEL, Deployment, asking, make_services
from tests.serve.conftest import sound, wav
from tests.serve.problems import assert_problem

URL = "/v1/attributions"
OURS = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES | HISTOGRAMS}
DASHBOARD = json.loads((Path(cluster.__file__).parent / "grafana" / "lumina-serve.json").read_text())
QUERIED = {
    re.sub("_(bucket|sum|count)$", "", name)
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
    for name in re.findall(r"ray_\w+", target["expr"])
}
APP = create_app(make_services())
# Where there is a GPU.
OF_GPUS = {"ray_node_gram_used", "ray_component_gpu_memory_mb"}


def test_the_dashboard_shows_all_that_the_code_exports() -> None:
    assert {name for name in QUERIED if name.startswith("ray_lumina_")} == OURS
    assert {f"ray_{name}" for name in METRICS_GAUGES} >= OF_GPUS


def test_prometheus_sees_requests(client: httpx.Client, serve_args: ServeArgs) -> None:
    before = scraped()
    song = wav(sound(3, 7.0))
    assert client.post(URL, files={"audio": song}).status_code == 200
    assert_problem(client.post(URL, files={"audio": b"not audio"}), 422, "audio.undecodable")
    assert client.get("/v1/songs/song-0007").status_code == 200
    wanted = {
        f'ray_lumina_serve_answers_total route="{URL}" status="200" code="ok"': 1,
        f'ray_lumina_serve_answers_total route="{URL}" status="422" code="audio.undecodable"': 1,
        'ray_lumina_serve_answers_total route="/v1/songs/{song_id:path}" status="200" code="ok"': 1,
        "ray_lumina_serve_audio_seconds_total": 7,
        'ray_lumina_serve_waited_seconds_count stage="upload"': 2,
        'ray_lumina_serve_waited_seconds_count stage="decode"': 2,
        'ray_lumina_serve_waited_seconds_count stage="fingerprint"': 1,
        'ray_lumina_serve_waited_seconds_count stage="search"': 1,
        'ray_lumina_serve_worked_seconds_count stage="fingerprint"': 1,
        'ray_lumina_serve_worked_seconds_count stage="search"': 1,
        'ray_lumina_serve_worked_seconds_count stage="report"': 1,
    }
    end_s = time.monotonic() + 60
    while True:
        now = scraped()
        added = {name: round(now.get(name, 0) - before.get(name, 0), 3) for name in wanted}
        missing = QUERIED - OF_GPUS - {re.sub("_(bucket|sum|count)$", "", name.split(" ")[0]) for name in now}
        # Or more: what was asked before may be exported only now.
        if not missing and all(added[name] >= n for name, n in wanted.items()):
            break
        assert time.monotonic() < end_s, (added, missing)
        time.sleep(1)
    assert now["ray_lumina_serve_waiting"] == 0
    assert now[f'ray_lumina_serve_index version="{load_snapshot(serve_args.index).version}"'] >= 1


def scraped() -> dict[str, float]:
    """Metrics as this machine exports them, by name and our tags, summed over all others."""
    (node,) = ray.nodes()
    text = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics").text
    found: dict[str, float] = {}
    for line in text.splitlines():
        if match := re.match(r"(ray_\w+)(?:{(.*)})? (\S+)$", line):
            name, tags, value = match[1], dict(re.findall(r'(\w+)="([^"]*)"', match[2] or "")), match[3]
            ours = [f'{tag}="{tags[tag]}"' for tag in ("stage", "route", "status", "code", "version") if tag in tags]
            key = " ".join([name, *ours] if name.startswith("ray_lumina_") else [name])
            found[key] = found.get(key, 0) + float(value)
    return found


def lines_about(request_id: str) -> list[dict]:
    """What the gateways wrote about a request, waiting until they have."""
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        found = [line for line in gateway_lines() if line.get("request_id") == request_id and "request" in line]
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"no line about {request_id}")


def gateway_lines() -> Iterator[dict]:
    for file in (logs() / "serve").glob("replica_*_Gateway_*.log"):
        # The last one may be half written.
        for line in file.read_text().rpartition("\n")[0].splitlines():
            yield json.loads(line)


def logs() -> Path:
    return Path(worker._global_node.get_logs_dir_path())


def test_each_request_is_a_line_of_json(client: httpx.Client) -> None:
    song = wav(sound(3, 7.0))
    headers = {"X-Request-ID": "of-a-song"}
    assert client.post(URL, files={"audio": ("secret name.wav", song)}, headers=headers).status_code == 200
    (line,) = lines_about("of-a-song")
    said = line["request"]
    waited_s = said.pop("waited_s")
    assert set(waited_s) == {"upload", "decode", "fingerprint", "search"}
    assert sum(waited_s.values()) <= said.pop("seconds") < 60
    assert len(song) < said.pop("bytes") < len(song) + 1000
    assert said == {"method": "POST", "route": URL, "status": 200, "code": "ok", "key": None, "audio_s": 7.0}

    client.post(URL, files={"audio": wav(np.zeros(96_000, np.float32))}, headers={"X-Request-ID": "silent"})
    client.get("/v1/songs/nothing", headers={"X-Request-ID": "unknown"})
    client.get("/no/such/path", headers={"X-Request-ID": "nowhere"})
    found = {name: lines_about(name)[0]["request"] for name in ("silent", "unknown", "nowhere")}
    assert {name: (said["route"], said["status"], said["code"]) for name, said in found.items()} == {
        "silent": (URL, 422, "audio.silent"),
        "unknown": ("/v1/songs/{song_id:path}", 404, "song.unknown"),
        "nowhere": ("none", 404, "http.404"),
    }


def test_logs_hold_no_secret(client: httpx.Client, closed: str, keys_file: Path) -> None:
    key = add_key(keys_file, "acme")
    authorization = {"Authorization": f"Bearer {key}", "X-Request-ID": "with-a-key"}
    files = {"audio": ("unreleased song.wav", wav(sound(3)))}
    ask = {"headers": authorization, "timeout": 60, "trust_env": False}
    assert httpx.post(f"{closed}{URL}", files=files, **ask).status_code == 200
    assert httpx.post(f"{closed}{URL}", files=files, params={"policy": key}, **ask).status_code == 422
    assert httpx.get(f"{closed}/v1/songs/{key}", **ask).status_code == 404
    assert client.get(f"/{key}", headers=authorization).status_code == 404
    # Once the last of them is written down, so are the others.
    assert lines_about("with-a-key")
    written = [file for file in logs().rglob("*") if file.is_file()]
    assert any("with-a-key" in file.read_text(errors="replace") for file in written)
    for file in written:
        for secret in (key, "unreleased"):
            assert secret not in file.read_text(errors="replace"), file


def test_no_log_has_what_a_client_makes_long(client: httpx.Client) -> None:
    long = "x0" * 50_000
    asked = {"X-Request-ID": long, "User-Agent": long, "Traceparent": long, "X-Session-Id": long}
    for request in (
        {"url": "/v1/songs", "headers": asked},
        {"url": f"/v1/songs/{long[:30_000]}", "headers": {"X-Request-ID": "before-the-last"}},
        {"url": "/v1/songs", "params": {"cursor": long[:30_000]}},
        {"url": f"/{long[:30_000]}"},
        {"url": "/v1/songs", "headers": {"X-Request-ID": "the-last"}},
    ):
        client.get(**request)
    assert lines_about("the-last")
    for file in logs().rglob("*"):
        if file.is_file():
            assert long[:200] not in file.read_text(errors="replace"), file


@given(method=st.text("ABCXYZ-", min_size=1, max_size=300), path=st.text(max_size=300))
@settings(max_examples=30, deadline=None)
def test_a_line_is_short_whatever_was_asked(method: str, path: str) -> None:
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serve.requestlog.logger.info", lambda text, *values, **_: said.append(text % values))
        ask(method, f"/{path}")
    assert len(said) == 1
    assert len(said[0]) < 100


def ask(method: str, path: str) -> None:
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [(b"host", b"localhost")]}

    async def receive() -> dict:
        return {"type": "http.disconnect"}

    async def send(_: dict) -> None:
        pass

    asyncio.run(APP(scope, receive, send))


def test_health_needs_model_and_index() -> None:
    wrong = RuntimeError("the model no longer gives the numbers that it gave at start")
    for model, found, status in ((MODEL, INDEX, 200), (wrong, INDEX, 503), (MODEL, wrong, 503)):
        services = make_services(fingerprinter=Deployment(describe=model), searcher=Deployment(describe=found))
        with asking(services) as client:
            for path in ("/healthz", "/readyz"):
                answer = client.get(path)
                assert answer.status_code == status
                if status == 503:
                    assert_problem(answer, 503, "server.unavailable")
