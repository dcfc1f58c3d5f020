"""A bank in miniature, with real codes and really trained models, from codes to disk and back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lumina_ray.errors import StoreError
from lumina_ray.gradients import chunk_losses
from lumina_ray.truth.bank import MANIFEST_FILE, Bank, load_bank, save_bank
from lumina_ray.truth.corpus import Recording, corpus
from lumina_ray.truth.models import Start, generate, trained, trained_base, weights_of, with_weights
from lumina_ray.truth.queries import Piece, continuations, losses, made_up_queries, real_queries
from lumina_ray.truth.recipe import SMALL, Training

RECIPE = replace(SMALL, n_layers=1, dim=32, heads=2, base_epochs=4.0, epochs=6.0, batch=2, subsets=1, repeats=0)
CAPTION = "slow baroque chorale, organ"
RECORDINGS: tuple[Recording, ...] = corpus(0)


@pytest.fixture(scope="module")
def codes() -> list[torch.Tensor]:
    """Ten notes for ever, another ten for each recording: easy to learn, and not the same."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(512, (4, 10), generator=generator).repeat(1, 100) for _ in RECORDINGS]


def pieces(codes: list[torch.Tensor]) -> list[Piece]:
    """With a frame of silence here and there, in each recording at other places."""
    return [Piece(codes_KT, torch.arange(codes_KT.shape[1]) % (i + 3) > 0) for i, codes_KT in enumerate(codes)]


@pytest.fixture(scope="module")
def start(codes: list[torch.Tensor]) -> Start:
    """Knows the notes of two other recordings."""
    weights, text = trained_base(RECIPE, codes[7:9], [CAPTION, "fast music"], ["slow", "organ", "music"])
    return Start(weights, text, (CAPTION,) * len(RECORDINGS))


@pytest.fixture(scope="module")
def bank(codes: list[torch.Tensor], start: Start) -> Bank:
    training = Training("A", (0, 3, 5), seed=1)
    (_, early), (_, model) = trained(RECIPE, training, codes, start)
    played = pieces(codes)
    excerpts = {i: Piece(piece.codes_KT[:, 750:], piece.heard_T[750:]) for i, piece in enumerate(played)}
    texts = ["", CAPTION]
    queries = [
        *real_queries(RECORDINGS, played, excerpts, 0)[:6],
        *made_up_queries("captioned", "A", generate(model, 2, 60, seed=0, captions=["music", CAPTION]), texts, 0),
    ]
    prompts = torch.stack([codes[i][:, :20] for i in (0, 1)])
    made = generate(model, 2, 40, 0, prompts)
    twin_queries = continuations("prompted", RECORDINGS, "A", [0, 1], made, ["", ""], 0)
    models = {"base": start.weights, "A": weights_of(model), "A-early": weights_of(early)}
    captions = [query.caption for query in queries]
    return Bank(
        RECIPE, RECORDINGS, codes, queries, twin_queries, models, [training],
        losses(model, [query.codes_KT for query in queries], captions)[None],
        captions=start.captions, text=start.text, heard=[piece.heard_T for piece in played],
    )  # fmt: skip


