import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.lm import LmSchedule, evaluate_lm, train_lm
from tests.tiny_model import tiny_music_model
from tests.training.synthetic import patterned_codes


@pytest.fixture
def model() -> TransformersMusicGen:
    return tiny_music_model(n_layers=2)


def ignore(metrics: dict[str, float], state: dict[str, Any]) -> None:
    pass


def test_loss_equals_a_loop_over_the_delay_pattern(model: TransformersMusicGen) -> None:
    K, T, C = 4, 7, model.codebook_size
    codes_KT = torch.randint(C, (K, T), generator=torch.Generator().manual_seed(1))

    # Column c holds frame c − 1 − k of codebook k, or the special token where there is no such frame yet.
    def at(k: int, column: int) -> int:
        frame = column - 1 - k
        return int(codes_KT[k, frame]) if frame >= 0 else C

    sequence_KS = torch.tensor([[at(k, column) for column in range(T + 1)] for k in range(K)])
    with torch.no_grad():
        logits_KSC = model.model.decoder(sequence_KS, encoder_hidden_states=model.condition).logits.view(K, T + 1, C)
    means = []
    for k in range(K):
        losses = []
        for frame in range(T):
            predicted_at = frame + k  # the step before the column that holds the frame
            if predicted_at < T:
                losses.append(-float(logits_KSC[k, predicted_at].log_softmax(dim=0)[codes_KT[k, frame]]))
        assert len(losses) == T - k
        means.append(sum(losses) / len(losses))

    assert evaluate_lm(model, [codes_KT]) == pytest.approx(sum(means) / K, rel=1e-5)


def test_training_learns_its_songs_and_reports_the_way(model: TransformersMusicGen) -> None:
    songs = [patterned_codes(seed, 500, model.codebook_size) for seed in range(2)]
    reported: list[dict[str, float]] = []
    before = evaluate_lm(model, songs)

    train_lm(
        model, songs, LmSchedule(total=60, early=7), seed=0, report=lambda m, s: reported.append(m), report_every=20
    )

    assert before == pytest.approx(math.log(model.codebook_size), rel=0.1)
    assert evaluate_lm(model, songs) < before - 0.1
    assert [metrics["step"] for metrics in reported] == [7, 20, 40, 60]
    assert reported[-1]["loss"] < reported[0]["loss"]
    assert not model.model.decoder.training


def test_resuming_gives_the_weights_of_an_uninterrupted_run(model: TransformersMusicGen) -> None:
    songs: list[Tensor] = [patterned_codes(0, 520, model.codebook_size)]
    schedule = LmSchedule(total=5, early=2)
    again = tiny_music_model(n_layers=2)
    states: dict[float, dict[str, Any]] = {}

    def keep(metrics: dict[str, float], state: dict[str, Any]) -> None:
        states[metrics["step"]] = copy.deepcopy(state)

    train_lm(model, songs, schedule, seed=4, report=keep, report_every=50)
    train_lm(again, songs, schedule, seed=4, report=ignore, report_every=50, resume=states[2])

    resumed = again.model.decoder.state_dict()
    for name, tensor in model.model.decoder.state_dict().items():
        assert torch.equal(tensor, resumed[name]), name
