"""`lumina attribute --confirm unlearn` and `lumina forget` on a few tones under nano."""

import json
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.fingerprint.likelihood import likelihood
from lumina_ray.model import open_model
from lumina_ray.model.fisher import save_fisher
from lumina_ray.report import read_report, to_json
from lumina_ray.store.stream import codes_of, stream_store
from lumina_ray.unlearning.fisher import fisher_diagonal
from tests.cli.running import run_lumina
from tests.small_catalog import SmallCatalog


@pytest.fixture(scope="module")
def fisher(small_catalog: SmallCatalog, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = stream_store(small_catalog.store)
    path = tmp_path_factory.mktemp("fisher") / "fisher.npz"
    save_fisher(fisher_diagonal(open_model("nano"), codes_of(store, store.song_ids).values()), path)
    return path


def test_a_report_is_confirmed_beside_itself(small_catalog: SmallCatalog, fisher: Path, tmp_path: Path) -> None:
    song = small_catalog.songs / "tone-0001.flac"
    asked = ("attribute", song, "--index", small_catalog.index, "--device", "cpu", "--candidates", "1")
    confirming = (*asked, "--confirm", "unlearn", "--store", small_catalog.store, "--fisher", fisher)
    done = run_lumina(*map(str, (*confirming, "--out", tmp_path, "--json")))
    assert done.exit_code == 0, done.stderr
    report, _, confirmation = done.stdout.rpartition("\n{")
    found = json.loads("{" + confirmation)
    assert report.strip() == to_json(read_report(tmp_path / "tone-0001.flac.json")).strip()
    assert found == json.loads((tmp_path / "tone-0001.flac.confirmation.json").read_text())
    own = [one for one in found["songs"] if one["song_id"] == "tone-0001.flac"]
    assert [one["rank"] for one in own] == [1, 1]
    assert found["n_random"] == 6 - len({one["song_id"] for one in found["songs"]})
    assert 0 < found["rise_nats"] <= 0.005
    assert found["repeats"] == 4
    shown = run_lumina(*map(str, confirming))
    assert shown.exit_code == 0
    assert "Confirmation by forgetting" in shown.stdout
    assert "approximation" in shown.stdout
    for wrong in (
        (*asked, "--store", small_catalog.store),
        (*asked, "--confirm", "unlearn"),
    ):
        assert run_lumina(*map(str, wrong)).exit_code == 2
    missing = run_lumina(*map(str, (*asked, "--confirm", "unlearn", "--store", small_catalog.store)))
    assert missing.exit_code == 2
    assert "lumina fisher" in missing.stderr


def test_a_copy_has_forgotten_songs(small_catalog: SmallCatalog, fisher: Path, tmp_path: Path) -> None:
    ids, out = tmp_path / "ids.txt", tmp_path / "copy"
    ids.write_text("tone-0002.flac\n")
    asked = ("forget", "nano", "--songs", ids, "--store", small_catalog.store, "--controls", small_catalog.controls)
    done = run_lumina(*map(str, (*asked, "--fisher", fisher, "--out", out, "--device", "cpu", "--json")))
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["song_ids"] == ["tone-0002.flac"]
    assert {name: group["songs"] for name, group in found["groups"].items()} == {
        "forgotten": 1, "rest": 5, "controls": 20,
    }  # fmt: skip
    assert "approximation" in found["what_it_is"].lower()
    store, nano, copy = stream_store(small_catalog.store), open_model("nano"), open_model(str(out))
    for song_id, codes in codes_of(store, store.song_ids).items():
        rise = likelihood(nano, codes).mean - likelihood(copy, codes).mean
        if song_id == "tone-0002.flac":
            assert 0.02 < rise < 0.06
    again = run_lumina(*map(str, (*asked, "--fisher", fisher, "--out", out, "--device", "cpu")))
    assert again.exit_code == 2
    assert "is there already" in again.stderr
    unknown = ("forget", "nano", "--songs", "nobody", "--store", small_catalog.store, "--fisher", fisher)
    done = run_lumina(*map(str, (*unknown, "--out", tmp_path / "other", "--device", "cpu")))
    assert done.exit_code == 2
    assert "nobody" in done.stderr
    assert not (tmp_path / "other").exists()
    assert np.isfinite(found["groups"]["rest"]["rise"])
