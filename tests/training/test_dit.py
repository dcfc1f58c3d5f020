"""Training of the diffusion transformer: it learns, goes on after an interruption, and ships what it measured."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lumina_ray.model.diffusion.adapter import DiffusionTransformer
from lumina_ray.model.diffusion.load import load
from lumina_ray.training.captions import vocabulary, word_tokenizer
from lumina_ray.training.data import Song
from lumina_ray.training.dit import (
    EVALUATION_DRAWS,
    DitSchedule,
    Window,
    encode_windows,
    evaluate_dit,
    export_dit,
    latent_settings,
    new_dit,
    train_dit,
)
from lumina_ray.vocabulary import SAMPLE_RATE_HZ
from tests.tiny_dit import CAPTIONS, tiny_codec
from tests.training.synthetic import melody

# The second song falls silent in the end.
SONGS = [
    Song("one", melody(0, 12.0), CAPTIONS[0]),
    Song("two", np.concatenate([melody(1, 4.0), np.zeros(2 * SAMPLE_RATE_HZ, np.float32)]), None),
]


@pytest.fixture
def model() -> DiffusionTransformer:
    codec = tiny_codec()
    tokenizer = word_tokenizer(vocabulary(CAPTIONS))
    return new_dit(codec, tokenizer, latent_settings(codec, SONGS), n_layers=2, dim=32, heads=2)


@pytest.fixture
def windows(model: DiffusionTransformer) -> list[Window]:
    return [window for of_song in encode_windows(model, SONGS) for window in of_song]


def test_latents_of_the_songs_have_mean_0_and_spread_1(windows: list[Window]) -> None:
    assert [window.latents_CT.shape for window in windows] == [(8, 500), (8, 300)]
    heard_CT = torch.cat([window.latents_CT[:, window.heard_T] for window in windows], dim=1)
    # Stores keep them in half precision.
    torch.testing.assert_close(heard_CT.mean(dim=1), torch.zeros(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(heard_CT.std(dim=1), torch.ones(8), atol=2e-3, rtol=0)


def test_training_learns_its_songs_and_reports_the_way(model: DiffusionTransformer, windows: list[Window]) -> None:
    reported: list[dict[str, float]] = []
    before = evaluate_dit(model, windows).mean()
    train_dit(
        model, windows, DitSchedule(60, 4), seed=0, report=lambda metrics, _: reported.append(metrics), report_every=20
    )
    assert [metrics["step"] for metrics in reported] == [20, 40, 60]
    assert reported[-1]["loss"] < reported[0]["loss"]
    # Whoever predicts no velocity at all has the power of noise and music, which is 1.
    assert evaluate_dit(model, windows).mean() < 0.97 < 1 < before


def test_an_interrupted_training_ends_with_the_same_weights(model: DiffusionTransformer, windows: list[Window]) -> None:
    other = copy.deepcopy(model)
    states: list[dict[str, Any]] = []

    def keep(_: dict[str, float], state: dict[str, Any]) -> None:
        states.append(copy.deepcopy(state))

    train_dit(model, windows, DitSchedule(4, 2), seed=3, report=keep, report_every=2)
    train_dit(other, windows, DitSchedule(4, 2), seed=3, report=keep, report_every=2, resume=states[0])
    assert [state["step"] for state in states] == [2, 4, 4]
    for name, tensor in states[1]["model"].items():
        assert torch.equal(tensor, states[2]["model"][name]), name


def test_silence_and_padding_teach_nothing(model: DiffusionTransformer, windows: list[Window]) -> None:
    """What the frames without sound hold as targets does not matter to the loss of a window."""
    window = windows[1]
    with torch.no_grad():
        values_1CT = model.losses(window.latents_CT[None], [300], EVALUATION_DRAWS).values_BKT
    expected = values_1CT[0][:, window.heard_T].mean()
    assert evaluate_dit(model, [window])[0] == pytest.approx(float(expected), rel=1e-5)
    assert 0 < int(window.heard_T.sum()) < 300


def test_a_caption_is_another_condition(model: DiffusionTransformer, windows: list[Window]) -> None:
    train_dit(model, windows, DitSchedule(6, 2), seed=0, report=lambda *_: None)
    assert evaluate_dit(model, windows[:1]) != evaluate_dit(model, windows[:1], captions=True)
    # The second song has none.
    assert evaluate_dit(model, windows[1:]) == evaluate_dit(model, windows[1:], captions=True)


def test_what_is_shipped_is_opened_by_its_folder(
    model: DiffusionTransformer, windows: list[Window], tmp_path: Path
) -> None:
    train_dit(model, windows, DitSchedule(3, 2), seed=0, report=lambda *_: None)
    export_dit(model, tiny_codec(), tmp_path / "dit")
    opened = load(tmp_path / "dit", "dit", "cpu")
    assert opened.settings == model.settings
    np.testing.assert_allclose(evaluate_dit(opened, windows), evaluate_dit(model, windows), rtol=1e-2)
    np.testing.assert_allclose(
        encode_windows(opened, SONGS)[0][0].latents_CT, windows[0].latents_CT, rtol=1e-2, atol=1e-2
    )
    of_window = opened.losses(windows[0].latents_CT[None], [500], EVALUATION_DRAWS)
    assert of_window.values_BKT.shape == (1, 8, 500)
