"""MusicGen through transformers: `MusicgenForConditionalGeneration` from a local folder."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, MusicgenForConditionalGeneration
from transformers.utils import logging as transformers_logging

from lumina_ray.audio import SAMPLE_RATE_HZ
from lumina_ray.errors import ModelError
from lumina_ray.model.files import weights_sha256
from lumina_ray.model.float16 import hold_linears_in_float16
from lumina_ray.model.interface import Prediction, delay, undelay, valid_targets
from lumina_ray.model.statistics import load_statistics, no_statistics
from lumina_ray.model.tracked import CONDITION_TEXT, TrackedTensor


class TransformersMusicGen:
    """A transformers MusicGen in evaluation mode; see `MusicModel` for the methods.

    Attributes:
        condition: float32 `[1, N, D]`, the encoded and projected condition text that every chunk attends to.
    """

    adapter = "transformers"

    def __init__(self, model: MusicgenForConditionalGeneration, token_ids: Tensor, name: str, sha256: str) -> None:
        self.name = name
        self.weights_sha256 = sha256
        self.model = model
        self.device = model.device
        config = model.config.decoder
        self.n_layers: int = config.num_hidden_layers
        self.dim: int = config.hidden_size
        self.n_codebooks: int = config.num_codebooks
        self.codebook_size: int = config.vocab_size
        self.frame_rate_hz = int(model.config.audio_encoder.frame_rate)
        self.statistics = no_statistics(self.n_codebooks, self.codebook_size)
        self._token_ids = token_ids.to(model.device)
        self.condition = encode_condition(model, self._token_ids)

    @classmethod
    def load(cls, folder: Path, name: str, device: str, dtype: torch.dtype = torch.float32) -> Self:
        """Load from a folder in the transformers format; see `open_model`.

        Raises:
            ModelError: not a mono MusicGen, or files missing or damaged.
        """
        # Its warnings are about generation settings, its bars about milliseconds.
        progress_was_on = transformers_logging.is_progress_bar_enabled()
        verbosity = transformers_logging.get_verbosity()
        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = MusicgenForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"{folder}: cannot be loaded as a transformers MusicGen ({error}); a complete folder has config.json, "
                "model.safetensors and the tokenizer's files. For an audiocraft export write audiocraft:FOLDER."
            ) from error
        finally:
            transformers_logging.set_verbosity(verbosity)
            if progress_was_on:
                transformers_logging.enable_progress_bar()
        if model.config.decoder.audio_channels != 1:
            raise ModelError(f"{folder}: a stereo MusicGen; only the mono ones are supported")
        if model.config.audio_encoder.sampling_rate != SAMPLE_RATE_HZ:
            raise ModelError(
                f"{folder}: its codec runs at {model.config.audio_encoder.sampling_rate} Hz, not {SAMPLE_RATE_HZ} Hz"
            )
        if dtype != torch.float32:
            hold_linears_in_float16(model.decoder)
        # The base class is annotated with a mixin's `to` that mypy cannot follow.
        model = model.eval().to(torch.device(device))  # type: ignore[arg-type]
        token_ids = tokenizer(CONDITION_TEXT, return_tensors="pt").input_ids
        loaded = cls(model, token_ids, name, weights_sha256(folder))
        loaded.statistics = load_statistics(folder, loaded.n_codebooks, loaded.codebook_size)
        return loaded

    def encode(self, samples: np.ndarray) -> Tensor:
        with torch.no_grad():
            wave_11N = torch.tensor(samples, device=self.device)[None, None]
            codes_1BKT = self.model.audio_encoder.encode(wave_11N).audio_codes
        return codes_1BKT[0, 0, : self.n_codebooks]

    def predict(self, codes_BKT: Tensor, n_frames: list[int], condition_1ND: Tensor | None = None) -> Prediction:
        """As in `MusicModel`; training puts another condition than the fixed text in its place at times."""
        condition_1ND = self.condition if condition_1ND is None else condition_1ND
        B, K, T = codes_BKT.shape
        sequence_BKS = delay(codes_BKT, pad_token=self.codebook_size)
        decoder = self.model.decoder
        hidden_BSD = decoder.model(
            sequence_BKS.reshape(B * K, T + 1),
            encoder_hidden_states=condition_1ND.expand(B, -1, -1),
            use_cache=False,
        ).last_hidden_state
        # Hidden states are brought to their frames before the heads: logits are larger, and would be copied twice more.
        hidden_BKTD = undelay(hidden_BSD[:, None].expand(-1, K, -1, -1))
        return Prediction(
            logits_BKTC=torch.stack([head(hidden_BKTD[:, k]) for k, head in enumerate(decoder.lm_heads)], dim=1),
            hidden_BKTD=hidden_BKTD,
            valid_BKT=valid_targets(n_frames, K, T, self.device),
        )

    def tracked(self, layer: int, tensor: TrackedTensor) -> tuple[nn.Parameter, ...]:
        block = self.model.decoder.model.decoder.layers[layer]
        match tensor:
            case "self_in_proj":
                return _query_key_value(block.self_attn)
            case "self_out_proj":
                return (block.self_attn.out_proj.weight,)
            case "cross_in_proj":
                return _query_key_value(block.encoder_attn)
            case "cross_out_proj":
                return (block.encoder_attn.out_proj.weight,)
            case "linear1":
                return (block.fc1.weight,)
            case "linear2":
                return (block.fc2.weight,)

    def heads(self) -> tuple[nn.Parameter, ...]:
        return tuple(head.weight for head in self.model.decoder.lm_heads)

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.decoder.parameters())

    def generate(self, duration_s: float, seed: int) -> np.ndarray:
        """Sample float32 `[n]` mono music at 32 kHz under the fixed text, with the model's own generation settings."""
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            wave_11N = self.model.generate(
                input_ids=self._token_ids,
                attention_mask=torch.ones_like(self._token_ids),
                do_sample=True,
                max_new_tokens=round(duration_s * self.frame_rate_hz) + self.n_codebooks,
            )
        return wave_11N[0, 0].float().cpu().numpy()


def encode_condition(model: MusicgenForConditionalGeneration, token_ids_1N: Tensor) -> Tensor:
    """What the language model attends to: the encoded and projected condition text, float32 `[1, N, D]`.

    Computed once; every chunk sees the same text, so no mask is needed and both libraries agree.
    """
    with torch.no_grad():
        embedded_1NE = model.text_encoder(token_ids_1N).last_hidden_state
        # The projection is left out of the model where text encoder and decoder have the same width.
        return model.enc_to_dec_proj(embedded_1NE) if hasattr(model, "enc_to_dec_proj") else embedded_1NE


def _query_key_value(attention: Any) -> tuple[nn.Parameter, ...]:
    # In this order they are rows of audiocraft's fused in_proj_weight.
    return attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight
