"""Derivatives through a whole training: against finite differences of songs' weights, and across interruptions."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lumina_ray.errors import NumericsError, StoreError, UsageError
from lumina_ray.replay.learner import DecoderLearner
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.record import Record, record
from lumina_ray.replay.reverse import Group, differentiate, group_losses, loss_gradients
from lumina_ray.replay.training import Training
from lumina_ray.training.captions import vocabulary, word_tokenizer
from tests.replay.toy import CODEBOOKS, CODES, toy_songs, toy_training
from tests.tiny_model import tiny_music_model
from tests.training.synthetic import patterned_codes

WEIGHTS = (1.0, 0.7, 1.0, 0.0, 1.0)


def toy_groups() -> list[Group]:
    songs = toy_songs()
    return [
        Group((patterned_codes(9, 30, CODES, CODEBOOKS),), ("slow organ",)),
        Group((songs[0], songs[3]), (None, "fast")),
        Group((songs[0],), ("music",), codebook=1),
    ]


def finite_differences(training: Training, groups: list[Group], weights: tuple[float, ...], h: float) -> np.ndarray:
    def final(song: int, change: float) -> np.ndarray:
        for _ in training.run([weight + change * (i == song) for i, weight in enumerate(weights)]):
            pass
        return group_losses(training, groups)

    # AdamW bends sharply where numbers have no gradient yet, as those of a song at weight 0: closer differences there.
    steps = [h if weight else h / 1000 for weight in weights]
    columns = [(final(song, h) - final(song, -h)) / (2 * h) for song, h in enumerate(steps)]
    return np.stack(columns, axis=1)


@pytest.fixture
def recorded(tmp_path: Path) -> Record:
    return record(toy_training(torch.float64), tmp_path / "run", WEIGHTS)


def test_derivatives_are_those_of_finite_differences(recorded: Record) -> None:
    """Also of a song at weight 0, which the training itself never looks at."""
    norms = [moment.norm for moment in recorded.training.run(WEIGHTS)]
    assert min(norms) < recorded.training.plan.clip < max(norms)
    groups = toy_groups()
    expected_QN = finite_differences(recorded.training, groups, WEIGHTS, 1e-5)
    derivatives_QN = differentiate(recorded, groups)
    assert derivatives_QN.shape == (3, 5)
    np.testing.assert_allclose(derivatives_QN, expected_QN, rtol=1e-4, atol=1e-7)
    assert (np.abs(expected_QN).max(axis=0) > 1e-3).sum() == 4, "all but the song whose steps are clipped"


def test_derivatives_of_a_musicgen_are_those_of_finite_differences(tmp_path: Path) -> None:
    captions = ["slow organ", "fast guitar, drums", None, "medium music, bells"]
    model = tiny_music_model(2, word_tokenizer(vocabulary(captions)))
    model.model.double()
    songs = [patterned_codes(seed, n, 512) for seed, n in enumerate((60, 60, 30, 60))]
    training = Training(DecoderLearner(model), songs, captions, Plan(seed=0, epochs=4, batch=1))
    groups = [Group((patterned_codes(9, 40, 512),), ("slow organ",)), Group((songs[3],), ("music",), codebook=2)]
    derivatives_QN = differentiate(record(training, tmp_path / "run"), groups)
    expected_QN = finite_differences(training, groups, (1.0,) * 4, 1e-4)
    np.testing.assert_allclose(derivatives_QN, expected_QN, rtol=1e-3, atol=1e-7)
    assert np.abs(expected_QN).max() > 1e-4, "the model learned too little for the comparison to mean anything"


def test_float32_is_close_to_float64(tmp_path: Path, recorded: Record) -> None:
    of_32 = record(toy_training(torch.float32), tmp_path / "float32", WEIGHTS)
    np.testing.assert_allclose(
        differentiate(of_32, toy_groups()), differentiate(recorded, toy_groups()), rtol=2e-3, atol=1e-5
    )


def test_derivatives_do_not_depend_on_how_many_states_are_kept(tmp_path: Path) -> None:
    n_bytes = toy_training().start().theta_P.numel() * 4
    few = record(toy_training(), tmp_path / "few", disk_bytes=9 * n_bytes)
    all_of_them = record(toy_training(), tmp_path / "all", memory_bytes=4 * n_bytes)
    assert len(few.kept) == 3
    assert len(all_of_them.kept) == len(few.training.steps) + 1
    assert np.array_equal(differentiate(few, toy_groups()), differentiate(all_of_them, toy_groups()))


def test_queries_share_a_pass_without_touching_each_other(recorded: Record) -> None:
    together = differentiate(recorded, toy_groups())
    alone = np.concatenate([differentiate(recorded, [group]) for group in toy_groups()])
    np.testing.assert_allclose(together, alone, rtol=1e-9)


def test_the_mean_of_codebooks_is_the_whole(recorded: Record) -> None:
    (song, *_), text = toy_songs(), ("slow",)
    whole, first, second = differentiate(recorded, [Group((song,), text, k) for k in (None, 0, 1)])
    np.testing.assert_allclose(whole, (first + second) / 2, rtol=1e-9)


def test_an_interrupted_pass_goes_on_to_the_same_bits(tmp_path: Path, recorded: Record) -> None:
    expected, unfinished = differentiate(recorded, toy_groups()), tmp_path / "unfinished"
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        differentiate(recorded, toy_groups(), unfinished, stop)
    assert unfinished.exists()
    before = len(seen)
    assert np.array_equal(
        differentiate(recorded, toy_groups(), unfinished, lambda done, _: seen.append(done)), expected
    )
    assert len(seen) - before < len(recorded.training.steps), "all of it was done again"
    assert not unfinished.exists()


def test_an_unfinished_pass_of_other_queries_is_not_used(tmp_path: Path, recorded: Record) -> None:
    unfinished = tmp_path / "unfinished"

    def stop(*_: int) -> None:
        if unfinished.exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        differentiate(recorded, toy_groups()[:1], unfinished, stop)
    expected = differentiate(recorded, toy_groups()[1:])
    assert np.array_equal(differentiate(recorded, toy_groups()[1:], unfinished), expected)
    unfinished.write_bytes(b"no tensors")
    with pytest.raises(StoreError, match="unfinished"):
        differentiate(recorded, toy_groups(), unfinished)


def test_gradients_of_groups_are_those_of_their_mean_loss() -> None:
    training = toy_training(torch.float64)
    group, theta = toy_groups()[1], training.weights()
    (gradient_P,) = loss_gradients(training, [group])
    direction_P = torch.randn(theta.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = []
    for h in (1e-6, -1e-6):
        training.set_weights(theta + h * direction_P)
        values.append(group_losses(training, [group])[0])
    assert float(gradient_P @ direction_P) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def test_derivatives_that_are_not_finite_are_refused(recorded: Record) -> None:
    (first, *_) = toy_groups()
    with torch.no_grad():
        recorded.training.learner.frozen.weight.fill_(torch.nan)
    # Checked as it is opened, and changed since: what a training that exploded would look like.
    with pytest.raises(NumericsError):
        differentiate(recorded, [first])


def test_a_group_needs_pieces_and_their_texts() -> None:
    for codes, texts in (((), ()), (toy_groups()[0].codes, ())):
        with pytest.raises(UsageError, match="a text for each"):
            Group(codes, texts)
