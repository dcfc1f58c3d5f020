"""A model fine-tuned by a command, an index of it, and a report whose songs are held against other trainings."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lumina_ray.audio import load_chunks
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.fingerprint import Fingerprinter, Specification, encode_song
from lumina_ray.index import build_index
from lumina_ray.model import open_model
from lumina_ray.replay.question import questions
from lumina_ray.replay.record import open_record
from lumina_ray.replay.reverse import group_losses
from lumina_ray.replay.run import MODEL_FOLDER, load_songs, open_training
from lumina_ray.report import read_report, to_json
from lumina_ray.store import stream_store
from lumina_ray.training.export import export, new_musicgen
from tests.cli.running import run_lumina
from tests.cluster.catalog import write_tone
from tests.cluster.test_membership import write_part
from tests.cluster.test_own_truth import own_songs
from tests.tiny_model import tiny_codec_config

pytestmark = pytest.mark.usefixtures("ray_cluster")
N_SONGS, STEPS = 6, 4
# Songs that are learned a little less: each takes a training.
LESSENED, LESS = (0, 2, 5), 0.1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, a store of songs, the run that learned them, an index of what it ended with, and a clip."""
    out = tmp_path_factory.mktemp("train")
    export(new_musicgen(tiny_codec_config(), n_layers=8, dim=32, heads=2), out / "base")
    songs = own_songs("song", N_SONGS, 0)
    write_part(out / "store", Specification.for_model(open_model(str(out / "base")), "stats"), out / "base", songs)
    done = train(out)
    assert done.exit_code == 0, done.stderr
    model = out / "run" / MODEL_FOLDER
    assert json.loads(done.stdout) == {"run": str(out / "run"), "model": str(model.resolve())}
    opened = open_model(str(model))
    specification = Specification.for_model(opened, "stats")
    fingerprinter = Fingerprinter(opened, specification)
    for name, codes in {"songs": songs, "controls": own_songs("control", 20, 1, 1)}.items():
        vectors = {song_id: fingerprinter(one).vectors for song_id, one in codes.items()}
        write_part(out / name, specification, model, codes, vectors)
    store = stream_store(out / "songs")
    write_calibration(calibrate_store(store, stream_store(out / "controls")), store.path)
    build_index(store, out / "index")
    write_tone(out / "clip.flac", 2)
    return out


def train(folder: Path, *more: str):
    asked = ("train", "--base", folder / "base", "--catalog", folder / "store", "--out", folder / "run")
    return run_lumina(*map(str, asked), "--epochs", str(STEPS), "--json", *more)


def ask(folder: Path, run: Path, *more: object):
    asked = ("attribute", folder / "clip.flac", "--index", folder / "index", "--device", "cpu", "--replay", run)
    return run_lumina(*map(str, (*asked, *more)))


def test_what_a_replay_says_of_each_listed_song_is_what_less_of_it_does(folder: Path, tmp_path: Path) -> None:
    run = folder / "run"
    done = ask(folder, run, "--json", "--out", tmp_path, "--html", tmp_path / "page.html", "--csv", tmp_path / "x.csv")
    assert done.exit_code == 0, done.stderr
    report, _, beside = done.stdout.rpartition("\n{")
    found = json.loads("{" + beside)
    # The report itself is the one without the question.
    assert report.strip() == to_json(read_report(tmp_path / "clip.flac.json")).strip()
    assert found == json.loads((tmp_path / "clip.flac.replay.json").read_text())
    assert (found["n_songs"], found["steps"], found["not_learned"]) == (N_SONGS, STEPS, [])
    assert len(found["songs"]) == 2 * N_SONGS
    gate = found["gate"]
    assert gate["r"] >= 0.95
    assert len(gate["predicted_nats"]) == len(gate["actual_nats"]) == gate["removals"] == 6

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        record = open_record(run, open_training(run))
        query = encode_song(open_model(str(run / MODEL_FOLDER)), load_chunks(folder / "clip.flac").chunks)
        groups = list(questions(query).values())
        ids = load_songs(run).ids
        record.training.set_weights(record.state(STEPS).theta_P)
        whole_Q = group_losses(record.training, groups)
        without = []
        for song in LESSENED:
            for _ in record.training.run([1 - LESS * (n == song) for n in range(N_SONGS)]):
                pass
            without.append((group_losses(record.training, groups) - whole_Q) / LESS)
    finally:
        torch.set_num_threads(threads)
    rise_N, first_N = np.stack(without).T
    actual = {"P": first_N, "M": (4 * rise_N - first_N) / 3}
    for channel, actual_N in actual.items():
        songs = [song for song in found["songs"] if song["channel"] == channel]
        effects = {song["song_id"]: song["effect_nats"] for song in songs}
        predicted_N = np.array([effects[ids[song]] for song in LESSENED])
        np.testing.assert_allclose(predicted_N, actual_N, atol=0.1 * np.abs(actual_N).max())
        assert sorted(song["rank"] for song in songs) == list(range(1, N_SONGS + 1))
        assert found["all_songs_nats"][channel] == pytest.approx(sum(effects.values()))

    page = (tmp_path / "page.html").read_text()
    assert found["run_sha256"] in page
    assert f"r {gate['r']:.3f}" in page
    with (tmp_path / "x.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    of_rows = {(row["channel"], row["song_id"]): float(row["replay_nats"]) for row in rows}
    assert of_rows == {(song["channel"], song["song_id"]): song["effect_nats"] for song in found["songs"]}
    shown = ask(folder, run)
    assert shown.exit_code == 0, shown.stderr
    assert "Influence by replay" in shown.stdout
    assert found["run_sha256"][:12] in shown.stdout


def test_a_finished_run_is_not_trained_again_and_other_songs_are_refused(folder: Path, tmp_path: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (folder / "run" / "states").iterdir()}
    assert train(folder).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "run" / "states").iterdir()} == files
    other = train(folder, "--seed", "1")
    assert other.exit_code != 0
    assert "plan.seed" in other.stderr
    specification = Specification.for_model(open_model(str(folder / "base")), "stats")
    write_part(tmp_path / "store", specification, folder / "base", own_songs("song", N_SONGS, 3))
    changed = train(folder, "--catalog", str(tmp_path / "store"))
    assert changed.exit_code != 0
    assert "begun with other songs" in changed.stderr


