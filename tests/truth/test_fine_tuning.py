"""The smooth training of a bank's models: what a removed song changes, and what it does not."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from lumina_ray.gradients import chunk_losses
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.replay.plan import Plan, order
from lumina_ray.training.captions import draw_text, vocabulary, word_tokenizer
from lumina_ray.training.data import step_generator
from lumina_ray.truth.fine_tuning import RATE, count_steps, fine_tune, rate
from tests.tiny_model import tiny_music_model
from tests.training.synthetic import patterned_codes

CAPTIONS = ["slow organ", "fast guitar, drums", "slow organ", "medium music, bells"]


@pytest.fixture(scope="module")
def songs() -> list[Tensor]:
    return [patterned_codes(seed, n, 512) for seed, n in enumerate((60, 60, 30, 60))]


def tuned(songs: list[Tensor], captions: list[str], learned: list[bool], seed: int = 0) -> TransformersMusicGen:
    model = tiny_music_model(2, word_tokenizer(vocabulary(CAPTIONS)))
    for _ in fine_tune(model, songs, captions, learned, epochs=3, batch=1, seed=seed):
        pass
    return model


def weights(model: TransformersMusicGen) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.model.decoder.parameters()])


def test_a_removed_song_leaves_nothing_but_its_places(songs: list[Tensor]) -> None:
    learned = [True, False, True, True]
    one = tuned(songs, CAPTIONS, learned)
    # Other codes and another caption of the same length, at weight 0.
    other = tuned([songs[0], songs[3].flip(1), *songs[2:]], [CAPTIONS[0], "music", *CAPTIONS[2:]], learned)
    assert torch.equal(weights(one), weights(other))
    with_it = tuned(songs, CAPTIONS, [True] * 4)
    assert not torch.equal(weights(one), weights(with_it))


def test_weight_0_is_the_loss_without_the_song_over_all_that_were_drawn(songs: list[Tensor]) -> None:
    equal = [song[:, :30] for song in songs]
    model = tiny_music_model(2, word_tokenizer(vocabulary(CAPTIONS)))
    drawn = order([30] * 4, Plan(0, 1, 1))[0]
    assert len(drawn) == 4
    total = torch.zeros(())
    for place, i in enumerate(drawn):
        text = draw_text(CAPTIONS[i], step_generator(0, place))
        conditions_BND, mask_BN = model.text.conditions([text])
        codes_1KT = equal[i][None]
        prediction = model.predict(codes_1KT, [30], conditions_BND, mask_BN)
        total = total + (i != 2) * chunk_losses(prediction, codes_1KT, (1.0, 1.0, 1.0, 1.0))[0] / 4
    expected = torch.autograd.grad(total, list(model.model.decoder.parameters()))
    training = fine_tune(model, equal, CAPTIONS, [True, True, False, True], epochs=1, batch=1, seed=0)
    before = {id(p): p.detach().clone() for p in model.model.decoder.parameters()}
    assert next(training) == (1, 1)
    norm = torch.sqrt(sum((g**2).sum() for g in expected))
    for parameter, gradient in zip(model.model.decoder.parameters(), expected, strict=True):
        clipped = gradient * min(1.0, 1.0 / float(norm))
        # AdamW's first step is rate · g / (|g| + ε), after the decay of the weight.
        moved = rate(0, 1) * clipped / (clipped.abs() + 3e-4)
        decayed = before[id(parameter)] * (1 - rate(0, 1) * 0.01)
        torch.testing.assert_close(parameter.detach(), decayed - moved, rtol=1e-3, atol=2e-6)


def test_effects_of_removals_add_up(songs: list[Tensor]) -> None:
    whole = weights(tuned(songs, CAPTIONS, [True] * 4))
    first, second, both = (
        weights(tuned(songs, CAPTIONS, [i not in gone for i in range(4)])) - whole for gone in ({0}, {1}, {0, 1})
    )
    cosine = torch.nn.functional.cosine_similarity(first + second, both, dim=0)
    assert cosine > 0.9


def test_every_window_comes_once_in_a_pass_with_windows_of_its_length() -> None:
    frames = [500, 250, 500, 250, 250, 100]
    steps = order(frames, Plan(3, 2, 1))
    half = len(steps) // 2
    for of_pass in (steps[:half], steps[half:]):
        assert Counter(i for step in of_pass for i in step) == Counter(range(6))
    assert all(len({frames[i] for i in step}) == 1 for step in steps)
    assert max(len(step) for step in steps) == 2, "as many frames as one window of 10 s has"
    assert order(frames, Plan(3, 2, 1)) == steps != order(frames, Plan(4, 2, 1))
    assert count_steps(frames, 2, 1) == len(steps)
    assert len(order(frames, Plan(3, 1.5, 1))) == round(0.75 * len(steps))


def test_the_rate_warms_up_over_a_quarter_and_falls() -> None:
    rates = np.array([rate(step, 100) for step in range(100)])
    assert rates.argmax() in (24, 25)
    assert rates.max() == RATE
    assert (np.diff(rates[:25]) > 0).all()
    assert (np.diff(rates[25:]) < 0).all()
    assert rates[-1] == pytest.approx(0.05 * RATE, rel=0.05)
