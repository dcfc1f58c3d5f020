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
from lumina_ray.truth.models import generate, new_model, trained, weights_of, with_weights
from lumina_ray.truth.queries import continuations, free_queries, losses, real_queries
from lumina_ray.truth.recipe import SMALL, Training

RECIPE = replace(SMALL, n_layers=1, dim=32, heads=2, epochs=6.0, batch=2, subsets=1, repeats=0)
RECORDINGS: tuple[Recording, ...] = corpus(0)


@pytest.fixture(scope="module")
def codes() -> list[torch.Tensor]:
    """Ten notes for ever, another ten for each recording: easy to learn, and not the same."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(512, (4, 10), generator=generator).repeat(1, 100) for _ in RECORDINGS]


@pytest.fixture(scope="module")
def bank(codes: list[torch.Tensor]) -> Bank:
    training = Training("A", (0, 3, 5), seed=1)
    (_, early), (_, model) = trained(RECIPE, training, codes)
    queries = [*real_queries(RECORDINGS, codes, 0)[:6], *free_queries("A", generate(model, 2, 60, seed=0))]
    prompts = torch.stack([codes[i][:, :20] for i in (0, 1)])
    twin_queries = continuations(RECORDINGS, "A", [0, 1], generate(model, 2, 40, 0, prompts), 0)
    return Bank(
        RECIPE, RECORDINGS, codes, queries, twin_queries, {"A": weights_of(model), "A-early": weights_of(early)},
        [training], losses(model, [query.codes_KT for query in queries])[None],
    )  # fmt: skip


def test_a_bank_read_back_is_the_bank_that_was_written(bank: Bank, tmp_path: Path) -> None:
    save_bank(bank, tmp_path)
    read = load_bank(tmp_path)
    assert (read.recipe, read.recordings, read.trainings) == (bank.recipe, bank.recordings, bank.trainings)
    np.testing.assert_array_equal(read.losses_RQK, bank.losses_RQK)
    pairs = [*zip(bank.queries + bank.extra_queries, read.queries + read.extra_queries, strict=True)]
    for one, other in pairs:
        assert (one.kind, one.model, one.recording, one.split) == (
            other.kind, other.model, other.recording, other.split,
        )  # fmt: skip
        assert torch.equal(one.codes_KT, other.codes_KT)
    assert all(torch.equal(one, other) for one, other in zip(bank.codes, read.codes, strict=True))
    model = with_weights(read.recipe, read.models["A"])
    np.testing.assert_array_equal(losses(model, [q.codes_KT for q in read.queries]), read.losses_RQK[0])


def test_training_is_a_matter_of_the_seed_and_lowers_the_loss_of_its_songs_alone(
    bank: Bank, codes: list[torch.Tensor]
) -> None:
    *_, (_, again) = trained(RECIPE, bank.trainings[0], codes)
    assert again.weights_sha256 == with_weights(RECIPE, bank.models["A"]).weights_sha256
    known, unknown = ([codes[i][:, :500] for i in songs] for songs in ((0, 3, 5), (1, 2, 4)))
    untrained = new_model(RECIPE)
    gained = [losses(untrained, songs).mean() - losses(again, songs).mean() for songs in (known, unknown)]
    assert gained[0] > gained[1] + 0.1


def test_losses_of_a_query_are_those_of_the_engine(bank: Bank) -> None:
    model = with_weights(RECIPE, bank.models["A"])
    for query, losses_K in zip(bank.queries, bank.losses_RQK[0], strict=True):
        T = query.codes_KT.shape[1]
        with torch.no_grad():
            prediction = model.predict(query.codes_KT[None], [T])
            mean = chunk_losses(prediction, query.codes_KT[None], (1.0, 1.0, 1.0, 1.0))
        np.testing.assert_allclose(losses_K.mean(), mean.item(), rtol=1e-5)


def test_samples_follow_from_the_seed_and_go_on_from_their_prompt(bank: Bank, codes: list[torch.Tensor]) -> None:
    model = with_weights(RECIPE, bank.models["A"])
    prompts = torch.stack([codes[0][:, :20]] * 2)
    one, again, other = (generate(model, 2, 30, seed, prompts) for seed in (0, 0, 1))
    assert one.shape == (2, 4, 30)
    assert one.max() < 512
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_works_are_wholly_for_tuning_or_wholly_for_reporting(codes: list[torch.Tensor]) -> None:
    queries = real_queries(RECORDINGS, codes, 0)
    splits: dict[str, set[str]] = {}
    for query in queries:
        splits.setdefault(RECORDINGS[query.recording].work, set()).add(query.split)
    assert all(len(of_work) == 1 for of_work in splits.values())
    assert 0.35 < sum(query.split == "dev" for query in queries) / len(queries) < 0.65


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
    (tmp_path / MANIFEST_FILE).write_text('{"version": 99}')
    with pytest.raises(StoreError, match="version 99"):
        load_bank(tmp_path)


def test_only_a_bank_of_the_faulty_sampler_has_unusable_pieces(bank: Bank, tmp_path: Path) -> None:
    save_bank(bank, tmp_path)
    assert load_bank(tmp_path).unusable == ()
    manifest = tmp_path / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 1'))
    old = load_bank(tmp_path)
    assert old.unusable == ("generated", "prompted")
    save_bank(old, tmp_path)
    assert load_bank(tmp_path).unusable == ("generated", "prompted"), "also once it was saved again"
