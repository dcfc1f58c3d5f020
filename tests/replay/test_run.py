"""The bundled nano has a training that can be replayed: a few steps of its own recipe on a few tones."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from lumina_ray.errors import SpecificationMismatch, StoreError
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.record import open_record, record
from lumina_ray.replay.run import RunSongs, begin_training, keep_songs, load_songs, open_training, write_model
from lumina_ray.truth.queries import Piece
from tests.training.synthetic import patterned_codes

PLAN = Plan(epochs=2, batch=1, window_frames=40)


def some_songs(n: int = 3, seed: int = 0) -> RunSongs:
    pieces = tuple(Piece(patterned_codes(seed + i, 40, 512), torch.arange(40) < 30 + i) for i in range(n))
    return RunSongs(tuple(f"song-{i}" for i in range(n)), ("slow organ", None, "fast guitar")[:n], pieces)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_nano_is_trained_and_replayed_to_the_bit_from_its_folder_alone(tmp_path: Path) -> None:
    keep_songs(some_songs(), tmp_path)
    trained = begin_training("nano", tmp_path, PLAN)
    record(trained, tmp_path)
    with pytest.raises(StoreError, match="no finished run"):
        open_training(tmp_path)
    write_model("nano", tmp_path, PLAN)
    opened = open_training(tmp_path)
    found = open_record(tmp_path, opened)
    kept = found.kept
    assert kept[-1] == 6
    for begin, end in pairwise(kept):
        *_, last = found.replay(begin, end)
    assert torch.equal(last.after.theta_P, trained.weights())
    assert not torch.equal(last.after.theta_P, opened.start().theta_P)


def test_songs_are_kept_as_they_are_and_never_mixed(tmp_path: Path) -> None:
    songs = some_songs()
    keep_songs(songs, tmp_path)
    keep_songs(songs, tmp_path)
    found = load_songs(tmp_path)
    assert (found.ids, found.captions) == (songs.ids, songs.captions)
    for one, other in zip(found.pieces, songs.pieces, strict=True):
        assert torch.equal(one.codes_KT, other.codes_KT)
        assert one.codes_KT.dtype == torch.int64
        np.testing.assert_array_equal(one.heard_T, other.heard_T)
    for others in (some_songs(2), some_songs(seed=1)):
        with pytest.raises(SpecificationMismatch, match="other songs"):
            keep_songs(others, tmp_path)
    (tmp_path / "songs.safetensors").write_bytes(b"nothing")
    with pytest.raises(StoreError, match="damaged"):
        load_songs(tmp_path)
    with pytest.raises(StoreError, match="no run"):
        load_songs(tmp_path / "nowhere")
