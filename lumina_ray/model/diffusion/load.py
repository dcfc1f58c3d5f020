"""Loads a latent diffusion transformer from a folder in the diffusers format, or from a checkpoint of Stable Audio's.

A folder in the diffusers format has `model_index.json` and a folder for each part:

    transformer/        StableAudioDiTModel
    projection_model/   StableAudioProjectionModel: text and lengths as conditions
    text_encoder/, tokenizer/
    vae/                AutoencoderOobleck, or a transformers EncodecModel
    latents.json        `LatentSettings`; for Stable Audio's own latents there is none

Nothing is downloaded.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, EncodecModel, PreTrainedTokenizerBase, T5EncoderModel

from lumina_ray.errors import ModelError
from lumina_ray.files import open_file
from lumina_ray.model.diffusion.adapter import DiffusionTransformer, LatentSettings
from lumina_ray.model.diffusion.codecs import EncodecLatents, LatentCodec, OobleckLatents
from lumina_ray.model.diffusion.stable_audio_tools import read_checkpoint
from lumina_ray.model.files import STABLE_AUDIO_FILE, weights_sha256
from lumina_ray.model.float16 import hold_linears_in_float16
from lumina_ray.model.quiet import quiet_transformers

LATENTS_FILE = "latents.json"
WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
_CONFIG_FILE = "config.json"
_SHOWN_KEYS = 5
_LICENCE = (
    "Mind the licence: weights of stabilityai/stable-audio-open are under Stability AI's Community License, which "
    "limits commercial use."
)


def load(folder: Path, name: str, device: str, dtype: torch.dtype = torch.float32) -> DiffusionTransformer:
    """Load a model from its folder; see `open_model`.

    Raises:
        ModelError: files missing or damaged, weights that the model has no place for or that it lacks, or a kind of
            model that is not supported; names them.
    """
    from diffusers import AutoencoderOobleck, StableAudioDiTModel
    from diffusers.pipelines.stable_audio.modeling_stable_audio import StableAudioProjectionModel

    if (folder / STABLE_AUDIO_FILE).is_file():
        read = read_checkpoint(folder)
        transformer = _filled(StableAudioDiTModel.from_config(read.transformer_config), read.transformer, folder)
        projection = _filled(StableAudioProjectionModel.from_config(read.projection_config), read.projection, folder)
        codec: nn.Module = _filled(AutoencoderOobleck.from_config(read.codec_config), read.codec, folder)
        settings = LatentSettings()
    else:
        transformer = _part(StableAudioDiTModel, folder / "transformer")
        projection = _part(StableAudioProjectionModel, folder / "projection_model")
        encodec = _config(folder / "vae").get("model_type") == "encodec"
        codec = _of_transformers(EncodecModel, folder / "vae") if encodec else _part(AutoencoderOobleck, folder / "vae")
        settings = _settings(folder)
    text_encoder, tokenizer = _text(folder)
    if dtype != torch.float32:
        hold_linears_in_float16(transformer)
    for module in (transformer, projection, text_encoder, codec):
        module.eval().to(torch.device(device))
    loaded = DiffusionTransformer(
        transformer,
        projection,
        text_encoder,
        tokenizer,
        _latents(codec, folder),
        settings,
        name,
        weights_sha256(folder),
    )
    check_sizes(loaded, folder)
    loaded.folder = folder
    return loaded


def check_sizes(model: DiffusionTransformer, folder: Path) -> None:
    """Check that a transformer takes the latents of its codec.

    Raises:
        ModelError: it does not.
    """
    config, settings, C = model.transformer.config, model.settings, model.codec.n_rows
    if {config.in_channels, config.out_channels} != {C * settings.patch}:
        raise ModelError(
            f"{folder}: its transformer takes {config.in_channels} channels and makes {config.out_channels}, but "
            f"{settings.patch} frames of its codec's {C} rows are {C * settings.patch}"
        )
    for name, values in (("mean", settings.mean), ("std", settings.std)):
        if values and len(values) != C:
            raise ModelError(f"{folder / LATENTS_FILE}: {name} has {len(values)} numbers, the codec {C} rows")


def _latents(codec: nn.Module, folder: Path) -> LatentCodec:
    return EncodecLatents(codec, str(folder)) if isinstance(codec, EncodecModel) else OobleckLatents(codec)


def _settings(folder: Path) -> LatentSettings:
    path = folder / LATENTS_FILE
    if not path.is_file():
        return LatentSettings()
    values = _json(path)
    try:
        mean, std = (tuple(map(float, values.pop(name, ()))) for name in ("mean", "std"))
        settings = LatentSettings(mean=mean, std=std, **values)
        if int(settings.patch) != settings.patch or settings.patch < 1 or any(std <= 0 for std in settings.std):
            raise ValueError("patch must be a whole number of 1 or more, and std positive")
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: no settings of latents: {error}") from error
    return settings


def _text(folder: Path) -> tuple[T5EncoderModel, PreTrainedTokenizerBase]:
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"{folder / 'tokenizer'}: no tokenizer ({error}); copy the one that the model was trained with there, with "
            "its text encoder in text_encoder beside it (t5-base for Stable Audio Open)"
        ) from error
    return _of_transformers(T5EncoderModel, folder / "text_encoder"), tokenizer


def _of_transformers(kind: Any, folder: Path) -> Any:
    options = {"dtype": torch.float32, "local_files_only": True, "output_loading_info": True}
    try:
        with quiet_transformers():
            model, found = kind.from_pretrained(folder, **options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a {kind.__name__} ({error}). {_LICENCE}") from error
    _check_keys(sorted(found["missing_keys"]), sorted(found["unexpected_keys"]), folder, kind.__name__)
    return model


def _part(kind: Any, folder: Path) -> Any:
    """Load a part in the diffusers format; its own loader makes up the weights that are missing."""
    config = _config(folder)
    if config.get("_class_name", kind.__name__) != kind.__name__:
        raise ModelError(f"{folder}: holds a {config['_class_name']}; only {kind.__name__} is supported")
    try:
        state: dict[str, Tensor] = {}
        for file in _weight_files(folder):
            state |= load_file(file)
        return _filled(kind.from_config(config), state, folder)
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a {kind.__name__} ({error}). {_LICENCE}") from error


def _weight_files(folder: Path) -> list[Path]:
    index = folder / f"{WEIGHTS_FILE}.index.json"
    if not index.is_file():
        return [folder / WEIGHTS_FILE]
    names = sorted(set(_json(index).get("weight_map", {}).values()))
    return [folder / Path(name).name for name in names]


def _filled(module: Any, state: dict[str, Tensor], where: Path) -> Any:
    own = module.state_dict()
    _check_keys(sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys()), where, type(module).__name__)
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            raise ModelError(
                f"{where}: {name} has shape {list(tensor.shape)}, its configuration asks for {list(own[name].shape)}"
            )
    module.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return module


def _check_keys(missing: list[str], unexpected: list[str], where: Path, kind: str) -> None:
    for what, keys in (("lacks", missing), ("has no place for", unexpected)):
        if keys:
            shown = ", ".join(keys[:_SHOWN_KEYS]) + (", …" if len(keys) > _SHOWN_KEYS else "")
            raise ModelError(f"{where}: a {kind} of its configuration {what} {len(keys)} weights: {shown}")


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / _CONFIG_FILE)


def _json(path: Path) -> dict[str, Any]:
    try:
        with open_file(path) as file:
            values = json.loads(file.read())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); a complete folder has it. {_LICENCE}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: holds no JSON object")
    return values
