"""A copy of a model that has forgotten songs: what it does to them and to others, and what is written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lumina_ray.errors import ModelError, UsageError
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.fisher import Fisher
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.forget import RECORD_FILE, forget, joined
from lumina_ray.unlearning.losses import code_losses, song_loss
from lumina_ray.unlearning.unlearn import Forgetting
from lumina_ray.vocabulary import SongCodes
from tests.tiny_model import tiny_music_model
from tests.unlearning.test_unlearn import bits, some_songs


@pytest.fixture(scope="module")
def model(tiny_model_dir: Path) -> MusicModel:
    return open_model(str(tiny_model_dir))


@pytest.fixture(scope="module")
def fisher(model: MusicModel) -> Fisher:
    return fisher_diagonal(model, some_songs(8))


def loss(model: MusicModel, song: SongCodes) -> float:
    return song_loss(code_losses(model, song))


def test_copy_is_the_model_that_was_measured(model: MusicModel, fisher: Fisher, tmp_path: Path) -> None:
    songs, others = some_songs(8), some_songs(4, seed=9)
    named = {"b": songs[1], "a": songs[0]}
    how = Forgetting(layers="heads", trust_nats=0.2, steps=2, damping=0.1)
    before, out = bits(model), tmp_path / "copy"
    own = [loss(model, song) for song in (*songs, *others)]
    found = forget(model, named, {"rest": songs[2:], "controls": others}, fisher, how, out)
    assert bits(model) == before
    copy = open_model(str(out))
    assert copy.weights_sha256 != model.weights_sha256
    after = [loss(copy, song) for song in (*songs, *others)]
    rises = np.subtract(after, own)
    for name, where in (("forgotten", slice(2)), ("rest", slice(2, 8)), ("controls", slice(8, None))):
        group = found.groups[name]
        assert group.rise == pytest.approx(rises[where].mean(), abs=1e-6)
        assert group.rise_sd == pytest.approx(rises[where].std(ddof=1), abs=1e-6)
        assert group.after - group.before == pytest.approx(group.rise, abs=1e-9)
    assert 0.1 < found.groups["forgotten"].rise <= 0.2 + 1e-6
    assert found.groups["forgotten"].rise > found.groups["controls"].rise
    assert found.song_ids == ("a", "b")
    record = json.loads((out / RECORD_FILE).read_text())
    assert record == json.loads(json.dumps(found.to_dict()))
    assert "approximation" in record["what_it_is"].lower()
    # Only the heads are other weights.
    for ours, theirs in zip(copy.others(), model.others(), strict=True):
        assert torch.equal(ours, theirs)
    # Fisher information of the former weights is left behind.
    assert not (out / "fisher.npz").exists()


def test_what_cannot_be_copied_is_said_before_anything_is_computed(
    model: MusicModel, fisher: Fisher, tmp_path: Path, tiny_model_dir: Path
) -> None:
    songs, how = {"a": some_songs(1)[0]}, Forgetting(damping=0.1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="is there already"):
        forget(model, songs, {}, fisher, how, tmp_path / "full")
    unsaved = tiny_music_model()
    with pytest.raises(ModelError, match="transformers format"):
        forget(unsaved, songs, {}, fisher, how, tmp_path / "new")
    with pytest.raises(ModelError, match="transformers format"):
        forget(open_model(f"audiocraft:{tiny_model_dir}"), songs, {}, fisher, how, tmp_path / "new")
    with pytest.raises(UsageError, match="no songs to forget"):
        joined([])
    assert not (tmp_path / "new").exists()


def test_loss_of_joined_songs_is_the_mean_over_the_codes_of_all(model: MusicModel) -> None:
    songs = some_songs(2)
    both = joined(songs)
    assert loss(model, both) == pytest.approx(np.mean([loss(model, song) for song in songs]), rel=1e-6)
