"""MusicGen through transformers: `MusicgenForConditionalGeneration` from a local folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    DynamicCache,
    EncoderDecoderCache,
    MusicgenForConditionalGeneration,
    PreTrainedTokenizerBase,
)
from transformers.initialization import no_init_weights

from lumina_ray.errors import ModelError
from lumina_ray.model.companion import Companions
from lumina_ray.model.files import weights_sha256
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.float16 import hold_linears_in_float16
from lumina_ray.model.interface import Losses, Prediction, SamplingSettings, Step, delay, undelay, valid_targets
from lumina_ray.model.quiet import quiet_transformers
from lumina_ray.model.sampling import generate
from lumina_ray.model.statistics import load_statistics, no_statistics
from lumina_ray.model.text import TransformersText
from lumina_ray.model.tracked import CONDITION_TEXT, TrackedTensor
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, Draws, Representation

# Without either of them transformers makes up a tokenizer that knows no word, and says nothing.
_TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
# transformers takes this one where a model's generation settings name none, as those of the published models do.
_DEFAULT_TOP_K = 50


class _Loaded(MusicgenForConditionalGeneration):
    """A model that is put together on the CPU, with numbers that nobody sets before its files do.

    transformers would do so on the meta device, whose functions import torch's compiler, and with it take seconds. The
    memory is the same: pages that nothing has written to take none.
    """

    @classmethod
    def get_init_context(cls, *args: Any, **options: Any) -> list[Any]:
        contexts = super().get_init_context(*args, **options)
        return [c for c in contexts if not isinstance(c, torch.device)] + [no_init_weights()]


class TransformersMusicGen:
    """A transformers MusicGen in evaluation mode; see `MusicModel` for the methods.

    Attributes:
        condition: float32 `[1, N, D]`, the encoded and projected condition text that every chunk attends to. It is
            computed once: `refresh_condition` does so again when the text encoder has changed.
        text: the tokenizer and the text encoder.
    """

    adapter = "transformers"

    def __init__(
        self, model: MusicgenForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, name: str, sha256: str
    ) -> None:
        self.name = name
        self.weights_sha256 = sha256
        self.folder: Path | None = None
        self.fisher: Fisher | None = None
        self.companions: Companions | None = None
        self.model = model
        self.device = model.device
        config = model.config.decoder
        self.n_layers: int = config.num_hidden_layers
        self.dim: int = config.hidden_size
        self.n_codebooks: int = config.num_codebooks
        self.codebook_size: int = config.vocab_size
        self.draws: Draws | None = None
        self.frame_rate_hz = int(model.config.audio_encoder.frame_rate)
        self.statistics = no_statistics(self.n_codebooks, self.codebook_size)
        self.text = TransformersText(model, tokenizer)
        self.refresh_condition()
        own = model.generation_config
        self.sampling = SamplingSettings(own.top_k or _DEFAULT_TOP_K, own.temperature or 1.0, own.guidance_scale or 1.0)

    @classmethod
    def load(cls, folder: Path, name: str, device: str, dtype: torch.dtype = torch.float32) -> Self:
        """Load from a folder in the transformers format; see `open_model`.

        Raises:
            ModelError: not a mono MusicGen, or files missing or damaged.
        """
        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                model = _Loaded.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"{folder}: cannot be loaded as a transformers MusicGen ({error}); a complete folder has config.json, "
                "model.safetensors and the tokenizer's files. For an audiocraft export write audiocraft:FOLDER."
            ) from error
        if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
            raise ModelError(
                f"{folder}: has no tokenizer ({' or '.join(_TOKENIZER_FILES)}), without which text means nothing to a "
                "model; copy it from where the model's weights are from. For an audiocraft export write "
                "audiocraft:FOLDER."
            )
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
        loaded = cls(model, tokenizer, name, weights_sha256(folder))
        loaded.folder = folder
        loaded.statistics = load_statistics(folder, loaded.n_codebooks, loaded.codebook_size)
        return loaded

    @property
    def representation(self) -> Representation:
        return Representation("codes", self.n_codebooks, self.codebook_size)

    def refresh_condition(self) -> None:
        """Encode the condition text with the text encoder's present weights."""
        self.condition = self.text.embed(CONDITION_TEXT)

    def embed(self, text: str) -> Tensor:
        return self.text.embed(text)

    def unknown_words(self, text: str) -> list[str]:
        return self.text.unknown_words(text)

    @property
    def knows_words(self) -> bool:
        return self.text.knows_words

    def encode(self, samples: np.ndarray) -> Tensor:
        with torch.no_grad():
            wave_11N = torch.tensor(samples, device=self.device)[None, None]
            codes_1BKT = self.model.audio_encoder.encode(wave_11N).audio_codes
        return codes_1BKT[0, 0, : self.n_codebooks]

    def decode(self, codes_KT: Tensor) -> np.ndarray:
        with torch.no_grad():
            codes_11KT = codes_KT.to(self.device)[None, None]
            wave_11N = self.model.audio_encoder.decode(codes_11KT, audio_scales=[None]).audio_values
        return wave_11N[0, 0].float().cpu().numpy()

    def codec_modules(self) -> tuple[list[nn.Module], list[nn.Module]]:
        codec = self.model.audio_encoder
        return list(codec.encoder.layers), list(codec.decoder.layers)

    @contextmanager
    def stepping(self, conditions_BND: Tensor) -> Iterator[Step]:
        decoder = self.model.decoder
        # A plain DynamicCache would append the condition's keys and values to those of the music at every step.
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())

        def step(new_BKS: Tensor) -> Tensor:
            hidden_BSD = decoder.model(
                new_BKS.flatten(0, 1), encoder_hidden_states=conditions_BND, past_key_values=cache, use_cache=True
            ).last_hidden_state
            return torch.stack([head(hidden_BSD[:, -1]) for head in decoder.lm_heads], dim=1)

        yield step

    def predict(
        self,
        codes_BKT: Tensor,
        n_frames: list[int],
        conditions_BND: Tensor | None = None,
        mask_BN: Tensor | None = None,
    ) -> Prediction:
        """Predict as `MusicModel` says; training gives other conditions than the fixed text.

        Args:
            codes_BKT, n_frames: as in `MusicModel`.
            conditions_BND: float32, what each chunk attends to; one row stands for all.
            mask_BN: 1 where a condition is one, 0 where it only fills up a shorter text.
        """
        conditions_BND = self.condition if conditions_BND is None else conditions_BND
        B, K, T = codes_BKT.shape
        sequence_BKS = delay(codes_BKT, pad_token=self.codebook_size)
        decoder = self.model.decoder
        hidden_BSD = decoder.model(
            sequence_BKS.reshape(B * K, T + 1),
            encoder_hidden_states=conditions_BND.expand(B, -1, -1),
            encoder_attention_mask=mask_BN,
            use_cache=False,
        ).last_hidden_state
        # Hidden states are brought to their frames before the heads: logits are larger, and would be copied twice more.
        hidden_BKTD = undelay(hidden_BSD[:, None].expand(-1, K, -1, -1))
        return Prediction(
            logits_BKTC=torch.stack([head(hidden_BKTD[:, k]) for k, head in enumerate(decoder.lm_heads)], dim=1),
            hidden_BKTD=hidden_BKTD,
            valid_BKT=valid_targets(n_frames, K, T, self.device),
        )

    def losses(self, codes_BKT: Tensor, n_frames: list[int], draws: Draws | None = None) -> Losses:
        return self.predict(codes_BKT, n_frames).losses(codes_BKT)

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
        raise ValueError(f"a MusicGen has no tensor {tensor!r}")

    def heads(self) -> tuple[nn.Parameter, ...]:
        return tuple(head.weight for head in self.model.decoder.lm_heads)

    def others(self) -> tuple[nn.Parameter, ...]:
        decoder = self.model.decoder.model.decoder
        norms = [
            norm
            for layer in decoder.layers
            for norm in (layer.self_attn_layer_norm, layer.encoder_attn_layer_norm, layer.final_layer_norm)
        ]
        embeddings = [embedding.weight for embedding in decoder.embed_tokens]
        return (*embeddings, *(p for norm in (*norms, decoder.layer_norm) for p in (norm.weight, norm.bias)))

    def parameters(self) -> list[nn.Parameter]:
        return list(self.model.decoder.parameters())

    def generate(
        self,
        duration_s: float,
        seed: int,
        *,
        text: str | None = None,
        guidance: float | None = None,
        prompt_KT: Tensor | None = None,
    ) -> np.ndarray:
        return generate(self, duration_s, seed, text=text, guidance=guidance, prompt_KT=prompt_KT)


def _query_key_value(attention: Any) -> tuple[nn.Parameter, ...]:
    # In this order they are rows of audiocraft's fused in_proj_weight.
    return attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight
