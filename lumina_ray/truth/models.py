"""Small MusicGens of the bank: trained from a seed on some recordings, kept as weights, sampled from."""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.data import learning_rate
from lumina_ray.training.export import as_music_model, new_musicgen
from lumina_ray.training.lm import MATRIX_RATE, LmSchedule, train_lm
from lumina_ray.truth.queries import TRAINED_FRAMES
from lumina_ray.truth.recipe import Recipe, Training

Weights = dict[str, Tensor]
"""A decoder's parameters by name, float16."""

# Of a recording's 750 trained frames, windows of 500: the first and the last.
_WINDOWS_PER_SONG = 2
_TOP_K = 250
# Sampled together: the cache of 128 pieces no longer fits a processor's, and took four times as long as 16 times 8.
_BATCH = 8


def trained(
    recipe: Recipe, training: Training, codes: list[Tensor], device: str = "cpu"
) -> Iterator[tuple[float, TransformersMusicGen]]:
    """Train one model; it is given out at each of the recipe's checkpoints, rounded to what would be stored of it.

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
    """Float64, of the layers' matrices at each of the recipe's checkpoints, for a model of so many songs."""
    steps = _steps(recipe, n_songs)
    return np.array([learning_rate(round(fraction * steps) - 1, steps, MATRIX_RATE) for fraction in recipe.checkpoints])


def _steps(recipe: Recipe, n_songs: int) -> int:
    return round(recipe.epochs * _WINDOWS_PER_SONG * n_songs / recipe.batch)


def new_model(recipe: Recipe, device: str = "cpu") -> TransformersMusicGen:
    """An untrained model of the recipe's size."""
    model: MusicgenForConditionalGeneration = new_musicgen(
        n_layers=recipe.n_layers, dim=recipe.dim, heads=recipe.heads, seed=recipe.seed
    )
    return as_music_model(model.to(torch.device(device)))  # type: ignore[arg-type]


def with_weights(recipe: Recipe, weights: Weights, device: str = "cpu") -> TransformersMusicGen:
    """The model that has these weights, known by their hash."""
    model = new_model(recipe, device)
    model.model.decoder.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.weights_sha256 = _sha256(weights)
    return model


def weights_of(model: TransformersMusicGen) -> Weights:
    """The decoder's parameters, on the CPU."""
    return {name: parameter.detach().half().cpu() for name, parameter in model.model.decoder.named_parameters()}


def flat(models: dict[str, Weights]) -> dict[str, np.ndarray]:
    """Models by name as arrays by `model/parameter`, for a file."""
    return {f"{name}/{key}": tensor.numpy() for name, weights in models.items() for key, tensor in weights.items()}


def unflat(arrays: Mapping[str, np.ndarray]) -> dict[str, Weights]:
    """The inverse of `flat`."""
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
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        pieces = [
            _sample(
                model,
                min(_BATCH, n - begin),
                n_frames,
                None if prompts_BKT is None else prompts_BKT[begin : begin + _BATCH],
            )
            for begin in range(0, n, _BATCH)
        ]
    return torch.cat(pieces)


def _sample(model: TransformersMusicGen, n: int, n_frames: int, prompts_BKT: Tensor | None) -> Tensor:
    decoder, K, pad = model.model.decoder, model.n_codebooks, model.codebook_size
    start = torch.full((n * K, 1), pad)
    prompted = 0 if prompts_BKT is None else prompts_BKT.shape[2]
    ids = start if prompts_BKT is None else torch.cat([start, prompts_BKT.reshape(n * K, prompted)], dim=1)
    codes_BKT = decoder.generate(
        ids.to(model.device),
        encoder_hidden_states=model.condition.expand(n, -1, -1),
        do_sample=True,
        top_k=_TOP_K,
        guidance_scale=1.0,
        num_return_sequences=1,
        # The delay pattern ends K − 1 steps after the first codebook does.
        max_length=1 + prompted + n_frames + K - 1,
        pad_token_id=pad,
        bos_token_id=pad,
        decoder_start_token_id=pad,
    )
    return codes_BKT[:, :, prompted:].cpu()


def _sha256(weights: Weights) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].numpy().tobytes())
    return digest.hexdigest()
