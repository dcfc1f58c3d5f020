"""Fisher information and scores by forgetting on Ray, against one song after the other in this process."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.unlearning import measure_fisher, unlearning_scores, unlearning_table
from lumina_ray.errors import SpecificationMismatch, UnlearningError
from lumina_ray.fingerprint import Specification
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.fisher import Fisher, load_fisher, save_fisher
from lumina_ray.store import stream_store
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import rises
from lumina_ray.unlearning.unlearn import Forgetting
from lumina_ray.vocabulary import SongCodes
from tests.cli.running import run_lumina
from tests.cluster.test_membership import some_songs, write_part

pytestmark = pytest.mark.usefixtures("ray_cluster")
HOW = Forgetting(layers="heads", damping=0.1)


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MusicModel:
    return open_model(str(tiny_model_dir))


@pytest.fixture(scope="module")
def stores(model: MusicModel, tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, specification = tmp_path_factory.mktemp("stores"), Specification.for_model(model, "stats")
    for name, n, seed in (("catalog", 7, 0), ("queries", 2, 1)):
        write_part(folder / name, specification, tiny_model_dir, some_songs(name, n, seed))
    silent = {"silent": SongCodes((some_songs("x", 1, 2)["x-00"].chunks[0],), (0.0,), (np.zeros(30, bool),))}
    write_part(folder / "silent", specification, tiny_model_dir, some_songs("sound", 1, 3) | silent)
    return {name: folder / name for name in ("catalog", "queries", "silent")}


@pytest.fixture(scope="module")
def fisher(model: MusicModel) -> Fisher:
    return fisher_diagonal(model, some_songs("catalog", 7, 0).values())


def test_fisher_information_of_a_store_has_the_bits_of_one_process(
    model: MusicModel, stores: dict[str, Path], fisher: Fisher, tmp_path: Path, tiny_model_dir: Path
) -> None:
    out = tmp_path / "fisher.npz"
    found = measure_fisher(stream_store(stores["catalog"]), str(tiny_model_dir), out)
    assert found.sha256 == fisher.sha256
    assert load_fisher(out).sha256 == fisher.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["fisher.npz"]


def test_fisher_information_goes_on_with_what_is_there(
    stores: dict[str, Path], fisher: Fisher, tmp_path: Path, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption after the pass over the songs, before the file is written, costs no song."""
    out = tmp_path / "fisher.npz"
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("cluster.unlearning.save_fisher", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        measure_fisher(stream_store(stores["catalog"]), str(tiny_model_dir), out)
    parts = sorted((tmp_path / ".fisher.npz.parts").iterdir())
    assert len(parts) == 2
    assert not out.exists()
    # A part from another catalog of the same model, to see that parts are read and not made again.
    with np.load(parts[0]) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    held["counts"] += [1000, 0]
    with parts[0].open("wb") as file:
        np.savez(file, **held)
    found = measure_fisher(stream_store(stores["catalog"]), str(tiny_model_dir), out)
    assert found.data_sha256 == fisher.data_sha256
    assert found.sha256 != fisher.sha256


def test_scores_are_those_of_one_process_and_go_on_where_they_stopped(
    model: MusicModel, stores: dict[str, Path], fisher: Fisher, tmp_path: Path
) -> None:
    file = tmp_path / "elsewhere.npz"
    save_fisher(fisher, file)
    catalog, queries = stream_store(stores["catalog"]), stream_store(stores["queries"])
    parts = tmp_path / "parts"
    found = unlearning_scores(catalog, queries, parts, fisher=file, how=HOW)
    songs = some_songs("catalog", 7, 0)
    before = [code_losses(model, song) for song in songs.values()]
    for query_id, query in some_songs("queries", 2, 1).items():
        expected, _ = rises(model, query, list(songs.values()), before, fisher, HOW)
        ids, ours = found[query_id]
        order = [ids.index(song_id) for song_id in songs]
        for score, values in expected.values.items():
            np.testing.assert_array_equal(ours.values[score][order], values)
    files = sorted(parts.iterdir())
    assert len(files) == 2
    made = {path: path.stat().st_mtime_ns for path in files}
    files[0].unlink()
    again = unlearning_scores(catalog, queries, parts, fisher=file, how=HOW)
    assert files[1].stat().st_mtime_ns == made[files[1]]
    for query_id, (_, ours) in again.items():
        np.testing.assert_array_equal(ours.values["mucs"], found[query_id][1].values["mucs"])
    table = unlearning_table(found, "mucs", top=3).to_pylist()
    assert len(table) == 2 * 2 * 3
    ids, ours = found["queries-00"]
    best = ids[int(ours.of("mucs", "P").argmax())]
    assert (table[0]["query_id"], table[0]["channel"], table[0]["rank"], table[0]["song_id"]) == (
        "queries-00", "P", 1, best,
    )  # fmt: skip


def test_a_silent_query_is_named_and_finished_ones_are_kept(
    stores: dict[str, Path], fisher: Fisher, tmp_path: Path
) -> None:
    file, parts = tmp_path / "fisher.npz", tmp_path / "parts"
    save_fisher(fisher, file)
    catalog = stream_store(stores["catalog"])
    with pytest.raises(UnlearningError, match="query silent: nothing is left"):
        unlearning_scores(catalog, stream_store(stores["silent"]), parts, fisher=file, how=HOW)
    # The songs of the other query were done first, or not begun.
    assert all(path.suffix == ".npz" for path in parts.iterdir()) if parts.exists() else True


def test_commands_write_what_the_functions_give(
    stores: dict[str, Path], fisher: Fisher, tmp_path: Path, tiny_model_dir: Path
) -> None:
    file, out = tmp_path / "fisher.npz", tmp_path / "scores.parquet"
    done = run_lumina("fisher", str(stores["catalog"]), str(tiny_model_dir), "--out", str(file), "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["sha256"] == fisher.sha256
    asked = ("--catalog", str(stores["catalog"]), "--queries", str(stores["queries"]), "--top", "2")
    done = run_lumina("scores", "unlearning", *asked, "--fisher", str(file), "--out", str(out), "--json")
    assert done.exit_code == 0, done.stderr
    rows = json.loads(done.stdout)["scores"]
    assert [(row["query_id"], row["channel"], row["rank"]) for row in rows[:4]] == [
        ("queries-00", "P", 1), ("queries-00", "P", 2), ("queries-00", "M", 1), ("queries-00", "M", 2),
    ]  # fmt: skip
    assert pq.read_table(out).to_pylist() == rows
    assert run_lumina("scores", "grad-cos", *asked, "--fisher", str(file)).exit_code == 2
    assert run_lumina("fisher", str(stores["catalog"]), "nano").exit_code == 2


def test_what_does_not_belong_together_is_refused(stores: dict[str, Path], fisher: Fisher, tmp_path: Path) -> None:
    catalog = stream_store(stores["catalog"])
    with pytest.raises(SpecificationMismatch, match="was made with weights"):
        measure_fisher(catalog, "nano", tmp_path / "fisher.npz")
    with pytest.raises(SpecificationMismatch, match="was made with weights"):
        unlearning_scores(catalog, catalog, tmp_path, model="nano")
