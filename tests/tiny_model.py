"""Random MusicGens small enough for a unit test: nano's architecture, fewer filters and features."""

from pathlib import Path

from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.training.codec import codec_config
from lumina_ray.training.export import as_music_model, export, new_musicgen


def _tiny_codec_config():
    config = codec_config()
    config.num_filters = 4
    config.num_lstm_layers = 1
    return config


def tiny_music_model(n_layers: int = 16) -> TransformersMusicGen:
    """An unsaved random model behind the common interface."""
    return as_music_model(new_musicgen(_tiny_codec_config(), n_layers=n_layers, dim=32, heads=2))


def export_tiny_model(folder: Path) -> None:
    """Write a random model in the transformers format."""
    export(new_musicgen(_tiny_codec_config(), dim=32, heads=2), folder)
