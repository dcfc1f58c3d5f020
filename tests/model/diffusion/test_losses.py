"""The loss of a diffusion transformer against brute force: one draw and one chunk at a time, at its own length."""

import math

import numpy as np
import pytest
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

from lumina_ray.errors import UsageError
from lumina_ray.gradients.loss import batch_losses
from lumina_ray.model.diffusion.adapter import DiffusionTransformer
from lumina_ray.model.diffusion.draws import drawn_noise, drawn_times
from lumina_ray.vocabulary import Draws
from tests.tiny_dit import tiny_dit

DRAWS = Draws(4, 5)
C = 8


@pytest.fixture(scope="module")
def model() -> DiffusionTransformer:
    return tiny_dit(patch=4)


def latents(n_frames: int, seed: int = 0) -> Tensor:
    return torch.randn((C, n_frames), generator=torch.Generator().manual_seed(seed))


def by_brute_force(model: DiffusionTransformer, music_CT: Tensor) -> Tensor:
    """Mean squared error of each latent, `[C, T]`, by the transformer alone and without masks."""
    T = music_CT.shape[1]
    whole = math.ceil(T / 4) * 4
    music = np.zeros((C, whole))
    music[:, :T] = music_CT.numpy()
    errors = np.zeros((C, whole))
    for m in range(DRAWS.count):
        t = float(drawn_times(DRAWS)[m])
        noise = drawn_noise(DRAWS, C, whole)[m].double().numpy()
        alpha, sigma = math.cos(math.pi * t / 2), math.sin(math.pi * t / 2)
        noisy, velocity = alpha * music + sigma * noise, alpha * noise - sigma * music
        # Four frames of all channels are one: channel c of frame j of the patch is channel 4c + j.
        patches = np.stack([noisy[c, j::4] for c in range(C) for j in range(4)])
        with torch.no_grad():
            made = model.transformer(
                torch.from_numpy(patches).float()[None],
                torch.tensor([t]),
                encoder_hidden_states=model.condition.tokens_RND,
                global_hidden_states=model.condition.duration_R1G,
                rotary_embedding=get_1d_rotary_pos_embed(
                    8, whole // 4 + 1, use_real=True, repeat_interleave_real=False
                ),
            ).sample[0]
        predicted = np.stack([made[4 * c : 4 * c + 4].T.flatten().numpy() for c in range(C)])
        errors += (predicted - velocity) ** 2 / DRAWS.count
    return torch.from_numpy(errors[:, :T]).float()


def test_a_chunk_has_the_loss_of_brute_force_in_any_company(model: DiffusionTransformer) -> None:
    chunks = [latents(40), latents(23, 1), latents(0)]
    batch_BCT = torch.full((3, C, 40), 99.0)
    for row_CT, chunk_CT in zip(batch_BCT, chunks, strict=True):
        row_CT[:, : chunk_CT.shape[1]] = chunk_CT
    with torch.no_grad():
        losses = model.losses(batch_BCT, [40, 23, 0], DRAWS)
    assert losses.valid_BKT.sum(dim=(1, 2)).tolist() == [40 * C, 23 * C, 0]
    for b, n in ((0, 40), (1, 23)):
        expected = by_brute_force(model, chunks[b])
        torch.testing.assert_close(losses.values_BKT[b, :, :n], expected, rtol=1e-4, atol=1e-5)
        alone = batch_losses(losses, (1.0,) * C)[b]
        assert float(alone) == pytest.approx(float(expected.mean()), rel=1e-5)
    assert float(batch_losses(losses, (1.0,) * C)[2]) == 0


def test_frames_without_sound_are_heard_but_do_not_count(model: DiffusionTransformer) -> None:
    music_1CT = latents(40)[None]
    heard_1T = (torch.arange(40) < 25)[None]
    with torch.no_grad():
        losses = model.losses(music_1CT, [40], DRAWS)
        of_heard = batch_losses(losses.of(heard_1T), (1.0,) * C)
    expected = by_brute_force(model, music_1CT[0])[:, :25].mean()
    assert float(of_heard) == pytest.approx(float(expected), rel=1e-5)


def test_more_draws_estimate_the_same_loss(model: DiffusionTransformer) -> None:
    """Its spread over seeds shrinks at least as fast as that of independent draws."""
    music_1CT = latents(40)[None]
    with torch.no_grad():
        losses = {
            count: np.array(
                [float(model.losses(music_1CT, [40], Draws(count, seed)).values_BKT.mean()) for seed in range(12)]
            )
            for count in (2, 32)
        }
    assert losses[32].std() < losses[2].std() / 3
    assert abs(losses[32].mean() - losses[2].mean()) < 3 * losses[2].std() / np.sqrt(12)


def test_texts_and_lengths_are_heard(model: DiffusionTransformer) -> None:
    """What only fills up a shorter text is zero, and no text is zeros alone, as Stable Audio has it."""
    made = model.conditions(["slow organ", None], [10.0, 5.0])
    n_text = made.tokens_RND.shape[1] - 2
    used = int(model.tokenizer("slow organ", return_tensors="pt").input_ids.shape[1])
    assert made.tokens_RND[0, :used].abs().min() > 0
    assert not made.tokens_RND[0, used:n_text].any()
    assert not made.tokens_RND[1].any()
    assert not torch.equal(made.duration_R1G[0], made.duration_R1G[1])
    with pytest.raises(UsageError, match="knows no word"):
        model.embed("zither", 10.0)
    with pytest.raises(UsageError, match="the text has 71 tokens, unsaved takes 64"):
        model.embed("organ " * 70, 10.0)


def test_music_follows_its_seed_and_its_text(model: DiffusionTransformer) -> None:
    one = model.generate(1.0, 0, text="slow organ")
    assert one.shape == (32_000,)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one, model.generate(1.0, 0, text="slow organ"))
    assert not np.array_equal(one, model.generate(1.0, 1, text="slow organ"))
    assert not np.array_equal(one, model.generate(1.0, 0, text="fast piano"))
    with pytest.raises(UsageError, match="cannot go on"):
        model.generate(1.0, 0, prompt_KT=latents(40))
    with pytest.raises(UsageError, match="30 s at most, 31 s were asked for"):
        model.generate(31.0, 0)


def test_sampling_from_a_perfect_model_gives_its_music(model: DiffusionTransformer, monkeypatch) -> None:
    """A model of one piece knows the velocity at every time: whatever the noise, that piece comes out."""
    music_CT = latents(48, 3)
    caught: list[Tensor] = []

    def velocity(noisy_RCT: Tensor, times_R: Tensor, *_: object) -> Tensor:
        angle = times_R[:, None, None] * (math.pi / 2)
        noise = (noisy_RCT - angle.cos() * music_CT) / angle.sin()
        return angle.cos() * noise - angle.sin() * music_CT

    monkeypatch.setattr(model, "velocity", velocity)
    monkeypatch.setattr(model, "decode", lambda latents_CT: caught.append(latents_CT) or np.zeros(1))
    model.generate(48 / 50, 7)
    torch.testing.assert_close(caught[0], music_CT, rtol=1e-3, atol=1e-3)
