"""What Prometheus sees of a job, and a dashboard that asks for nothing else."""

import json
import re
import time
from pathlib import Path

import httpx
import pytest
import ray

import cluster
from cluster.fingerprint import JobSummary, run_fingerprint_job
from cluster.metrics import COUNTERS, GAUGES, Times, WorkerTimes
from tests.cluster.catalog import write_manifest, write_tone

EXPORTED = {f"ray_{name}_total" for name in COUNTERS} | {f"ray_{name}" for name in GAUGES}
DASHBOARDS = Path(cluster.__file__).parent / "grafana"


def test_the_dashboard_queries_what_the_code_exports() -> None:
    dashboard = json.loads((DASHBOARDS / "lumina.json").read_text())
    queried = {name for panel in dashboard["panels"] for t in panel["targets"] for name in metrics(t["expr"])}
    assert queried == EXPORTED


def metrics(expression: str) -> set[str]:
    return set(re.findall(r"ray_\w+", expression))


@pytest.mark.parametrize("name", ["lumina.json", "lumina-serve.json"])
def test_a_dashboard_has_what_grafana_needs(name: str) -> None:
    """Grafana publishes no schema of these files: without these fields, an import fails or shows nothing."""
    dashboard = json.loads((DASHBOARDS / name).read_text())
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= dashboard.keys()
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    (variable,) = dashboard["templating"]["list"]
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["datasource"] == {"type": "prometheus", "uid": f"${{{variable['name']}}}"}
        assert panel["title"]
        assert [target["refId"] for target in panel["targets"]] == ["A", "B"][: len(panel["targets"])]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, f"{panel['title']} overlaps another panel"
        taken |= cells


def test_times_of_workers_add_up() -> None:
    """Two workers: one makes 10 songs in 6 s and ends at 100, the other 30 in 10 s and ends at 104."""
    times = Times((WorkerTimes(2.0, 5.0, 1.0, 10, 100.0), WorkerTimes(3.0, 7.0, 3.0, 30, 104.0)))
    assert times.load_s == 3.0
    assert times.tail_s == 4.0
    assert times.songs_per_s == pytest.approx(10 / 6 + 30 / 10)
    assert times.wait_fraction == 4 / 16
    assert Times().wait_fraction is None


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (0.37, "waited for songs 37% of the time; raise --decoders (now 2)"),
        (0.02, "waited for songs 2% of the time"),
        (None, "of audio in 9 s"),
    ],
)
def test_the_summary_names_the_option_to_change(fraction: float | None, said: str) -> None:
    summary = JobSummary("s", "influence", "nano", "cpu", 1, 5, 5, 0, 5, 60.0, 9.0, 2, fraction, ())
    assert said in summary.sentence
    assert ("--decoders" in summary.sentence) == ("--decoders" in said)


def test_prometheus_sees_a_job(ray_cluster: str, tiny_model_dir: Path, tmp_path: Path) -> None:
    write_tone(tmp_path / "tone.wav", 1.5)
    manifest = write_manifest(
        tmp_path / "manifest.parquet", ["a", "b", "c", "d"], ["tone.wav", "tone.wav", "tone.wav", "missing.wav"]
    )
    before = scraped()
    summary = run_fingerprint_job(manifest, tmp_path / "store", model=str(tiny_model_dir), kind="stats", workers=1)
    assert summary.wait_fraction is not None
    assert 0 < summary.wait_fraction < 1
    end_s = time.monotonic() + 60
    while (added := {name: value - before.get(name, 0) for name, value in scraped().items()}).get(
        "ray_lumina_songs_total", 0
    ) < 4:
        assert time.monotonic() < end_s, added
        time.sleep(1)
    assert added["ray_lumina_songs_total"] == added["ray_lumina_decoded_songs_total"] == 4
    assert added["ray_lumina_audio_seconds_total"] == pytest.approx(4.5)
    assert added["ray_lumina_failures_total"] == 1
    assert added["ray_lumina_busy_seconds_total"] > 0
    assert added["ray_lumina_wait_seconds_total"] > 0
    assert added["ray_lumina_songs_in_flight"] == 0


def scraped() -> dict[str, float]:
    """Our metrics as this machine exports them, summed over processes and tags."""
    (node,) = ray.nodes()
    text = httpx.get(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics").text
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("ray_lumina_"):
            name, value = re.split(r"[{ ]", line)[0], line.rpartition(" ")[2]
            found[name] = found.get(name, 0) + float(value)
    return found
