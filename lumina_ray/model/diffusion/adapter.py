"""A latent diffusion transformer in the form of Stable Audio, behind the common interface.

The transformer predicts the velocity `v = cos(πt/2) ε − sin(πt/2) x` of noisy latents `cos(πt/2) x + sin(πt/2) ε` for
music x, noise ε and a time t (Salimans & Ho 2022, arXiv:2202.00512, appendix D; Evans et al. 2024, arXiv:2404.10301).

Shape legend: B = chunks, M = draws, R = entries of the transformer's batch, C = rows of the latents, T = frames,
N = condition tokens, D = width of the conditions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from lumina_ray.audio import CHUNK_S
from lumina_ray.errors import UsageError
from lumina_ray.model.diffusion.codecs import LatentCodec
from lumina_ray.model.diffusion.draws import drawn_noise, drawn_times
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.interface import Losses
from lumina_ray.model.text import check_text, knows_words, unknown_words
from lumina_ray.model.tracked import CONDITION_TEXT, TrackedTensor
from lumina_ray.vocabulary import Draws, Representation

# So many that the fingerprints of disjoint draws have a cosine of 0.95 or more (docs/diffusion.md).
DRAWS = Draws(count=48, seed=422024)


@dataclass(frozen=True)
class LatentSettings:
    """How a model's latents are made of its codec's.

    Attributes:
        patch: frames that the transformer sees as one.
        mean, std: of each of the codec's rows over the training songs; latents are normalised by them. Empty for
            latents as they are.
        guidance: classifier-free guidance that music is sampled with by default.
    """

    patch: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    guidance: float = 7.0


@dataclass(frozen=True)
class Condition:
    """The conditions of a batch's entries.

    Attributes:
        tokens_RND: float32, what they attend to: text, start and total length.
        duration_R1G: float32, start and total length, for the token that is put before the music.
    """

    tokens_RND: Tensor
    duration_R1G: Tensor

    def rows(self, n: int) -> "Condition":
        """One condition for n entries."""
        return Condition(self.tokens_RND.expand(n, -1, -1), self.duration_R1G.expand(n, -1, -1))


class DiffusionTransformer:
    """A diffusers `StableAudioDiTModel` with its conditioners and codec; see `AttributableModel` for the methods.

    Attributes:
        condition: the fixed text and the length of a chunk, under which losses are taken.
    """

    adapter = "diffusers"

    def __init__(
        self,
        transformer: Any,
        projection: Any,
        text_encoder: T5EncoderModel,
        tokenizer: PreTrainedTokenizerBase,
        codec: LatentCodec,
        settings: LatentSettings,
        name: str,
        sha256: str,
    ) -> None:
        """Put the parts of a model, all on one device, behind the interface."""
        self.name, self.weights_sha256 = name, sha256
        self.folder: Path | None = None
        self.fisher: Fisher | None = None
        self.draws: Draws | None = DRAWS
        self.transformer, self.projection, self.text_encoder = transformer, projection, text_encoder
        self.tokenizer, self.codec, self.settings = tokenizer, codec, settings
        self.device: torch.device = transformer.device
        self.n_layers = len(transformer.transformer_blocks)
        self.frame_rate_hz = codec.frame_rate_hz
        self.refresh_condition()

    @property
    def representation(self) -> Representation:
        return Representation("latents", self.codec.n_rows)

    def refresh_condition(self) -> None:
        """Encode the fixed condition with the text encoder's present weights."""
        with torch.no_grad():
            self.condition = self.conditions([CONDITION_TEXT], [CHUNK_S])

    def unknown_words(self, text: str) -> list[str]:
        return unknown_words(text, self.tokenizer)

    @property
    def knows_words(self) -> bool:
        return knows_words(self.tokenizer)

    def conditions(self, texts: Sequence[str | None], durations_s: Sequence[float]) -> Condition:
        """Encode texts and lengths, with gradients where the encoders ask for them.

        Args:
            texts: None stands for no text: a condition of zeros, as Stable Audio's guidance has it.
            durations_s: total length of each piece, in seconds; each begins at 0.
        """
        tokens = self.tokenizer(
            [text or "" for text in texts], padding="max_length", truncation=True, return_tensors="pt"
        ).to(self.device)
        hidden_RNE = self.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        total_R = torch.tensor(durations_s, dtype=torch.float32, device=self.device)
        made = self.projection(hidden_RNE, torch.zeros_like(total_R), total_R)
        start_R1D, end_R1D = made.seconds_start_hidden_states, made.seconds_end_hidden_states
        # What only fills up a shorter text is zero, and not masked: so the published models were trained.
        text_RND = made.text_hidden_states * tokens.attention_mask[..., None]
        given_R11 = torch.tensor([text is not None for text in texts], device=self.device)[:, None, None]
        tokens_RND = torch.cat([text_RND, start_R1D, end_R1D], dim=1) * given_R11
        return Condition(tokens_RND, torch.cat([start_R1D, end_R1D], dim=2))

    def embed(self, text: str, duration_s: float) -> Condition:
        """Encode one text, without gradients.

        Raises:
            UsageError: the text is too long, or the model knows none of its words.
        """
        check_text(text, self.tokenizer)
        n_tokens, most = len(self.tokenizer(text).input_ids), self.tokenizer.model_max_length
        if n_tokens > most:
            raise UsageError(f"the text has {n_tokens} tokens, {self.name} takes {most}; shorten it")
        with torch.no_grad():
            return self.conditions([text], [duration_s])

    def encode(self, samples: np.ndarray) -> Tensor:
        latents_CT = self.codec.encode(samples)
        mean_C1, std_C1 = self._scale(latents_CT)
        return (latents_CT - mean_C1) / std_C1

    def decode(self, codes_KT: Tensor) -> np.ndarray:
        latents_CT = codes_KT.to(self.device, torch.float32)
        mean_C1, std_C1 = self._scale(latents_CT)
        return self.codec.decode(latents_CT * std_C1 + mean_C1)

    def _scale(self, latents_CT: Tensor) -> tuple[Tensor, Tensor]:
        C = len(latents_CT)
        return (
            latents_CT.new_tensor(self.settings.mean or [0.0] * C)[:, None],
            latents_CT.new_tensor(self.settings.std or [1.0] * C)[:, None],
        )

    def generate(
        self,
        duration_s: float,
        seed: int,
        *,
        text: str | None = None,
        guidance: float | None = None,
        prompt_KT: Tensor | None = None,
    ) -> np.ndarray:
        """Make up music as `AttributableModel` says; a piece begins with its own beginning."""
        from lumina_ray.model.diffusion.sampling import generate

        if prompt_KT is not None:
            raise UsageError(f"{self.name} makes whole pieces and cannot go on from one; leave --continue out")
        longest_s = self.transformer.config.sample_size * self.settings.patch / self.frame_rate_hz
        if duration_s > longest_s:
            raise UsageError(f"{self.name} makes {longest_s:.0f} s at most, {duration_s:g} s were asked for")
        condition = self.embed(CONDITION_TEXT if text is None else text, duration_s)
        return generate(self, duration_s, seed, condition, self.settings.guidance if guidance is None else guidance)

    def losses(
        self, codes_BKT: Tensor, n_frames: list[int], draws: Draws | None, condition: Condition | None = None
    ) -> Losses:
        """Loss of every latent as `AttributableModel` says; training measures it under other conditions, too.

        Args:
            codes_BKT, n_frames, draws: as there.
            condition: of all chunks; the fixed one where it is None.
        """
        return self._over_draws(self.errors, codes_BKT, n_frames, draws, condition)

    def prediction_squares(self, codes_BKT: Tensor, n_frames: list[int], draws: Draws | None) -> Losses:
        """Square of the predicted velocity at every latent, in place of its squared error: see `losses`.

        The training loss is not the only thing whose gradient tells songs apart (`fingerprint/prediction_gradients`).
        """
        return self._over_draws(self._squares, codes_BKT, n_frames, draws, None)

    def _over_draws(
        self,
        measure: Callable[[Tensor, Tensor, Tensor, Sequence[int], Condition], Tensor],
        codes_BKT: Tensor,
        n_frames: list[int],
        draws: Draws | None,
        condition: Condition | None,
    ) -> Losses:
        """Mean over draws of what `errors` or its like gives of chunks that are noisy."""
        assert draws is not None, "this loss is a mean over draws"
        B, C, T = codes_BKT.shape
        times_M = drawn_times(draws).to(self.device)
        noise_MCT = drawn_noise(draws, C, self._whole_patches(T)).to(self.device)
        # What fills up the last patch is zero, whatever the length that a chunk is padded to.
        real_BT = torch.arange(T, device=self.device) < torch.tensor(n_frames, device=self.device)[:, None]
        music_BCT = torch.where(real_BT[:, None], codes_BKT, 0.0)
        repeated = [n for n in n_frames for _ in range(draws.count)]
        values_RCT = measure(
            music_BCT.repeat_interleave(draws.count, dim=0),
            noise_MCT.repeat(B, 1, 1),
            times_M.repeat(B),
            repeated,
            (condition or self.condition).rows(B * draws.count),
        )
        return Losses(values_RCT.view(B, draws.count, C, T).mean(dim=1), real_BT[:, None].expand(-1, C, -1))

    def errors(
        self, music_RCT: Tensor, noise_RCT: Tensor, times_R: Tensor, n_frames: Sequence[int], condition: Condition
    ) -> Tensor:
        """Squared error of the predicted velocity of each latent: float32 `[R, C, T]`.

        Args:
            music_RCT: latents.
            noise_RCT: standard normal; of T frames or more, up to whole patches.
            times_R: in (0, 1).
            n_frames: number of real frames of each entry; the others are not attended to.
            condition: of each entry.
        """
        noisy_RCT, velocity_RCT = _noisy(music_RCT, noise_RCT, times_R)
        predicted_RCT = self.velocity(noisy_RCT, times_R, n_frames, condition)
        return (predicted_RCT.float() - velocity_RCT).square()[..., : music_RCT.shape[2]]

    def _squares(
        self, music_RCT: Tensor, noise_RCT: Tensor, times_R: Tensor, n_frames: Sequence[int], condition: Condition
    ) -> Tensor:
        """Square of the predicted velocity of each latent: float32 `[R, C, T]`; see `errors`."""
        noisy_RCT, _ = _noisy(music_RCT, noise_RCT, times_R)
        predicted_RCT = self.velocity(noisy_RCT, times_R, n_frames, condition)
        return predicted_RCT.float().square()[..., : music_RCT.shape[2]]

    def velocity(self, noisy_RCT: Tensor, times_R: Tensor, n_frames: Sequence[int], condition: Condition) -> Tensor:
        """Predict the velocity of noisy latents `[R, C, T]` of whole patches: `[R, C, T]`."""
        p = self.settings.patch
        R, C, T = noisy_RCT.shape
        patches_RCT = noisy_RCT.unflatten(2, (T // p, p)).transpose(2, 3).flatten(1, 2)
        n_R1 = torch.tensor(n_frames, device=noisy_RCT.device)[:, None]
        predicted = self.transformer(
            patches_RCT,
            times_R,
            encoder_hidden_states=condition.tokens_RND,
            global_hidden_states=condition.duration_R1G,
            rotary_embedding=self._rotary(T // p),
            return_dict=False,
            attention_mask=torch.arange(T // p, device=noisy_RCT.device) * p < n_R1,
        )[0]
        return predicted.unflatten(1, (C, p)).transpose(2, 3).flatten(2, 3)

    def _whole_patches(self, n_frames: int) -> int:
        return -(-n_frames // self.settings.patch) * self.settings.patch

    def _rotary(self, n_patches: int) -> tuple[Tensor, Tensor]:
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        # One token comes before the music.
        dim = self.transformer.config.attention_head_dim // 2
        cos, sin = get_1d_rotary_pos_embed(dim, n_patches + 1, use_real=True, repeat_interleave_real=False)
        return cos.to(self.device), sin.to(self.device)

    def tracked(self, layer: int, tensor: TrackedTensor) -> tuple[nn.Parameter, ...]:
        block = self.transformer.transformer_blocks[layer]
        match tensor:
            case "self_in_proj":
                return block.attn1.to_q.weight, block.attn1.to_k.weight, block.attn1.to_v.weight
            case "self_out_proj":
                return (block.attn1.to_out[0].weight,)
            case "cross_q":
                return (block.attn2.to_q.weight,)
            case "cross_kv":
                return block.attn2.to_k.weight, block.attn2.to_v.weight
            case "cross_out_proj":
                return (block.attn2.to_out[0].weight,)
            case "linear1":
                return (block.ff.net[0].proj.weight,)
            case "linear2":
                return (block.ff.net[2].weight,)
        raise ValueError(f"a diffusion transformer has no tensor {tensor!r}")

    def heads(self) -> tuple[nn.Parameter, ...]:
        return self.transformer.proj_out.weight, self.transformer.postprocess_conv.weight

    def others(self) -> tuple[nn.Parameter, ...]:
        listed = {id(p) for block in self.transformer.transformer_blocks for p in _matrices(block)}
        # The frequencies that a time is written in are never trained.
        listed |= {id(p) for p in (*self.heads(), self.transformer.time_proj.weight)}
        return tuple(p for p in self.transformer.parameters() if id(p) not in listed)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.transformer.parameters())


def _noisy(music_RCT: Tensor, noise_RCT: Tensor, times_R: Tensor) -> tuple[Tensor, Tensor]:
    """Noisy latents, padded to the frames of the noise, and their velocity."""
    music_RCT = nn.functional.pad(music_RCT, (0, noise_RCT.shape[2] - music_RCT.shape[2]))
    angle_R11 = (times_R * (math.pi / 2))[:, None, None]
    noisy_RCT = angle_R11.cos() * music_RCT + angle_R11.sin() * noise_RCT
    return noisy_RCT, angle_R11.cos() * noise_RCT - angle_R11.sin() * music_RCT


def _matrices(block: nn.Module) -> list[nn.Parameter]:
    return [p for p in block.parameters() if p.dim() == 2]
