"""MusicGen through audiocraft: its own exports, or any transformers folder converted on the way.

audiocraft keeps query, key and value in one `in_proj_weight` used through a functional call, which module hooks never
see; `lumina_ray/gradients/capture.py` recognises calls by the weight that they use.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import torch
from audiocraft.models import builders, loaders
from audiocraft.models.encodec import CompressionModel, HFEncodecCompressionModel
from audiocraft.models.lm import LMModel
from audiocraft.modules.codebooks_patterns import DelayedPatternProvider
from audiocraft.modules.conditioners import ConditionFuser, ConditioningAttributes, ConditioningProvider, T5Conditioner
from torch import Tensor, nn

from lumina_ray.errors import ModelError
from lumina_ray.model.companion import Companions
from lumina_ray.model.files import weights_sha256
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.float16 import hold_linears_in_float16
from lumina_ray.model.interface import Losses, Prediction, SamplingSettings, Step, valid_targets
from lumina_ray.model.sampling import generate
from lumina_ray.model.statistics import load_statistics, no_statistics
from lumina_ray.model.text import TextEncoder, check_text, knows_words, unknown_words
from lumina_ray.model.tracked import CONDITION_TEXT, TrackedTensor
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, Draws, Representation

_AUDIOCRAFT_FILES = ("state_dict.bin", "compression_state_dict.bin")
_CONDITION_NAME = "description"


class AudiocraftMusicGen:
    """An audiocraft MusicGen in evaluation mode; see `MusicModel` for the methods."""

    adapter = "audiocraft"

    def __init__(
        self,
        lm: LMModel,
        codec: CompressionModel,
        text: TextEncoder,
        device: str,
        name: str,
        sha256: str,
    ) -> None:
        self.name = name
        self.weights_sha256 = sha256
        self.folder: Path | None = None
        self.fisher: Fisher | None = None
        self.companions: Companions | None = None
        self.device = torch.device(device)
        self.lm = lm.eval().to(self.device)
        self.codec = codec.eval().to(self.device)
        self.n_layers = len(lm.transformer.layers)
        self.dim: int = lm.dim
        self.n_codebooks: int = lm.n_q
        self.codebook_size: int = lm.card
        self.draws: Draws | None = None
        self.frame_rate_hz = int(codec.frame_rate)
        self.statistics = no_statistics(self.n_codebooks, self.codebook_size)
        self.sampling = SamplingSettings(guidance=lm.cfg_coef)
        self._text = text
        self.condition = self.embed(CONDITION_TEXT)

    @classmethod
    def load(cls, folder: Path, name: str, device: str, dtype: torch.dtype = torch.float32) -> Self:
        """Load an audiocraft export (state_dict.bin and compression_state_dict.bin) or a transformers folder.

        Both are put together on the CPU; see `open_model`.

        Raises:
            ModelError: neither of the two, or not a mono MusicGen.
        """
        if all((folder / file).is_file() for file in _AUDIOCRAFT_FILES):
            return cls._load_export(folder, name, device, dtype)
        return cls._convert(TransformersMusicGen.load(folder, name, "cpu"), device, dtype)

    @classmethod
    def _load_export(cls, folder: Path, name: str, device: str, dtype: torch.dtype) -> Self:
        try:
            # audiocraft itself would take half precision on a GPU, without a loss scale, and lose a fifth of the
            # gradient's elements to underflow.
            package = loaders.load_lm_model_ckpt(folder)
            config = loaders.OmegaConf.create(package["xp.cfg"])
            config.device, config.dtype = "cpu", "float32"
            lm = builders.get_lm_model(config)
            lm.load_state_dict(package["best_state"])
            codec = loaders.load_compression_model(folder, device="cpu")
        except (OSError, KeyError, RuntimeError) as error:
            raise ModelError(
                f"{folder}: cannot be loaded as an audiocraft export ({error}). It also needs its T5 text encoder "
                "and EnCodec in the Hugging Face cache: fetch them with `hf download t5-base` and "
                "`hf download facebook/encodec_32khz`."
            ) from error
        if codec.channels != 1 or codec.sample_rate != SAMPLE_RATE_HZ:
            raise ModelError(
                f"{folder}: its codec has {codec.channels} channels at {codec.sample_rate} Hz; "
                f"mono at {SAMPLE_RATE_HZ} Hz is needed"
            )
        conditioner = dict(lm.condition_provider.conditioners).get(_CONDITION_NAME)
        if not isinstance(conditioner, T5Conditioner):
            raise ModelError(f"{folder}: takes no text, as it has no T5 text encoder; MusicGens with one are supported")
        lm = lm.eval()
        if dtype != torch.float32:
            hold_linears_in_float16(lm)
        loaded = cls(lm, codec, _AudiocraftText(lm, conditioner), device, name, weights_sha256(folder))
        loaded.folder = folder
        loaded.statistics = load_statistics(folder, loaded.n_codebooks, loaded.codebook_size)
        return loaded

    @classmethod
    def _convert(cls, source: TransformersMusicGen, device: str, dtype: torch.dtype) -> Self:
        config = source.model.config.decoder
        lm = LMModel(
            pattern_provider=DelayedPatternProvider(source.n_codebooks),
            condition_provider=ConditioningProvider({}),
            fuser=ConditionFuser({"cross": [_CONDITION_NAME], "sum": [], "prepend": [], "input_interpolate": []}),
            n_q=source.n_codebooks,
            card=source.codebook_size,
            dim=source.dim,
            num_heads=config.num_attention_heads,
            hidden_scale=config.ffn_dim / source.dim,
            norm="layer_norm",
            norm_first=True,
            bias_proj=False,
            num_layers=source.n_layers,
            dropout=0.0,
            activation=config.activation_function,
            bias_ff=False,
            bias_attn=False,
            causal=True,
            custom=False,
            memory_efficient=True,
            cross_attention=True,
            dtype=torch.float32,
        )
        lm.load_state_dict(_audiocraft_state(source.model.decoder.state_dict(), source.n_layers))
        if dtype != torch.float32:
            hold_linears_in_float16(lm)
        converted = cls(
            lm,
            HFEncodecCompressionModel(source.model.audio_encoder),
            source.text,
            device,
            source.name,
            source.weights_sha256,
        )
        converted.folder = source.folder
        converted.statistics = source.statistics
        converted.sampling = source.sampling
        return converted

    @property
    def representation(self) -> Representation:
        return Representation("codes", self.n_codebooks, self.codebook_size)

    def embed(self, text: str) -> Tensor:
        return self._text.embed(text).to(self.device)

    def unknown_words(self, text: str) -> list[str]:
        return self._text.unknown_words(text)

    @property
    def knows_words(self) -> bool:
        return self._text.knows_words

    def encode(self, samples: np.ndarray) -> Tensor:
        with torch.no_grad():
            codes_1KT, _ = self.codec.encode(torch.tensor(samples, device=self.device)[None, None])
        return codes_1KT[0, : self.n_codebooks]

    def decode(self, codes_KT: Tensor) -> np.ndarray:
        with torch.no_grad():
            wave_11N = self.codec.decode(codes_KT.to(self.device)[None], None)
        return wave_11N[0, 0].float().cpu().numpy()

    def codec_modules(self) -> tuple[list[nn.Module], list[nn.Module]]:
        if isinstance(self.codec, HFEncodecCompressionModel):
            codec = self.codec.model
            return list(codec.encoder.layers), list(codec.decoder.layers)
        return list(self.codec.encoder.model), list(self.codec.decoder.model)

    @contextmanager
    def stepping(self, conditions_BND: Tensor) -> Iterator[Step]:
        conditions = _conditions(conditions_BND)
        # While it streams, self-attention keeps what it has seen, and cross-attention keeps nothing.
        with self.lm.streaming():
            yield lambda new_BKS: self.lm(new_BKS, [], conditions)[:, :, -1]

    def predict(self, codes_BKT: Tensor, n_frames: list[int]) -> Prediction:
        B, K, T = codes_BKT.shape
        caught: list[Tensor] = []
        hook = self.lm.out_norm.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
        conditions = _conditions(self.condition.expand(B, -1, -1))
        try:
            output = self.lm.compute_predictions(codes_BKT, [], conditions)
        finally:
            hook.remove()
        valid_BKT = valid_targets(n_frames, K, T, self.device)
        (hidden_BSD,) = caught
        # The invalid logits are NaN, which no multiplication by a mask would take away.
        logits_BKTC = torch.where(output.mask[..., None], output.logits, 0.0)
        frames_BKTD = [nn.functional.pad(hidden_BSD[:, k:T], (0, 0, 0, k)) for k in range(K)]
        return Prediction(logits_BKTC, torch.stack(frames_BKTD, dim=1), valid_BKT & output.mask)

    def losses(self, codes_BKT: Tensor, n_frames: list[int], draws: Draws | None = None) -> Losses:
        return self.predict(codes_BKT, n_frames).losses(codes_BKT)

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

    def tracked(self, layer: int, tensor: TrackedTensor) -> tuple[nn.Parameter, ...]:
        block = self.lm.transformer.layers[layer]
        match tensor:
            case "self_in_proj":
                return (block.self_attn.in_proj_weight,)
            case "self_out_proj":
                return (block.self_attn.out_proj.weight,)
            case "cross_in_proj":
                return (block.cross_attention.in_proj_weight,)
            case "cross_out_proj":
                return (block.cross_attention.out_proj.weight,)
            case "linear1":
                return (block.linear1.weight,)
            case "linear2":
                return (block.linear2.weight,)
        raise ValueError(f"a MusicGen has no tensor {tensor!r}")

    def heads(self) -> tuple[nn.Parameter, ...]:
        return tuple(linear.weight for linear in self.lm.linears)

    def others(self) -> tuple[nn.Parameter, ...]:
        layers = self.lm.transformer.layers
        norms = [norm for layer in layers for norm in (layer.norm1, layer.norm_cross, layer.norm2)]
        embeddings = [embedding.weight for embedding in self.lm.emb]
        return (*embeddings, *(p for norm in (*norms, self.lm.out_norm) for p in (norm.weight, norm.bias)))

    def parameters(self) -> list[nn.Parameter]:
        return list(self.lm.parameters())


class _AudiocraftText:
    """The T5 conditioner of an audiocraft export; see `TextEncoder`."""

    def __init__(self, lm: LMModel, conditioner: T5Conditioner) -> None:
        self._lm, self._tokenizer = lm, conditioner.t5_tokenizer

    def embed(self, text: str) -> Tensor:
        check_text(text, self._tokenizer)
        attributes = [ConditioningAttributes(text={_CONDITION_NAME: text})]
        with torch.no_grad():
            conditions = self._lm.condition_provider(self._lm.condition_provider.tokenize(attributes))
        condition_1ND, _ = conditions[_CONDITION_NAME]
        return condition_1ND

    def unknown_words(self, text: str) -> list[str]:
        return unknown_words(text, self._tokenizer)

    @property
    def knows_words(self) -> bool:
        return knows_words(self._tokenizer)


def _conditions(conditions_BND: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Conditions as audiocraft's cross-attention takes them, with nothing masked."""
    return {_CONDITION_NAME: (conditions_BND, torch.ones(conditions_BND.shape[:2], device=conditions_BND.device))}