def test_a_plan_says_what_a_run_takes_before_it_and_after_it(folder: Path) -> None:
    run = folder / "run"
    before = train(folder, "--plan")
    assert before.exit_code == 0, before.stderr
    planned = json.loads(before.stdout)
    after = run_lumina("plan", "--replay", str(run), "--json")
    assert after.exit_code == 0, after.stderr
    found = json.loads(after.stdout)
    states = sum(1 for _ in (run / "states").iterdir())
    for one in (planned, found):
        assert (one["songs"], one["steps"], one["states"], one["passes"]) == (N_SONGS, STEPS, states, 2)
        assert one["workers"] == 2
        assert 0 < one["step_s"] < one["replayed_step_s"]
        assert one["reverse_step_s"] > 0
        assert one["clip"]["low"] < one["clip"]["expected"] < one["clip"]["high"]
    assert (planned["recorded"], found["recorded"]) == (False, True)
    assert planned["first_clip"]["expected"] > planned["clip"]["expected"]
    files = [path for path in run.rglob("*") if path.is_file()]
    measured_on_songs = {"companion.npz", "statistics.npz"}
    sizes = sum(path.stat().st_size for path in files if path.name not in measured_on_songs)
    assert planned["run_bytes"] == pytest.approx(sizes, rel=0.1)
    assert found["run_bytes"] == sum(path.stat().st_size for path in files)
    shown = run_lumina("plan", "--replay", str(run))
    assert shown.exit_code == 0, shown.stderr
    for what in ("time of a clip", "or each song left out", "6 trainings on 2 CPUs", "disk of a clip"):
        assert what in " ".join(shown.stdout.split())


def test_a_run_that_cannot_be_replayed_here_is_not_planned(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "run", copy)
    record = json.loads((copy / "run.json").read_text())
    environment = record["environment"] | {"torch": "1.0.0"}
    (copy / "run.json").write_text(json.dumps(record | {"environment": environment}))
    other = run_lumina("plan", "--replay", str(copy))
    assert other.exit_code != 0
    assert f"{copy}: a training with environment.torch = 1.0.0 was recorded" in other.stderr
    (copy / "run.json").write_text("{}")
    damaged = run_lumina("plan", "--replay", str(copy))
    assert damaged.exit_code == 2
    assert "no record of a training" in damaged.stderr
    shutil.rmtree(copy / MODEL_FOLDER)
    unfinished = run_lumina("plan", "--replay", str(copy))
    assert unfinished.exit_code == 2
    assert f"{copy}: no finished run; `lumina train` makes one, and goes on" in unfinished.stderr


def test_a_run_of_another_model_or_an_unfinished_one_answers_nothing(folder: Path, tmp_path: Path) -> None:
    unfinished = ask(folder, tmp_path)
    assert unfinished.exit_code == 2
    assert "no finished run" in unfinished.stderr
    copy = tmp_path / "copy"
    shutil.copytree(folder / "run", copy)
    weights = copy / MODEL_FOLDER / "model.safetensors"
    tensors = load_file(weights)
    tensors["decoder.lm_heads.0.weight"] += 1e-3
    save_file(tensors, weights, metadata={"format": "pt"})
    other = ask(folder, copy)
    assert other.exit_code != 0
    assert "ended with a model of weights" in other.stderr
    nowhere = run_lumina("attribute", str(folder / "clip.flac"), "--url", "http://x", "--replay", str(copy))
    assert nowhere.exit_code == 2
    assert "--replay takes --index" in nowhere.stderr
