"""Makes and writes a small latent diffusion transformer in the form of Stable Audio, on EnCodec's latents."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import EncodecConfig, EncodecModel, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from lumina_ray.model.diffusion.adapter import DiffusionTransformer, LatentSettings
from lumina_ray.model.diffusion.codecs import EncodecLatents
from lumina_ray.model.diffusion.load import LATENTS_FILE, WEIGHTS_FILE
from lumina_ray.model.files import DIFFUSERS_FILE

# Names of the parts in the diffusers format, with the library and the class of each.
_PARTS = {
    "transformer": ("diffusers", "StableAudioDiTModel"),
    "projection_model": ("stable_audio", "StableAudioProjectionModel"),
    "text_encoder": ("transformers", "T5EncoderModel"),
    "tokenizer": ("transformers", "PreTrainedTokenizerFast"),
    "vae": ("transformers", "EncodecModel"),
}
_TEXT_WIDTH, _LONGEST_S = 64, 30


def new_dit(
    codec: EncodecModel | EncodecConfig,
    tokenizer: PreTrainedTokenizerFast,
    settings: LatentSettings,
    *,
    n_layers: int = 8,
    dim: int = 192,
    heads: int = 4,
    seed: int = 0,
) -> DiffusionTransformer:
    """Make an untrained model around a codec.

    With 8 layers, each channel's band has one. The hash of its weights is not computed, and is all zeros.

    Args:
        codec: a trained codec, or the configuration of an untrained one.
        tokenizer: its vocabulary is the text encoder's.
        settings: how latents are made of the codec's.
        n_layers, dim, heads: of the transformer.
        seed: seed of the untrained weights.
    """
    from diffusers import StableAudioDiTModel
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

    torch.manual_seed(seed)
    encodec = codec if isinstance(codec, EncodecModel) else EncodecModel(codec)
    text = T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer), d_model=_TEXT_WIDTH, d_kv=32, d_ff=128, num_layers=1, num_heads=2,
            pad_token_id=0, eos_token_id=1, dropout_rate=0.0,
        )
    )  # fmt: skip
    channels = encodec.config.hidden_size * settings.patch
    transformer = StableAudioDiTModel(
        sample_size=-(-_LONGEST_S * encodec.config.frame_rate // settings.patch),
        in_channels=channels, out_channels=channels, num_layers=n_layers, attention_head_dim=dim // heads,
        num_attention_heads=heads, num_key_value_attention_heads=heads, cross_attention_dim=dim,
        cross_attention_input_dim=_TEXT_WIDTH, global_states_input_dim=2 * _TEXT_WIDTH, time_proj_dim=64,
    )  # fmt: skip
    _start(transformer)
    projection = StableAudioProjectionModel(
        text_encoder_dim=_TEXT_WIDTH, conditioning_dim=_TEXT_WIDTH, min_value=0, max_value=_LONGEST_S
    )
    for module in (transformer, projection, text, encodec):
        module.eval()
    return DiffusionTransformer(
        transformer, projection, text, tokenizer, EncodecLatents(encodec, "codec"), settings, "unsaved", "0" * 64
    )


def _start(transformer: nn.Module) -> None:
    """Begin as stable-audio-tools does: blocks that add nothing, and convolutions that change nothing."""
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if name.endswith(("to_out.0.weight", "ff.net.2.weight", "process_conv.weight")):
                parameter.zero_()


def export_dit(model: DiffusionTransformer, codec: EncodecModel, folder: Path) -> None:
    """Write a model in the diffusers format, its transformer in float16.

    The codec stays in float32: the rounding errors of half precision would change latents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = {
        "transformer": model.transformer,
        "projection_model": model.projection,
        "text_encoder": model.text_encoder,
        "tokenizer": model.tokenizer,
        "vae": codec,
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)
    path = folder / "transformer" / WEIGHTS_FILE
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    _write(folder / LATENTS_FILE, asdict(model.settings))
    _write(folder / DIFFUSERS_FILE, {"_class_name": "StableAudioPipeline"} | _PARTS)


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
