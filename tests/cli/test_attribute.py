"""`lumina attribute` with one file, and with many: the model is loaded once, and bad files stop nobody."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lumina_ray.attribution import fingerprinter
from lumina_ray.attribution.confirmation import Confirmation, ConfirmedSong
from lumina_ray.catalog import scan_folder, write_manifest
from lumina_ray.cli.main import run
from lumina_ray.cli.queries import find_queries
from lumina_ray.client import Client, EndpointError
from lumina_ray.errors import UsageError
from lumina_ray.front.index import open_index
from lumina_ray.report import read_report, report_sha256, to_json
from tests.small_catalog import SmallCatalog

Lumina = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lumina(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lumina:
    """Run `lumina attribute` in this process; gives exit code, standard output and error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lumina", "attribute", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


def test_one_file_prints_its_report(lumina: Lumina, small_catalog: SmallCatalog, tmp_path: Path) -> None:
    song, index = small_catalog.songs / "tone-0001.flac", ("--index", small_catalog.index, "--device", "cpu")
    report = open_index(small_catalog.index).attribute(song)
    code, out, err = lumina(song, *index, "--json")
    assert (code, out) == (0, to_json(report))
    assert report_sha256(report) in err
    code, out, _ = lumina(song, *index, "--wide", "--candidates", 1, "--html", tmp_path / "page.html")
    assert code == 0
    assert "tone-0001.flac" in out
    assert "kernel" in out
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")
    few = open_index(small_catalog.index).attribute(song, candidates=1)
    assert lumina(song, *index, "--candidates", 1, "--json", "--out", tmp_path / "one")[1] == to_json(few)
    assert to_json(read_report(tmp_path / "one" / "tone-0001.flac.json")) == to_json(few)


def test_an_answer_waits_for_no_import_that_it_does_not_need(small_catalog: SmallCatalog) -> None:
    unneeded = ["matplotlib", "pandas", "scipy.stats", "scipy.signal", "scipy.optimize", "sympy", "ray", "fastapi"]
    unneeded += ["torch._dynamo", "torch.distributed.tensor", "torch._inductor", "triton"]
    code = "import atexit, sys; from lumina_ray.cli.main import run; "
    code += (
        f"atexit.register(lambda: print([name for name in {unneeded} if name in sys.modules], file=sys.stderr)); run()"
    )
    command = ["attribute", small_catalog.songs / "tone-0001.flac", "--index", small_catalog.index, "--json"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True)
    assert json.loads(done.stdout)["near_copies"]
    assert done.stderr.splitlines()[-1] == "[]"


