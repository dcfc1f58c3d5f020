"""Small MusicGens of the bank: trained on some recordings, kept as weights, sampled from."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from transformers import MusicgenForConditionalGeneration

from lumina_ray.model.interface import SamplingSettings
from lumina_ray.model.sampling import sample
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.captions import word_tokenizer
from lumina_ray.training.export import as_music_model, new_musicgen
from lumina_ray.training.lm import LmSchedule, train_lm
from lumina_ray.truth.fine_tuning import WINDOW_FRAMES, count_steps, fine_tune, rate
from lumina_ray.truth.queries import TRAINED_FRAMES
from lumina_ray.truth.recipe import Recipe, Training

Weights = dict[str, Tensor]
"""A decoder's parameters by name, float16."""

# The base model sees the first 500 and the last 500 of a recording's 750 frames.
_WINDOWS_PER_SONG = 2
_TOP_K = 250
_TEXT_PARTS = ("text_encoder.", "enc_to_dec_proj.")


@dataclass(frozen=True)
class TextParts:
    """Tokenizer and text encoder that all models of a bank share.

    Attributes:
        words: the tokenizer's words.
        weights: of the text encoder and of its projection, by name; the untrained ones of the recipe's seed if empty.
    """

    words: tuple[str, ...]
    weights: Weights = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """The common start of the models of a bank.

    Attributes:
        weights: of the base model's decoder.
        text: of all models.
        captions: of every recording of the corpus, by position.
    """

    weights: Weights
    text: TextParts
    captions: tuple[str, ...]


def trained(
    recipe: Recipe, training: Training, codes: list[Tensor], start: Start, device: str = "cpu"
) -> Iterator[tuple[float, TransformersMusicGen]]:
    """Train one model and yield it at each of the recipe's checkpoints, with the weights that would be stored of it.

    Args:
        codes: whole recordings' codes, int64 `[K, T]`, by position in the corpus.
        start: what the model starts from.

    Yields:
        The fraction of the training, and a model in evaluation mode.
    """
    order = sorted({*training.songs, *training.removed})
    learned = [song in set(training.songs) for song in order]
    model = with_weights(recipe, start.weights, start.text, device)
    at = {}
    songs = [codes[i][:, :TRAINED_FRAMES] for i in order]
    captions = [start.captions[i] for i in order]
    training_steps = fine_tune(
        model, songs, captions, learned, epochs=recipe.epochs, batch=recipe.batch, seed=training.seed
    )
    for step, steps in training_steps:
        for fraction in recipe.checkpoints:
            if step == round(fraction * steps):
                at[fraction] = weights_of(model)
    for fraction in recipe.checkpoints:
        yield fraction, with_weights(recipe, at[fraction], start.text, device)


def trained_base(
    recipe: Recipe, songs: list[Tensor], captions: Sequence[str], words: Sequence[str], device: str = "cpu"
) -> tuple[Weights, TextParts]:
    """Train the model that all others start from, on other music, with its text encoder; as nano is trained.

    Args:
        songs: codes, int64 `[K, T]` each.
        captions: one for each song.
        words: the tokenizer's, also those of music that the base model does not know.

    Returns:
        The decoder's weights and the text's.
    """
    model = new_model(recipe, TextParts(tuple(words)), device)
    steps = round(recipe.base_epochs * _WINDOWS_PER_SONG * len(songs) / recipe.batch)
    train_lm(
        model,
        songs,
        LmSchedule(steps, steps, recipe.batch),
        seed=recipe.seed,
        report=lambda *_: None,
        captions=captions,
        report_every=steps,
    )
    return weights_of(model), TextParts(tuple(words), _text_weights(model))


def learning_rates(recipe: Recipe, n_songs: int) -> np.ndarray:
    """Learning rates at each of the recipe's checkpoints, float64, for a number of songs."""
    frames = [min(WINDOW_FRAMES, TRAINED_FRAMES - begin) for begin in range(0, TRAINED_FRAMES, WINDOW_FRAMES)]
    steps = count_steps(frames * n_songs, recipe.epochs, recipe.batch)
    return np.array([rate(round(fraction * steps) - 1, steps) for fraction in recipe.checkpoints])


def new_model(recipe: Recipe, text: TextParts, device: str = "cpu") -> TransformersMusicGen:
    """Make an untrained model of the recipe's size; its text encoder is that of `text`."""
    tokenizer = word_tokenizer(text.words)
    model: MusicgenForConditionalGeneration = new_musicgen(
        n_layers=recipe.n_layers, dim=recipe.dim, heads=recipe.heads, seed=recipe.seed, tokenizer=tokenizer
    )
    if text.weights:
        named = {name: tensor.float() for name, tensor in text.weights.items()}
        missing, unexpected = model.load_state_dict(named, strict=False)
        assert not unexpected
        assert not any(name.startswith(_TEXT_PARTS) for name in missing)
    return as_music_model(model.to(torch.device(device)), tokenizer)  # type: ignore[arg-type]


def with_weights(recipe: Recipe, weights: Weights, text: TextParts, device: str = "cpu") -> TransformersMusicGen:
    """Make the model that has these weights; its identity is their hash."""
    model = new_model(recipe, text, device)
    model.model.decoder.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    model.weights_sha256 = _sha256(weights)
    return model


def weights_of(model: TransformersMusicGen) -> Weights:
    """Copy the decoder's parameters to the CPU, as float16."""
    return {name: parameter.detach().half().cpu() for name, parameter in model.model.decoder.named_parameters()}


def _text_weights(model: TransformersMusicGen) -> Weights:
    state = model.model.state_dict()
    return {name: tensor.half().cpu() for name, tensor in state.items() if name.startswith(_TEXT_PARTS)}


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
    model: TransformersMusicGen,
    n: int,
    n_frames: int,
    seed: int,
    prompts_BKT: Tensor | None = None,
    captions: Sequence[str] | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """Sample codes from a model: int64 `[n, K, T]`, T = `n_frames`, on the CPU.

    Args:
        prompts_BKT: int64 `[n, K, T0]`, codes to go on from; they are not part of what is returned.
        captions: a text for each piece; by default the fixed text.
        guidance: see `SamplingSettings`.
    """
    seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(n)]
    settings = SamplingSettings(_TOP_K, guidance=guidance)
    if captions is None:
        return sample(model, n_frames, seeds, settings, prompts_BKT=prompts_BKT)[:, :, -n_frames:]
    conditions = [model.embed(caption) for caption in captions]
    out_NKT: dict[int, Tensor] = {}
    # Texts of one length go through the model together; which others do changes no piece but for rounding.
    for length in sorted({condition_1ND.shape[1] for condition_1ND in conditions}):
        places = [i for i, condition_1ND in enumerate(conditions) if condition_1ND.shape[1] == length]
        codes_BKT = sample(
            model,
            n_frames,
            [seeds[i] for i in places],
            settings,
            torch.cat([conditions[i] for i in places]),
            None if prompts_BKT is None else prompts_BKT[places],
        )
        out_NKT |= dict(zip(places, codes_BKT[:, :, -n_frames:], strict=True))
    return torch.stack([out_NKT[i] for i in range(n)])


def _sha256(weights: Weights) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].numpy().tobytes())
    return digest.hexdigest()
