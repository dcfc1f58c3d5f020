import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lumina_ray.audio import cut_chunks
from lumina_ray.fingerprint.codes import encode_song
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.captions import vocabulary, word_tokenizer
from lumina_ray.training.data import Song
from lumina_ray.training.lm import LmSchedule, encode_chunks, evaluate_lm, train_lm
from tests.tiny_model import tiny_music_model
from tests.training.synthetic import melody, patterned_codes

CAPTIONS = ["slow organ, flutes", "fast guitar, drums"]


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


def captioned() -> TransformersMusicGen:
    return tiny_music_model(2, word_tokenizer(vocabulary(CAPTIONS)))


def test_training_learns_what_captions_say() -> None:
    model = captioned()
    # Too short to tell by themselves how they go on.
    songs = [patterned_codes(seed, 12, model.codebook_size) for seed in range(2)]
    fixed_text = model.condition.clone()

    train_lm(model, songs, LmSchedule(total=150, early=1), seed=0, report=ignore, captions=CAPTIONS)

    own, swapped = (evaluate_lm(model, songs, captions) for captions in (CAPTIONS, CAPTIONS[::-1]))
    less = evaluate_lm(model, songs, ["organ", "drums"])
    print(f"loss under the own captions {own:.3f}, one word of them {less:.3f}, each other's captions {swapped:.3f}")
    assert own < less < swapped
    assert own < swapped - 0.05
    assert not torch.equal(model.condition, fixed_text), "the text encoder is trained"
    assert torch.equal(model.condition, model.embed("music")), "and the fixed text is encoded by it"


def test_resuming_under_captions_gives_the_weights_of_an_uninterrupted_run() -> None:
    songs: list[Tensor] = [patterned_codes(seed, 520, 512) for seed in range(2)]
    model, again = captioned(), captioned()
    states: dict[float, dict[str, Any]] = {}

    def keep(metrics: dict[str, float], state: dict[str, Any]) -> None:
        states[metrics["step"]] = copy.deepcopy(state)

    schedule = LmSchedule(total=5, early=2)
    train_lm(model, songs, schedule, seed=4, report=keep, captions=CAPTIONS)
    train_lm(again, songs, schedule, seed=4, report=ignore, captions=CAPTIONS, resume=states[2])

    resumed = again.model.state_dict()
    for name, tensor in model.model.state_dict().items():
        assert torch.equal(tensor, resumed[name]), name


def test_without_captions_the_text_encoder_stays_as_it_is(model: TransformersMusicGen) -> None:
    before = copy.deepcopy(model.model.text_encoder.state_dict())
    train_lm(model, [patterned_codes(0, 500, 512)], LmSchedule(total=2, early=1), seed=0, report=ignore)
    for name, tensor in model.model.text_encoder.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_text_among_longer_ones_and_none_at_all_condition_as_alone() -> None:
    model = captioned()
    codes_BKT = torch.stack([patterned_codes(seed, 60, 512) for seed in range(3)])
    texts = ["organ", None, "slow organ with flutes and guitar"]
    with torch.no_grad():
        conditions_BND, mask_BN = model.text.conditions(texts)
        together = model.predict(codes_BKT, [60] * 3, conditions_BND, mask_BN).logits_BKTC
        for b, text in enumerate(texts):
            condition_1ND = torch.zeros_like(model.condition) if text is None else model.embed(text)
            alone = model.predict(codes_BKT[b : b + 1], [60], condition_1ND).logits_BKTC
            torch.testing.assert_close(together[b], alone[0], rtol=1e-4, atol=1e-5)


def test_chunks_are_encoded_as_fingerprints_encode_them(model: TransformersMusicGen) -> None:
    quiet, long = (Song(str(i), gain * melody(i, 17.0)) for i, gain in enumerate((0.1, 1.0)))
    chunks = encode_chunks(model, [quiet, long])
    assert [[codes_KT.shape[1] for codes_KT in of_song] for of_song in chunks] == [[500, 350], [500, 350]]
    expected = encode_song(model, cut_chunks(quiet.samples)).chunks
    assert all((ours.numpy() == theirs).all() for ours, theirs in zip(chunks[0], expected, strict=True))
    # The shorter chunk is trained on as it is.
    train_lm(model, [chunks[0][1]], LmSchedule(total=1, early=1, batch=1), seed=0, report=ignore)
