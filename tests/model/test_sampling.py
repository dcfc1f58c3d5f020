"""The sampler against transformers' own, against a loop without any cache, and against the model it samples from."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from lumina_ray.errors import UsageError
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.interface import SamplingSettings
from lumina_ray.model.sampling import generate, sample
from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.truth.bank import SHIPPED, load_bank
from lumina_ray.truth.models import with_weights

Uncached = Callable[[Tensor, Tensor], Tensor]
"""Logits `[B, K, S, C]` after every step of a whole sequence `[B, K, S]` under conditions `[B, N, D]`."""
GUIDED = SamplingSettings(top_k=50, temperature=0.9, guidance=3.0)
CAPTION = "slow baroque chorale, organ"


class Case(NamedTuple):
    """Settings, and a text in place of the fixed one."""

    settings: SamplingSettings
    text: str | None

    def condition(self, model: MusicModel) -> Tensor:
        return model.condition if self.text is None else model.embed(self.text)


def cases(*settings: SamplingSettings) -> pytest.MarkDecorator:
    """The fixed text under all settings, and a caption with guidance."""
    all_cases = [*(Case(one, None) for one in settings), Case(GUIDED, CAPTION)]
    return pytest.mark.parametrize("case", all_cases, ids=lambda case: f"{case.settings.top_k}-{case.text}")


@pytest.fixture(scope="module")
def small() -> TransformersMusicGen:
    """A trained model of the bank: 8 layers."""
    bank = load_bank(SHIPPED)
    return with_weights(bank.recipe, bank.models["A"], bank.text)


@pytest.fixture(scope="module", params=["transformers", "audiocraft"])
def adapter(request: pytest.FixtureRequest, small: TransformersMusicGen) -> Iterator[tuple[MusicModel, Uncached]]:
    """One set of weights through either library, and through that library without a cache."""
    if request.param == "transformers":

        def by_transformers(sequence_BKS: Tensor, conditions_BND: Tensor) -> Tensor:
            decoder = small.model.decoder
            logits_XSC = decoder(sequence_BKS.flatten(0, 1), encoder_hidden_states=conditions_BND, use_cache=False)
            return logits_XSC.logits.unflatten(0, sequence_BKS.shape[:2])

        yield small, by_transformers
    else:
        from lumina_ray.model.audiocraft_adapter import AudiocraftMusicGen

        converted = AudiocraftMusicGen._convert(small, "cpu", torch.float32)

        def by_audiocraft(sequence_BKS: Tensor, conditions_BND: Tensor) -> Tensor:
            conditions = {"description": (conditions_BND, torch.ones(conditions_BND.shape[:2]))}
            return converted.lm(sequence_BKS, [], conditions)

        yield converted, by_audiocraft


@pytest.fixture(scope="module")
def prompt_KT() -> Tensor:  # noqa: N802
    """The beginning of a song of the bank."""
    return load_bank(SHIPPED).codes[0][:, :25]


def delayed(codes_KT: Tensor, pad: int) -> Tensor:
    """The whole delayed sequence `[K, T + K]` of codes, the last codebook's last frame included."""
    K, T = codes_KT.shape
    sequence_KS = torch.full((K, T + K), pad)
    for k in range(K):
        for t in range(T):
            sequence_KS[k, 1 + k + t] = codes_KT[k, t]
    return sequence_KS


def guided(predict: Uncached, sequence_BKS: Tensor, conditions_BND: Tensor, guidance: float) -> Tensor:
    """Logits after every step, `[B, K, S, C]`, with classifier-free guidance."""
    logits_BKSC = predict(sequence_BKS, conditions_BND)
    if guidance == 1:
        return logits_BKSC
    null_BKSC = predict(sequence_BKS, torch.zeros_like(conditions_BND))
    return null_BKSC + (logits_BKSC - null_BKSC) * guidance


def teacher_forced(predict: Uncached, codes_BKT: Tensor, condition_1ND: Tensor, guidance: float, pad: int) -> Tensor:
    """Logits for every code of pieces, `[B, K, T, C]`.

    The last codebook's last frame comes K − 1 steps after the first codebook's, where padding is all around it.
    """
    B, K, T = codes_BKT.shape
    sequence_BKS = torch.stack([delayed(codes_KT, pad) for codes_KT in codes_BKT])[:, :, :-1]
    with torch.no_grad():
        logits_BKSC = guided(predict, sequence_BKS, condition_1ND.expand(B, -1, -1), guidance)
    return torch.stack([logits_BKSC[:, k, k : k + T] for k in range(K)], dim=1)


