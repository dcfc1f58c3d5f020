"""A bank of tiny diffusion transformers, really trained and asked on Ray; its music is noise that is there already."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.dit_truth import build_dit_bank
from cluster.truth import Workplace, read_music, save
from lumina_ray.demo.songs import DemoSong
from lumina_ray.errors import SpecificationMismatch, StoreError
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.training.captions import vocabulary
from lumina_ray.truth.corpus import Recording, Role, members
from lumina_ray.truth.dit_bank import DIT_BANK_FILE, agreement, load_dit_bank
from lumina_ray.truth.dit_models import SMALL, DitLearner, DitStart, losses, trained, trained_base, with_weights
from lumina_ray.truth.recipe import without
from lumina_ray.truth.scores import BOTH
from lumina_ray.truth.unlearning import song_codes
from lumina_ray.vocabulary import CHANNELS
from tests.truth.small_bank import captions_of

RECIPE = replace(SMALL, dim=16, base_epochs=1.0, epochs=1.0, batch=2, subsets=3, repeats=1, captions=1)
ROLES: tuple[Role, ...] = ("plain", "plain", "plain", "plain", "base", "base", "control")
N_FRAMES = 36


def recordings() -> tuple[Recording, ...]:
    return tuple(
        Recording(
            DemoSong("catalog", "music21", f"r{i}", f"s{i}", f"t{i}", f"c{i}", "baroque", "chorale"), role, "original"
        )
        for i, role in enumerate(ROLES)
    )


def write_music(path: Path) -> None:
    rng, out = np.random.default_rng(0), dict[str, np.ndarray]()
    for recording, caption in zip(recordings(), captions_of(recordings()), strict=True):
        for part in ("learned", "excerpt"):
            name = f"{recording.recording_id}/{part}"
            out |= {
                name: rng.standard_normal((64, N_FRAMES)).astype(np.float16),
                f"{name}-heard": np.ones(N_FRAMES, bool),
            }
        out[f"{recording.recording_id}/caption"] = np.array(caption)
    save(path, out)


def test_a_bank_is_built_and_says_how_far_fingerprints_agree(ray_cluster: str, tmp_path: Path) -> None:
    place = Workplace(tmp_path / "bank")
    write_music(place.music(0))
    bank = build_dit_bank(place.out, RECIPE, recordings())
    assert [training.name for training in bank.trainings] == ["A", "half-000", "half-001", "half-002", "again-half-000"]
    assert {query.kind for query in bank.queries} == {"excerpt", "catalog", "control", "captioned", "guided"}
    assert bank.losses_RQK.shape == (5, len(bank.queries), 1)
    assert np.isfinite(bank.losses_RQK).all()
    # What was asked on Ray is what these weights say here, and a half is what this training gives.
    latents, captions = [query.codes_KT for query in bank.queries], [query.caption for query in bank.queries]
    for row, weights in ((0, bank.weights), (2, trained(RECIPE, bank.trainings[2], bank.learned, bank.start))):
        asked = losses(with_weights(RECIPE, bank.start, weights), latents, captions)
        np.testing.assert_allclose(asked, bank.losses_RQK[row], rtol=1e-4)
    assert not np.array_equal(bank.losses_RQK[1], bank.losses_RQK[2])

    loaded = load_dit_bank(place.out)
    np.testing.assert_array_equal(loaded.losses_RQK, bank.losses_RQK)
    assert (loaded.recipe, loaded.recordings, loaded.trainings) == (bank.recipe, bank.recordings, bank.trainings)
    assert loaded.start.captions == bank.start.captions
    for one, other in zip(loaded.queries, bank.queries, strict=True):
        torch.testing.assert_close(one.codes_KT, other.codes_KT, rtol=1e-3, atol=1e-3)
    lost, kept = place.losses("half-001"), place.losses("half-002").stat().st_mtime_ns
    lost.unlink()
    np.testing.assert_array_equal(build_dit_bank(place.out, RECIPE, recordings()).losses_RQK, bank.losses_RQK)
    assert place.losses("half-002").stat().st_mtime_ns == kept
    with pytest.raises(SpecificationMismatch, match=r"was begun with dim = 16, not 64"):
        build_dit_bank(place.out, SMALL, recordings())

    # Where losses fall by what songs are alike, agreement is whole; where they rise, it is the opposite.
    rows, songs = loaded.of_kind("half"), members(loaded.recordings, "A")
    fingerprinter = Fingerprinter(model := with_weights(RECIPE, loaded.start, loaded.weights),
                                  Specification.for_model(model, "gradient"))  # fmt: skip

    def vector(codes_KT: torch.Tensor) -> np.ndarray:
        return fingerprinter(song_codes(codes_KT, model.frame_rate_hz)).vectors["P"]

    songs_ND = np.stack([vector(loaded.learned[i].codes_KT) for i in songs])
    split = loaded.queries[0].split
    excerpts = [q for q, query in enumerate(loaded.queries) if (query.kind, query.split) == ("excerpt", split)]
    planted_RQK = loaded.losses_RQK.copy()
    for q in excerpts:
        planted_RQK[rows, q, 0] = -(loaded.masks(rows, songs) @ (songs_ND @ vector(loaded.queries[q].codes_KT)))
    for sign in (1, -1):
        found = agreement(replace(loaded, losses_RQK=sign * planted_RQK), "gradient", split)["excerpt"]
        assert set(found) == {*CHANNELS, BOTH}
        assert found["P"].estimate.value == pytest.approx(sign)

    (place.out / DIT_BANK_FILE).write_text("{}")
    with pytest.raises(StoreError, match="a bank of version None"):
        load_dit_bank(place.out)


def test_a_removed_song_teaches_nothing_and_moves_no_other(tmp_path: Path) -> None:
    write_music(tmp_path / "music.npz")
    music = read_music([tmp_path / "music.npz"])
    words = tuple(vocabulary(music.captions))
    start = DitStart(words, *trained_base(RECIPE, music.learned[4:6], music.captions[4:6], words), music.captions)
    training = without(RECIPE, recordings(), "half", {0})
    weights = trained(RECIPE, training, music.learned, start)
    other = [replace(music.learned[0], codes_KT=music.learned[0].codes_KT + 1), *music.learned[1:]]
    again = trained(RECIPE, training, other, start)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    whole = trained(RECIPE, replace(training, songs=(0, 1, 2, 3), removed=()), music.learned, start)
    assert not all(torch.equal(weights[name], whole[name]) for name in weights)
    # A window's loss is its own, whatever comes beside it.
    learner = DitLearner(with_weights(RECIPE, start, weights))
    two = torch.stack([music.learned[i].codes_KT for i in (1, 2)])
    with torch.no_grad():
        both, alone = learner.losses(two, ["music", None]), learner.losses(two[1:], [None])
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-5)
    assert both.shape == (2, 64)
    before = start.weights["time_proj.weight"]
    assert torch.equal(weights["time_proj.weight"], before), "frequencies are never trained"
