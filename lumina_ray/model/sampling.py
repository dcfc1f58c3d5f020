"""Sample music from any MusicGen: under a text, with guidance, going on from a prompt.

One loop serves the bank, nano and `lumina generate`, whichever library holds the model. An adapter's `stepping` keeps
one cache for self-attention and another for cross-attention; transformers' own `MusicgenForCausalLM.generate` mixes the
two and drops prompts (5.23.0).

Shape legend: B = pieces, K = codebooks, T = frames, S = sequence steps, C = codebook size, N = condition tokens,
D = model dimension.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lumina_ray.model.interface import MusicModel, SamplingSettings

# Pieces sampled together: with many more their cache no longer fits the cache of a processor, which is slower.
_BATCH = 16


def generate(
    model: MusicModel,
    duration_s: float,
    seed: int,
    *,
    text: str | None = None,
    guidance: float | None = None,
    prompt_KT: Tensor | None = None,
) -> np.ndarray:
    """Make up music with the model's own settings.

    Args:
        model: opened in float32.
        duration_s: length of what is made up, in seconds; a prompt comes on top.
        seed: everything that is drawn follows from it.
        text: what the model attends to; the fixed text, under which it fingerprints, where it is None.
        guidance: see `SamplingSettings`; the model's own where it is None.
        prompt_KT: int64, the codes that the piece begins with and goes on from.

    Returns:
        Float32 `[n]`, mono at 32 kHz, the prompt first. It is one frame (20 ms) longer than what was asked for, as it
        always was: transformers counts one frame more.

    Raises:
        UsageError: the text is too long, or the model knows none of its words.
    """
    settings = model.sampling if guidance is None else replace(model.sampling, guidance=guidance)
    codes_1KT = sample(
        model,
        round(duration_s * model.frame_rate_hz) + 1,
        [seed],
        settings,
        conditions_BND=None if text is None else model.embed(text),
        prompts_BKT=None if prompt_KT is None else prompt_KT[None],
    )
    return model.decode(codes_1KT[0])


def sample(
    model: MusicModel,
    n_frames: int,
    seeds: Sequence[int],
    settings: SamplingSettings = SamplingSettings(),
    conditions_BND: Tensor | None = None,
    prompts_BKT: Tensor | None = None,
) -> Tensor:
    """Sample one piece for each seed.

    A piece follows from its own seed, condition and prompt: which other pieces are sampled with it does not matter,
    apart from the rounding of sums. Of one piece under the fixed text the codes are those that transformers'
    `MusicgenForConditionalGeneration.generate` draws after `torch.manual_seed(seed)`.

    Args:
        model: opened in float32.
        n_frames: to sample, 50 a second for the published models; a prompt's frames come on top.
        conditions_BND: float32, what each piece attends to; the fixed text for all where it is None.
        prompts_BKT: int64, the codes that each piece begins with.

    Returns:
        Codes, int64 `[B, K, T]` on the CPU, prompts first and unchanged.
    """
    if conditions_BND is None:
        conditions_BND = model.condition.expand(len(seeds), -1, -1)
    if prompts_BKT is None:
        prompts_BKT = torch.zeros((len(seeds), model.n_codebooks, 0), dtype=torch.int64)
    with torch.no_grad():
        pieces = [
            _sample_batch(
                model,
                n_frames,
                seeds[begin : begin + _BATCH],
                settings,
                conditions_BND[begin : begin + _BATCH].to(model.device),
                prompts_BKT[begin : begin + _BATCH].to(model.device),
            )
            for begin in range(0, len(seeds), _BATCH)
        ]
    return torch.cat(pieces).cpu()


def _sample_batch(
    model: MusicModel,
    n_frames: int,
    seeds: Sequence[int],
    settings: SamplingSettings,
    conditions_BND: Tensor,
    prompts_BKT: Tensor,
) -> Tensor:
    B, K, prompted = prompts_BKT.shape
    T = prompted + n_frames
    generators = [torch.Generator(model.device).manual_seed(seed) for seed in seeds]
    # The delay pattern: column 0 is padding, and column c of codebook k holds frame c − 1 − k.
    sequence_BKS = torch.full((B, K, T + K), model.codebook_size, device=model.device)
    for k in range(K):
        sequence_BKS[:, k, 1 + k : 1 + k + prompted] = prompts_BKT[:, k]
    column_S, k_K1 = torch.arange(T + K, device=model.device), torch.arange(K, device=model.device)[:, None]
    frame_KS = column_S - 1 - k_K1
    sampled_KS = (frame_KS >= prompted) & (frame_KS < T)
    guided = settings.guidance != 1
    if guided:
        conditions_BND = torch.cat([conditions_BND, torch.zeros_like(conditions_BND)])
    with model.stepping(conditions_BND) as step:
        seen = 0
        for column in range(1 + prompted, T + K):
            new_BKS = sequence_BKS[:, :, seen:column]
            logits_BKC = step(torch.cat([new_BKS, new_BKS]) if guided else new_BKS)
            if guided:
                with_text_BKC, without_BKC = logits_BKC.split(B)
                logits_BKC = without_BKC + (with_text_BKC - without_BKC) * settings.guidance
            drawn_BK = _draw(logits_BKC, settings, generators)
            sequence_BKS[:, :, column] = torch.where(sampled_KS[:, column], drawn_BK, sequence_BKS[:, :, column])
            seen = column
    return torch.stack([sequence_BKS[:, k, 1 + k : 1 + k + T] for k in range(K)], dim=1)


def _draw(logits_BKC: Tensor, settings: SamplingSettings, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw a code for every codebook of every piece, int64 `[B, K]`, each piece by its own generator."""
    scores_BKC = logits_BKC.float() / settings.temperature
    top_BKk = scores_BKC.topk(min(settings.top_k, scores_BKC.shape[-1])).values
    scores_BKC = scores_BKC.masked_fill(scores_BKC < top_BKk[..., -1:], -torch.inf)
    drawn = [
        torch.multinomial(probabilities_KC, 1, generator=generator)[:, 0]
        for probabilities_KC, generator in zip(scores_BKC.softmax(-1), generators, strict=True)
    ]
    return torch.stack(drawn)