def without_cache(
    predict: Uncached,
    model: MusicModel,
    n_frames: int,
    seed: int,
    settings: SamplingSettings,
    condition_1ND: Tensor,
    prompt_KT: Tensor,
) -> Tensor:
    """Sample `[K, T]` in the plainest way: the whole sequence goes through the model for every step."""
    K, prompted = prompt_KT.shape
    unknown = torch.full((K, n_frames), -1)
    pattern_KS = delayed(torch.cat([prompt_KT, unknown], dim=1), model.codebook_size)
    torch.manual_seed(seed)
    for column in range(1 + prompted, pattern_KS.shape[1]):
        (logits_KSC,) = guided(predict, pattern_KS[None, :, :column], condition_1ND, settings.guidance)
        logits_KC = logits_KSC[:, -1] / settings.temperature
        kth_K1 = logits_KC.sort(dim=1, descending=True).values[:, settings.top_k - 1, None]
        probabilities_KC = torch.where(logits_KC >= kth_K1, logits_KC, -torch.inf).softmax(dim=1)
        drawn_K = torch.multinomial(probabilities_KC, 1)[:, 0]
        pattern_KS[:, column] = torch.where(pattern_KS[:, column] == -1, drawn_K, pattern_KS[:, column])
    return torch.stack([pattern_KS[k, 1 + k : 1 + k + prompted + n_frames] for k in range(K)])


@pytest.mark.parametrize("prompted", [0, 25])
@cases(SamplingSettings(), GUIDED)
def test_codes_are_those_of_a_loop_without_a_cache(
    adapter: tuple[MusicModel, Uncached], prompt_KT: Tensor, prompted: int, case: Case
) -> None:
    model, predict = adapter
    prompt, condition_1ND = prompt_KT[:, :prompted], case.condition(model)
    (ours,) = sample(model, 40, [11], case.settings, condition_1ND, prompt[None])
    with torch.no_grad():
        theirs = without_cache(predict, model, 40, 11, case.settings, condition_1ND, prompt)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours[:, :prompted], prompt)


@pytest.mark.parametrize("prompted", [0, 25])
@cases(SamplingSettings(), SamplingSettings(top_k=20))
def test_no_sampled_code_lies_outside_the_teacher_forced_top_k(
    adapter: tuple[MusicModel, Uncached], prompt_KT: Tensor, prompted: int, case: Case
) -> None:
    model, predict = adapter
    condition_1ND = case.condition(model)
    codes_BKT = sample(
        model, 60, range(4), case.settings, condition_1ND.expand(4, -1, -1), prompt_KT[:, :prompted].expand(4, -1, -1)
    )
    logits_BKTC = teacher_forced(predict, codes_BKT, condition_1ND, case.settings.guidance, model.codebook_size)
    chosen_BKT1 = logits_BKTC.gather(3, codes_BKT[..., None])
    # What rounding can change does not count.
    ranks_BKT = (logits_BKTC > chosen_BKT1 + 1e-4).sum(dim=3)[:, :, prompted:]
    assert ranks_BKT.shape == (4, 4, 60)
    assert ranks_BKT.max() < case.settings.top_k


@pytest.mark.parametrize("prompted", [0, 25])
@cases(SamplingSettings())
def test_the_loss_of_a_piece_under_its_own_model_does_not_rise_along_it(
    adapter: tuple[MusicModel, Uncached], prompt_KT: Tensor, prompted: int, case: Case
) -> None:
    """It rises by nats where a sampler loses its thread."""
    model, predict = adapter
    condition_1ND = case.condition(model)
    codes_BKT = sample(
        model, 300, range(8), case.settings, condition_1ND.expand(8, -1, -1), prompt_KT[:, :prompted].expand(8, -1, -1)
    )
    logits_BKTC = teacher_forced(predict, codes_BKT, condition_1ND, case.settings.guidance, model.codebook_size)
    losses_BKT = -logits_BKTC.log_softmax(-1).gather(3, codes_BKT[..., None])[..., 0]
    fifths = [part.mean().item() for part in losses_BKT[:, :, prompted:].chunk(5, dim=2)]
    print("loss by fifths:", fifths)
    assert max(fifths[1:]) <= fifths[0] + 0.05


def test_guidance_1_is_no_guidance_and_more_of_it_is_something_else(adapter: tuple[MusicModel, Uncached]) -> None:
    model, _ = adapter
    plain, one, three = (sample(model, 30, [4], SamplingSettings(guidance=g)) for g in (1.0, 1.0 + 1e-12, 3.0))
    assert torch.equal(plain, one)
    assert not torch.equal(plain, three)