def test_a_bank_read_back_is_the_bank_that_was_written(bank: Bank, tmp_path: Path) -> None:
    save_bank(bank, tmp_path)
    read = load_bank(tmp_path)
    assert (read.recipe, read.recordings, read.trainings) == (bank.recipe, bank.recordings, bank.trainings)
    np.testing.assert_array_equal(read.losses_RQK, bank.losses_RQK)
    pairs = [*zip(bank.queries + bank.extra_queries, read.queries + read.extra_queries, strict=True)]
    for one, other in pairs:
        assert (one.kind, one.model, one.recording, one.split, one.caption) == (
            other.kind, other.model, other.recording, other.split, other.caption,
        )  # fmt: skip
        assert torch.equal(one.codes_KT, other.codes_KT)
        # Whatever a model made up has sound in every frame.
        sound = torch.ones(one.codes_KT.shape[1], dtype=torch.bool) if one.heard_T is None else one.heard_T
        assert torch.equal(sound, other.heard_T)
    assert all(torch.equal(one, other) for one, other in zip(bank.codes, read.codes, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(bank.heard, read.heard, strict=True))
    assert read.learned(4).beginning(9).heard_T.tolist() == [t % 7 > 0 for t in range(9)]
    model = with_weights(read.recipe, read.models["A"], read.text)
    again = losses(model, [q.codes_KT for q in read.queries], [q.caption for q in read.queries])
    np.testing.assert_array_equal(again, read.losses_RQK[0])
    assert read.captions == bank.captions
    *_, (_, retrained) = trained(read.recipe, read.trainings[0], read.codes, read.start)
    assert retrained.weights_sha256 == model.weights_sha256


def test_training_is_a_matter_of_the_seed_and_lowers_the_loss_of_its_songs_alone(
    bank: Bank, codes: list[torch.Tensor], start: Start
) -> None:
    *_, (_, again) = trained(RECIPE, bank.trainings[0], codes, start)
    assert again.weights_sha256 == with_weights(RECIPE, bank.models["A"], bank.text).weights_sha256
    known, unknown = ([codes[i][:, :500] for i in songs] for songs in ((0, 3, 5), (1, 2, 4)))
    base = with_weights(RECIPE, start.weights, start.text)
    gained = [losses(base, songs).mean() - losses(again, songs).mean() for songs in (known, unknown)]
    assert gained[0] > gained[1] + 0.1


def test_losses_of_a_query_are_those_of_the_engine(bank: Bank) -> None:
    model = with_weights(RECIPE, bank.models["A"], bank.text)
    for query, losses_K in zip(bank.queries, bank.losses_RQK[0], strict=True):
        T = query.codes_KT.shape[1]
        with torch.no_grad():
            prediction = model.predict(query.codes_KT[None], [T], model.embed(query.caption or "music"))
            mean = chunk_losses(prediction, query.codes_KT[None], (1.0, 1.0, 1.0, 1.0))
        np.testing.assert_allclose(losses_K.mean(), mean.item(), rtol=1e-5)


def test_samples_follow_from_the_seed_and_go_on_from_their_prompt(bank: Bank, codes: list[torch.Tensor]) -> None:
    model = with_weights(RECIPE, bank.models["A"], bank.text)
    prompts = torch.stack([codes[0][:, :20]] * 2)
    one, again, other = (generate(model, 2, 30, seed, prompts) for seed in (0, 0, 1))
    assert one.shape == (2, 4, 30)
    assert one.max() < 512
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_works_are_wholly_for_tuning_or_wholly_for_reporting(codes: list[torch.Tensor]) -> None:
    queries = real_queries(RECORDINGS, pieces(codes), dict(enumerate(pieces(codes))), 0)
    splits: dict[str, set[str]] = {}
    for query in queries:
        splits.setdefault(RECORDINGS[query.recording].work, set()).add(query.split)
    assert all(len(of_work) == 1 for of_work in splits.values())
    share = {split: sum(query.split == split for query in queries) / len(queries) for split in ("dev", "test", "held")}
    assert share == pytest.approx({"dev": 0.4, "test": 0.4, "held": 0.2}, abs=0.1)


def test_a_damaged_bank_is_not_read(bank: Bank, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no ground-truth bank"):
        load_bank(tmp_path)
    save_bank(bank, tmp_path)
    file = tmp_path / "arrays.npz.xz"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StoreError, match="damaged, its hash is"):
        load_bank(tmp_path)
    file.unlink()
    with pytest.raises(StoreError, match="missing"):
        load_bank(tmp_path)


@pytest.mark.parametrize("version", [1, 99])
def test_a_bank_of_another_version_is_refused_with_advice(bank: Bank, tmp_path: Path, version: int) -> None:
    save_bank(bank, tmp_path)
    manifest = tmp_path / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"version": 3', f'"version": {version}'))
    with pytest.raises(StoreError, match=f"version {version}, this software reads 3; `lumina truth build` makes one"):
        load_bank(tmp_path)
