"""Random MusicGens small enough for a unit test: nano's architecture, fewer filters and features."""

from pathlib import Path

import numpy as np
import torch
from transformers import EncodecConfig, MusicgenForConditionalGeneration, PreTrainedTokenizerFast

from lumina_ray.fingerprint.companion_gradients import blocks_of, names_of, tracked_weights
from lumina_ray.model.companion import Companions, Sides, save_companions
from lumina_ray.model.fisher import FISHER_FILE, Fisher, save_fisher
from lumina_ray.model.interface import MusicModel
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.captions import vocabulary, word_tokenizer
from lumina_ray.training.codec import codec_config
from lumina_ray.training.export import as_music_model, export, new_musicgen
from lumina_ray.unlearning.select import named_tensors
from lumina_ray.vocabulary import CHANNELS


def tiny_codec_config() -> EncodecConfig:
    """Make nano's codec with few filters."""
    config = codec_config()
    config.num_filters = 4
    config.num_lstm_layers = 1
    return config


def _tiny_musicgen(
    n_layers: int = 16, tokenizer: PreTrainedTokenizerFast | None = None
) -> MusicgenForConditionalGeneration:
    model = new_musicgen(tiny_codec_config(), n_layers=n_layers, dim=32, heads=2, tokenizer=tokenizer)
    # Untrained codebooks are all zero, and would give every song the same codes.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.audio_encoder.quantizer.layers:
            layer.codebook.embed.copy_(torch.randn(layer.codebook.embed.shape, generator=generator) * 0.05)
    return model


def _tiny_companion(model: MusicgenForConditionalGeneration) -> MusicgenForConditionalGeneration:
    """Other random weights behind the same codec, in two layers."""
    return new_musicgen(model.audio_encoder, n_layers=2, dim=32, heads=2, seed=1)


def tiny_music_model(n_layers: int = 16, tokenizer: PreTrainedTokenizerFast | None = None) -> TransformersMusicGen:
    """An unsaved random model behind the common interface, with random Fisher information and a random companion."""
    model = as_music_model(_tiny_musicgen(n_layers, tokenizer), tokenizer)
    model.fisher = random_fisher(model)
    model.companions = random_companions(model, as_music_model(_tiny_companion(model.model)))
    return model


def export_tiny_text_model(folder: Path, captions: list[str]) -> None:
    """Write a random model of two layers that knows the words of some captions, and whose music depends on them."""
    tokenizer = word_tokenizer(vocabulary(captions))
    model = _tiny_musicgen(2, tokenizer)
    with torch.no_grad():
        # An untrained model's predictions are nearly even, whatever the text is.
        for parameter in model.decoder.parameters():
            if parameter.dim() == 2:
                parameter.mul_(10)
    export(model, folder, tokenizer)


def export_tiny_model(folder: Path) -> None:
    """Write a random model in the transformers format, with Fisher information and a companion that are as random."""
    made = _tiny_musicgen()
    export(made, folder)
    export(_tiny_companion(made), folder / "early")
    model, companion = (TransformersMusicGen.load(path, str(path), "cpu") for path in (folder, folder / "early"))
    save_fisher(random_fisher(model), folder / FISHER_FILE)
    save_companions(random_companions(model, companion), folder)


def random_fisher(model: MusicModel) -> Fisher:
    """Positive numbers in the shapes of a model's tensors."""
    rng = np.random.default_rng(0)
    shapes = {name: (sum(map(len, p)), *p[0].shape[1:]) for name, p in named_tensors(model).items()}
    values = {name: rng.exponential(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return Fisher(values, model.weights_sha256, "0" * 64, 1, 1)


def random_companions(model: MusicModel, *companions: MusicModel) -> Companions:
    """Random matrices and bases of five directions in the shapes that some models need."""
    rng, names = np.random.default_rng(0), names_of(1 + len(companions))
    sides = {
        f"{of}/{name}": Sides(*(rng.standard_normal((min(most, n), n), np.float32) for most, n in sizes))
        for of, one in zip(names, (model, *companions), strict=True)
        for name, weight in tracked_weights(one, CHANNELS).items()
        for sizes in [zip((64, 32), weight.shape, strict=True)]
    }
    bases = {}
    for channel in CHANNELS:
        kept = [sides[name] for block in blocks_of(channel, model.n_codebooks, names) for name in block]
        n_numbers = sum(len(of.left_pM) * len(of.right_qN) for of in kept)
        bases[channel] = np.linalg.qr(rng.standard_normal((n_numbers, 5)))[0].astype(np.float16)
    known = tuple(one.name for one in companions), tuple(one.weights_sha256 for one in companions)
    return Companions(*known, model.weights_sha256, sides, bases, {"cpu": companions})
