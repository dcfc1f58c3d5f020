"""Reads checkpoints of stable-audio-tools: the same network as diffusers' under other names, with fused projections.

`to_qkv` and `to_kv` hold query, key and value as rows one after another. The names below are those of the released
Stable Audio Open 1.0; whatever else a checkpoint holds is an error that names it.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lumina_ray.errors import ModelError
from lumina_ray.files import open_file
from lumina_ray.model.files import STABLE_AUDIO_FILE

_WEIGHTS_FILE = "model.safetensors"
_SHOWN_KEYS = 5

_TRANSFORMER = (
    (r"transformer\.layers\.(\d+)\.pre_norm\.gamma", r"transformer_blocks.\1.norm1.weight"),
    (r"transformer\.layers\.(\d+)\.pre_norm\.beta", r"transformer_blocks.\1.norm1.bias"),
    (r"transformer\.layers\.(\d+)\.cross_attend_norm\.gamma", r"transformer_blocks.\1.norm2.weight"),
    (r"transformer\.layers\.(\d+)\.cross_attend_norm\.beta", r"transformer_blocks.\1.norm2.bias"),
    (r"transformer\.layers\.(\d+)\.ff_norm\.gamma", r"transformer_blocks.\1.norm3.weight"),
    (r"transformer\.layers\.(\d+)\.ff_norm\.beta", r"transformer_blocks.\1.norm3.bias"),
    (r"transformer\.layers\.(\d+)\.self_attn\.to_qkv\.weight", r"transformer_blocks.\1.attn1.to_{q,k,v}.weight"),
    (r"transformer\.layers\.(\d+)\.self_attn\.to_out\.weight", r"transformer_blocks.\1.attn1.to_out.0.weight"),
    (r"transformer\.layers\.(\d+)\.cross_attn\.to_q\.weight", r"transformer_blocks.\1.attn2.to_q.weight"),
    (r"transformer\.layers\.(\d+)\.cross_attn\.to_kv\.weight", r"transformer_blocks.\1.attn2.to_{k,v}.weight"),
    (r"transformer\.layers\.(\d+)\.cross_attn\.to_out\.weight", r"transformer_blocks.\1.attn2.to_out.0.weight"),
    (r"transformer\.layers\.(\d+)\.ff\.ff\.0\.proj\.(weight|bias)", r"transformer_blocks.\1.ff.net.0.proj.\2"),
    (r"transformer\.layers\.(\d+)\.ff\.ff\.2\.(weight|bias)", r"transformer_blocks.\1.ff.net.2.\2"),
    (r"transformer\.project_(in|out)\.weight", r"proj_\1.weight"),
    (r"(pre|post)process_conv\.weight", r"\1process_conv.weight"),
    (r"timestep_features\.weight", r"time_proj.weight"),
    (r"to_timestep_embed\.(\d)\.(weight|bias)", r"timestep_proj.\1.\2"),
    (r"to_global_embed\.(\d)\.weight", r"global_proj.\1.weight"),
    (r"to_cond_embed\.(\d)\.weight", r"cross_attention_proj.\1.weight"),
)
_PROJECTION = (
    (r"seconds_start\.embedder\.embedding\.(.+)", r"start_number_conditioner.time_positional_embedding.\1"),
    (r"seconds_total\.embedder\.embedding\.(.+)", r"end_number_conditioner.time_positional_embedding.\1"),
)
# For each part of a codec: where it stands among a block's layers, in the encoder and in the decoder.
_CODEC_PARTS = {"encoder": {"3": "snake1", "4": "conv1"}, "decoder": {"0": "snake1", "1": "conv_t1"}}
_FIRST_UNIT = {"encoder": 0, "decoder": 2}
_IN_UNIT = {"0": "snake1", "1": "conv1", "2": "snake2", "3": "conv2"}
# Rotary frequencies are computed, not loaded.
_WITHOUT_PLACE = re.compile(r"model\.model\.transformer\.rotary_pos_emb\.inv_freq")


@dataclass(frozen=True)
class Checkpoint:
    """Configurations and weights of a checkpoint's parts, by diffusers' names."""

    transformer_config: dict[str, Any]
    projection_config: dict[str, Any]
    codec_config: dict[str, Any]
    transformer: dict[str, Tensor]
    projection: dict[str, Tensor]
    codec: dict[str, Tensor]


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read `model_config.json` and `model.safetensors`.

    Raises:
        ModelError: files missing or damaged, weights of unknown names, or a kind of model that is not supported.
    """
    try:
        with open_file(folder / STABLE_AUDIO_FILE) as file:
            config = json.loads(file.read())
        state = load_file(folder / _WEIGHTS_FILE)
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: cannot be loaded as a checkpoint of stable-audio-tools ({error}); a complete folder has "
            f"{STABLE_AUDIO_FILE}, {_WEIGHTS_FILE}, and its T5 in text_encoder and tokenizer"
        ) from error
    try:
        configs = _configs(config)
    except (KeyError, TypeError, IndexError, StopIteration, ZeroDivisionError) as error:
        raise ModelError(f"{folder / STABLE_AUDIO_FILE}: no Stable Audio: {error!r}") from error
    n_blocks = len(configs[2]["downsampling_ratios"])
    transformer, projection, codec = renamed(state, n_blocks, folder)
    return Checkpoint(*configs, transformer, projection, codec)


def renamed(
    state: dict[str, Tensor], n_codec_blocks: int, where: Path
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Give a checkpoint's weights diffusers' names, and take fused projections apart.

    Args:
        state: weights by the names of stable-audio-tools.
        n_codec_blocks: how often the codec's encoder goes down in rate.
        where: the checkpoint, for messages.

    Returns:
        Weights of the transformer, of the projection of conditions, and of the codec.

    Raises:
        ModelError: unknown names; lists some.
    """
    names: dict[str, Callable[[str], str | None]] = {
        "model.model.": partial(_by_table, table=_TRANSFORMER),
        "conditioner.conditioners.": partial(_by_table, table=_PROJECTION),
        "pretransform.model.": partial(_codec_name, n_blocks=n_codec_blocks),
    }
    parts: dict[str, dict[str, Tensor]] = {prefix: {} for prefix in names}
    unknown = []
    for name, tensor in state.items():
        if _WITHOUT_PLACE.fullmatch(name):
            continue
        prefix = next((prefix for prefix in names if name.startswith(prefix)), "")
        new = names[prefix](name.removeprefix(prefix)) if prefix else None
        if new is None:
            unknown.append(name)
        else:
            parts[prefix] |= _taken_apart(new, tensor)
    if unknown:
        shown = ", ".join(sorted(unknown)[:_SHOWN_KEYS]) + (", …" if len(unknown) > _SHOWN_KEYS else "")
        raise ModelError(
            f"{where / _WEIGHTS_FILE}: {len(unknown)} weights have names that Stable Audio Open's do not: {shown}; "
            "only checkpoints of that form are supported, without optimiser and averaged weights"
        )
    transformer, projection, codec = parts.values()
    return transformer, projection, codec


def _by_table(name: str, table: tuple[tuple[str, str], ...]) -> str | None:
    for pattern, new in table:
        if match := re.fullmatch(pattern, name):
            return match.expand(new)
    return None


def _taken_apart(name: str, tensor: Tensor) -> dict[str, Tensor]:
    if braces := re.search(r"\{(.+)\}", name):
        letters = braces[1].split(",")
        pieces = tensor.chunk(len(letters), dim=0)
        return {name.replace(braces[0], letter): piece for letter, piece in zip(letters, pieces, strict=True)}
    if name == "time_proj.weight":
        return {name: tensor.flatten()}
    if ".snake" in name:
        return {name: tensor[None, :, None]}
    return {name: tensor}


def _codec_name(name: str, n_blocks: int) -> str | None:
    match = re.fullmatch(r"(encoder|decoder)\.layers\.(\d+)\.(.+)", name)
    if match is None:
        return None
    side, at, rest = match[1], int(match[2]), match[3]
    ends = {0: "conv1", n_blocks + 1: "snake1", n_blocks + 2: "conv2"}
    if at in ends:
        return f"{side}.{ends[at]}.{rest}"
    inner = re.fullmatch(r"layers\.(\d)\.(.+)", rest)
    if inner is None or at > n_blocks:
        return None
    block, place = f"{side}.block.{at - 1}", inner[1]
    if place in _CODEC_PARTS[side]:
        return f"{block}.{_CODEC_PARTS[side][place]}.{inner[2]}"
    unit = re.fullmatch(r"layers\.(\d)\.(.+)", inner[2])
    if unit is None or unit[1] not in _IN_UNIT:
        return None
    return f"{block}.res_unit{int(place) - _FIRST_UNIT[side] + 1}.{_IN_UNIT[unit[1]]}.{unit[2]}"


def _configs(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Configurations of the transformer, of the projection of conditions and of the codec, as diffusers has them."""
    model = config["model"]
    diffusion, codec = model["diffusion"]["config"], model["pretransform"]["config"]
    wanted = {
        "model type diffusion_cond": config["model_type"] == "diffusion_cond",
        "diffusion type dit": model["diffusion"]["type"] == "dit",
        "an objective of velocities": model["diffusion"].get("diffusion_objective", "v") == "v"
        and diffusion.get("diffusion_objective", "v") == "v",
        "one frame a patch": diffusion.get("patch_size", 1) == 1,
        "conditions in front": diffusion.get("global_cond_type", "prepend") == "prepend",
        "conditions of their own width": diffusion.get("project_cond_tokens", True) is False,
        "an Oobleck codec": codec["encoder"]["type"] == "oobleck",
    }
    if missing := [what for what, there in wanted.items() if not there]:
        raise ModelError(f"{STABLE_AUDIO_FILE}: only models with {missing[0]} are supported")
    width, heads, condition = diffusion["embed_dim"], diffusion["num_heads"], diffusion["cond_token_dim"]
    numbers = next(c["config"] for c in model["conditioning"]["configs"] if c["id"] == "seconds_total")
    transformer = {
        "sample_size": config["sample_size"] // codec["downsampling_ratio"],
        "in_channels": diffusion["io_channels"],
        "out_channels": diffusion["io_channels"],
        "num_layers": diffusion["depth"],
        "attention_head_dim": width // heads,
        "num_attention_heads": heads,
        "num_key_value_attention_heads": condition // (width // heads),
        "cross_attention_dim": condition,
        "cross_attention_input_dim": condition,
        "global_states_input_dim": diffusion["global_cond_dim"],
    }
    projection = {
        "text_encoder_dim": model["conditioning"]["cond_dim"],
        "conditioning_dim": model["conditioning"]["cond_dim"],
        "min_value": numbers["min_val"],
        "max_value": numbers["max_val"],
    }
    encoder, decoder = codec["encoder"]["config"], codec["decoder"]["config"]
    oobleck = {
        "encoder_hidden_size": encoder["channels"],
        "downsampling_ratios": encoder["strides"],
        "channel_multiples": encoder["c_mults"],
        "decoder_channels": decoder["channels"],
        "decoder_input_channels": decoder["latent_dim"],
        "audio_channels": codec["io_channels"],
        "sampling_rate": config["sample_rate"],
    }
    return transformer, projection, oobleck