def test_a_piece_follows_from_its_own_seed_condition_and_prompt(
    adapter: tuple[MusicModel, Uncached], prompt_KT: Tensor
) -> None:
    model, _ = adapter
    rng = torch.Generator().manual_seed(0)
    conditions_BND = torch.randn((3, 2, model.dim), generator=rng)
    prompts_BKT = torch.randint(model.codebook_size, (3, 4, 10), generator=rng)
    together = sample(model, 30, [7, 8, 7], GUIDED, conditions_BND, prompts_BKT)
    for b, seed in enumerate((7, 8, 7)):
        (alone,) = sample(model, 30, [seed], GUIDED, conditions_BND[b : b + 1], prompts_BKT[b : b + 1])
        assert torch.equal(together[b], alone)
    assert not torch.equal(together[0], together[2]), "one seed, another condition and prompt"
    other = sample(model, 30, [7], GUIDED, torch.zeros_like(conditions_BND[:1]), prompts_BKT[:1])
    assert not torch.equal(together[:1], other), "the condition counts"


def test_both_libraries_sample_the_same_codes(small: TransformersMusicGen, prompt_KT: Tensor) -> None:
    from lumina_ray.model.audiocraft_adapter import AudiocraftMusicGen

    converted = AudiocraftMusicGen._convert(small, "cpu", torch.float32)
    assert converted.sampling == small.sampling == SamplingSettings(250, 1.0, 3.0)
    one, other = (
        sample(model, 30, [0, 1], small.sampling, prompts_BKT=prompt_KT.expand(2, -1, -1))
        for model in (small, converted)
    )
    assert torch.equal(one, other)
    np.testing.assert_array_equal(small.decode(one[0]), converted.decode(other[0]))


def test_nano_makes_up_the_very_clip_that_transformers_does() -> None:
    """The whole of `MusicgenForConditionalGeneration.generate` beside ours: text, guidance, sampling, codec."""
    nano = open_model("nano")
    assert isinstance(nano, TransformersMusicGen)
    token_ids = nano.text.tokenizer(CONDITION_TEXT, return_tensors="pt").input_ids
    torch.manual_seed(5)
    theirs_11N = nano.model.generate(
        input_ids=token_ids, attention_mask=torch.ones_like(token_ids), do_sample=True, max_new_tokens=100 + 4
    )
    ours = nano.generate(2.0, seed=5)
    np.testing.assert_array_equal(ours, theirs_11N[0, 0].numpy())
    np.testing.assert_array_equal(ours, generate(nano, 2.0, seed=5))
    assert len(ours) == 101 * 640


def test_music_is_generated_from_a_text_with_guidance_and_a_prompt(
    adapter: tuple[MusicModel, Uncached], prompt_KT: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = adapter
    # The bank's models have an untrained codec, which makes the same sound of all codes.
    monkeypatch.setattr(model, "decode", lambda codes_KT: codes_KT.numpy())
    codes_KT = generate(model, 0.5, 6, text=CAPTION, guidance=5.0, prompt_KT=prompt_KT)
    settings = SamplingSettings(model.sampling.top_k, model.sampling.temperature, 5.0)
    expected_1KT = sample(model, 26, [6], settings, model.embed(CAPTION), prompt_KT[None])
    assert codes_KT.shape == (4, 25 + 26)
    np.testing.assert_array_equal(codes_KT, expected_1KT[0])
    others = (
        {"guidance": 5.0, "prompt_KT": prompt_KT},
        {"text": CAPTION, "prompt_KT": prompt_KT},
        {"text": CAPTION, "guidance": 5.0, "prompt_KT": prompt_KT[:, :-1]},
    )
    for without in others:
        assert not np.array_equal(codes_KT[:, -26:], generate(model, 0.5, 6, **without)[:, -26:]), without
    plain = generate(model, 0.5, 6)
    np.testing.assert_array_equal(plain, generate(model, 0.5, 6, text=CONDITION_TEXT, guidance=3.0))


def test_both_libraries_embed_the_same_texts(adapter: tuple[MusicModel, Uncached], small: TransformersMusicGen) -> None:
    model, _ = adapter
    assert torch.equal(model.embed(CONDITION_TEXT), model.condition)
    assert torch.equal(model.embed(CAPTION), small.embed(CAPTION))
    assert model.embed(CAPTION).shape[2] == model.dim
    assert model.unknown_words("slow 長い organ") == ["長い"]
    with pytest.raises(UsageError, match=r"the model knows no word of the text '長い 1234'"):
        model.embed("長い 1234")
    with pytest.raises(UsageError, match="knows no word of the text ' '"):
        model.embed(" ")
    with pytest.raises(UsageError, match=r"the text has 1025 characters, the limit is 1024; shorten it"):
        model.embed("o" * 1025)