def test_many_files_go_on_past_broken_ones(
    lumina: Lumina, small_catalog: SmallCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    really_open = fingerprinter.open_model
    monkeypatch.setattr(fingerprinter, "open_model", lambda *args: loaded.append(args) or really_open(*args))
    folder, out, table = tmp_path / "clips", tmp_path / "reports", tmp_path / "table.csv"
    (folder / "deep").mkdir(parents=True)
    shutil.copy(small_catalog.songs / "tone-0000.flac", folder / "=one.flac")
    shutil.copy(small_catalog.songs / "tone-0001.flac", folder / "deep" / "two.flac")
    (folder / "broken.wav").write_text("This is not audio.")
    code, said, err = lumina(
        folder, tmp_path / "missing.wav", "--index", small_catalog.index, "--device", "cpu", "--out", out,
        "--html", out, "--csv", table,
    )  # fmt: skip
    assert code == 3
    assert said == f"{out} and {table}: 2 reports, 2 failed\n"
    assert "[audio.undecodable]" in err
    assert "missing.wav: no such file" in err
    assert len(loaded) == 1
    assert sorted(path.name for path in out.iterdir()) == [
        "deep_two.flac.html",
        "deep_two.flac.json",
        "one.flac.html",
        "one.flac.json",
    ]
    for name, song in (("one.flac", "=one.flac"), ("deep_two.flac", "deep/two.flac")):
        expected = open_index(small_catalog.index).attribute(folder / song)
        assert (out / f"{name}.json").read_text(encoding="utf-8") == to_json(expected)
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    queries = [str(folder / "=one.flac"), str(folder / "deep" / "two.flac")]
    assert [row["query"] for row in rows] == [query for query in queries for _ in range(12)]
    assert [row["channel"] for row in rows[:12]] == ["P"] * 6 + ["M"] * 6
    assert rows[0]["song_id"] == "tone-0000.flac"


def test_a_manifest_names_its_songs(lumina: Lumina, small_catalog: SmallCatalog, tmp_path: Path) -> None:
    manifest = tmp_path / "queries.csv"
    write_manifest(scan_folder(small_catalog.songs).songs.slice(0, 2), manifest)
    code, said, _ = lumina(
        manifest, "--index", small_catalog.index, "--device", "cpu", "--csv", tmp_path / "t.csv", "--json"
    )
    answer = json.loads(said)
    assert code == 0
    assert answer["failed"] == []
    assert [report["name"] for report in answer["reports"]] == ["tone-0000.flac", "tone-0001.flac"]
    assert all(len(report["sha256"]) == 64 for report in answer["reports"])


def test_many_files_go_to_an_endpoint(
    lumina: Lumina, small_catalog: SmallCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = open_index(small_catalog.index).attribute(small_catalog.songs / "tone-0001.flac")

    def answer(_: Client, audio: Path, policy: str, top_k: int, candidates: int | None) -> object:
        assert (policy, top_k, candidates) == ("v8", 9, 7)
        if audio.name == "silent.wav":
            raise EndpointError("http://x", 422, "audio.silent", "silent throughout")
        if audio.name == "later.wav":
            raise EndpointError("http://x", 503, "server.busy", "come back")
        return report

    monkeypatch.setattr(Client, "attribute", answer)
    options = ("--url", "http://x", "--policy", "v8", "--top-k", 9, "--candidates", 7, "--out", tmp_path)
    assert lumina("a.wav", "silent.wav", "b.wav", *options)[0] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav.json", "b.wav.json"]
    code, said, err = lumina("a.wav", "later.wav", "b.wav", *options)
    assert (code, said) == (1, "")
    assert "come back (server.busy)" in err


def test_an_endpoint_confirms(
    lumina: Lumina, small_catalog: SmallCatalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = open_index(small_catalog.index).attribute(small_catalog.songs / "tone-0001.flac")
    song = ConfirmedSong("P", "tone-0001.flac", 1, 1, 3e-5, 1e-6, 0.2)
    confirmed = Confirmation("a", "b", "c", {}, 0.005, 4, 4, {"P": 1e-6}, {"P": 2e-6}, (song,))
    monkeypatch.setattr(Client, "confirm", lambda *_, **__: (report, confirmed))
    code, said, err = lumina("a.wav", "--url", "http://x", "--confirm", "unlearn", "--out", tmp_path)
    assert (code, err) == (0, "")
    assert "Confirmation by forgetting" in said
    assert json.loads((tmp_path / "a.wav.confirmation.json").read_text())["songs"][0]["effect_nats"] == 3e-5
    for wrong in (("--store", small_catalog.store), ("--fisher", "f.npz")):
        assert lumina("a.wav", "--url", "http://x", "--confirm", "unlearn", *wrong)[0] == 2


def test_names_of_reports_are_safe_and_unique(tmp_path: Path) -> None:
    names = [query.name for query in find_queries(["a/../x y.wav", "b/x y.wav", "X_Y.wav", "...", "§§", "夜曲.mp3"])]
    assert names == ["x_y.wav", "x_y.wav-2", "X_Y.wav-3", "query", "query-2", "夜曲.mp3"]
    with pytest.raises(UsageError, match="holds no audio files"):
        find_queries([str(tmp_path)])
