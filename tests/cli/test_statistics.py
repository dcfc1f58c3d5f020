"""`lumina statistics STORE MODEL --companion`: the bundled pair of checkpoints, on a store of short songs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.model import find_model, open_model
from lumina_ray.model.companion import COMPANION_FILE, load_companions
from lumina_ray.model.files import weights_sha256
from lumina_ray.storage import locate
from lumina_ray.store.stream import stored_codes, stream_store
from lumina_ray.vocabulary import CHANNELS, SongCodes
from tests.cli.running import run_lumina
from tests.small_catalog import N_SONGS, SmallCatalog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of nano that has no companions yet."""
    shutil.copytree(find_model("nano"), tmp_path / "nano", ignore=shutil.ignore_patterns(COMPANION_FILE))
    return tmp_path / "nano"


def test_nano_and_an_earlier_checkpoint_find_excerpts_of_songs(small_catalog: SmallCatalog, folder: Path) -> None:
    asked = ("statistics", str(small_catalog.store), str(folder), "--device", "cpu", "--json")
    done = run_lumina(*asked, "--companion", "nano-early")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"companions": str(folder / COMPANION_FILE), "songs": N_SONGS}
    assert "companion fingerprints made before are no longer comparable" in done.stderr
    found = load_companions(folder)
    assert (found.names, found.companions_sha256) == (("nano-early",), (weights_sha256(find_model("nano-early")),))
    model = open_model(str(folder))
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "companion"))
    songs = list(stored_codes(stream_store(locate(small_catalog.store))))
    excerpts = [SongCodes((song.chunks[0][:, 50:150],), (0.0,)) for song in songs[:2]]
    made = list(fingerprinter.many([*songs, *excerpts]))
    for channel in CHANNELS:
        vectors = np.stack([one.vectors[channel] for one in made])
        assert (vectors[N_SONGS:] @ vectors[:N_SONGS].T).argmax(axis=1).tolist() == [0, 1]


def test_a_companion_that_is_none_is_refused(small_catalog: SmallCatalog, folder: Path, tmp_path: Path) -> None:
    asked = ("statistics", str(small_catalog.store), str(folder), "--device", "cpu", "--companion")
    for names, message in (
        (["nano"], f"has the weights of {folder}"),
        ([str(tmp_path / "nowhere")], "not found"),
        (["nano-early", "--companion", "nano-early"], "has the weights of nano-early"),
    ):
        done = run_lumina(*asked, *names)
        assert done.exit_code == 2
        assert message in done.stderr
    assert not (folder / COMPANION_FILE).exists()