# transformers name → audiocraft name inside one layer; the fused projections are put together separately.
_LAYER_NAMES = {
    "self_attn.out_proj.weight": "self_attn.out_proj.weight",
    "encoder_attn.out_proj.weight": "cross_attention.out_proj.weight",
    "fc1.weight": "linear1.weight",
    "fc2.weight": "linear2.weight",
    "self_attn_layer_norm": "norm1",
    "encoder_attn_layer_norm": "norm_cross",
    "final_layer_norm": "norm2",
}


def _audiocraft_state(state: dict[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """Rename a `MusicgenForCausalLM` state dict to audiocraft's names, query, key and value fused in this order."""
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name.startswith("model.decoder.embed_tokens."):
            converted[name.replace("model.decoder.embed_tokens", "emb")] = tensor
        elif name.startswith("lm_heads."):
            converted[name.replace("lm_heads", "linears")] = tensor
        elif name.startswith("model.decoder.layer_norm."):
            converted[name.replace("model.decoder.layer_norm", "out_norm")] = tensor
    for layer in range(n_layers):
        old, new = f"model.decoder.layers.{layer}.", f"transformer.layers.{layer}."
        for attention, fused in (("self_attn", "self_attn"), ("encoder_attn", "cross_attention")):
            parts = [state[f"{old}{attention}.{part}_proj.weight"] for part in "qkv"]
            converted[f"{new}{fused}.in_proj_weight"] = torch.cat(parts)
        for theirs, ours in _LAYER_NAMES.items():
            names = [theirs] if theirs.endswith("weight") else [f"{theirs}.weight", f"{theirs}.bias"]
            for name in names:
                converted[new + name.replace(theirs, ours)] = state[old + name]
    return converted
