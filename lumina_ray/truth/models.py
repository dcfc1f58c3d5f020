"""Small MusicGens of the bank: trained from a seed on some recordings, kept as weights, sampled from."""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from lumina_ray.model.interface import SamplingSettings
from lumina_ray.model.sampling import sample
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.data import learning_rate
from lumina_ray.training.export import as_music_model, new_musicgen
from lumina_ray.training.lm import MATRIX_RATE, LmSchedule, train_lm
from lumina_ray.truth.queries import TRAINED_FRAMES
from lumina_ray.truth.recipe import Recipe, Training

Weights = dict[str, Tensor]
"""A decoder's parameters by name, float16."""

# A recording has 750 trained frames; a model sees the first 500 and the last 500.
_WINDOWS_PER_SONG = 2
_TOP_K = 250


def trained(
    recipe: Recipe, training: Training, codes: list[Tensor], device: str = "cpu"
) -> Iterator[tuple[float, TransformersMusicGen]]:
    """Train one model and yield it at each of the recipe's checkpoints, with the weights that would be stored of it.

    Args:
        codes: whole recordings' codes, int64 `[K, T]`, by position in the corpus.

    Yields:
        The fraction of the training, and a model in evaluation mode.
    """
    songs = [codes[i][:, :TRAINED_FRAMES] for i in training.songs]
    steps = _steps(recipe, len(songs))
    # The condition, made by an untrained text encoder, is the same for all models; only the decoder's start differs.
    model = new_model(recipe, device)
    start = new_musicgen(n_layers=recipe.n_layers, dim=recipe.dim, heads=recipe.heads, seed=training.seed)
    model.model.decoder.load_state_dict(start.decoder.state_dict())
    early = round(recipe.checkpoints[0] * steps)
    kept: dict[int, Weights] = {}
    train_lm(
        model,
        songs,
        LmSchedule(steps, early, recipe.batch),
        seed=training.seed,
        report=lambda metrics, _: kept.update({int(metrics["step"]): weights_of(model)}),
        report_every=steps,
    )
    for fraction, step in zip(recipe.checkpoints, (early, steps), strict=True):
        yield fraction, with_weights(recipe, kept[step], device)


def learning_rates(recipe: Recipe, n_songs: int) -> np.ndarray:
    """Learning rates of the layers' matrices at each of the recipe's checkpoints, float64, for a number of songs."""
    steps = _steps(recipe, n_songs)
    return np.array([learning_rate(round(fraction * steps) - 1, steps, MATRIX_RATE) for fraction in recipe.checkpoints])


def _steps(recipe: Recipe, n_songs: int) -> int:
    return round(recipe.epochs * _WINDOWS_PER_SONG * n_songs / recipe.batch)


def new_model(recipe: Recipe, device: str = "cpu") -> TransformersMusicGen:
    """Make an untrained model of the recipe's size."""
    model: MusicgenForConditionalGeneration = new_musicgen(
        n_layers=recipe.n_layers, dim=recipe.dim, heads=recipe.heads, seed=recipe.seed
    )
    return as_music_model(model.to(torch.device(device)))  # type: ignore[arg-type]


def with_weights(recipe: Recipe, weights: Weights, device: str = "cpu") -> TransformersMusicGen:
    """Make the model that has these weights; its identity is their hash."""
    model = new_model(recipe, device)
    model.model.decoder.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.weights_sha256 = _sha256(weights)
    return model


def weights_of(model: TransformersMusicGen) -> Weights:
    """Copy the decoder's parameters to the CPU, as float16."""
    return {name: parameter.detach().half().cpu() for name, parameter in model.model.decoder.named_parameters()}


def flat(models: dict[str, Weights]) -> dict[str, np.ndarray]:
    """Turn models by name into arrays by `model/parameter`, for a file."""
    return {f"{name}/{key}": tensor.numpy() for name, weights in models.items() for key, tensor in weights.items()}


def unflat(arrays: Mapping[str, np.ndarray]) -> dict[str, Weights]:
    """Undo `flat`."""
    models: dict[str, Weights] = {}
    for name, array in arrays.items():
        model, key = name.split("/")
        models.setdefault(model, {})[key] = torch.from_numpy(array)
    return models


def generate(
    model: TransformersMusicGen, n: int, n_frames: int, seed: int, prompts_BKT: Tensor | None = None
) -> Tensor:
    """Sample codes from a model under the fixed text: int64 `[n, K, T]`, T = `n_frames`, on the CPU.

    Args:
        prompts_BKT: int64 `[n, K, T0]`, codes to go on from; they are not part of what is returned.
    """
    seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(n)]
    return sample(model, n_frames, seeds, SamplingSettings(_TOP_K), prompts_BKT=prompts_BKT)[:, :, -n_frames:]


def _sha256(weights: Weights) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].numpy().tobytes())
    return digest.hexdigest()
