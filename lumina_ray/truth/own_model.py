"""An operator's own model, as a bank fine-tunes and asks it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from lumina_ray.errors import ModelError, SpecificationMismatch, UsageError
from lumina_ray.fingerprint.companion_statistics import measure_companions
from lumina_ray.fingerprint.music_statistics import measure_music_statistics
from lumina_ray.model import open_music_model
from lumina_ray.model.companion import save_companions
from lumina_ray.model.statistics import save_statistics
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.truth.fine_tuning import fine_tune
from lumina_ray.truth.own_recipe import OwnRecipe
from lumina_ray.truth.queries import Piece, Query, losses
from lumina_ray.truth.recipe import Training
from lumina_ray.truth.unlearning import song_codes
from lumina_ray.unlearning.forget import check_format, write_copy
from lumina_ray.vocabulary import SongCodes


def open_decoder(name: str, device: str = "cpu") -> TransformersMusicGen:
    """Open a model that banks can fine-tune, in float32.

    Raises:
        ModelError: it is not at hand, predicts something else than codes, or is not one folder in the transformers
            format with all weights in one file.
    """
    model = open_music_model(name, device)
    if not isinstance(model, TransformersMusicGen):
        raise ModelError(
            f"model {name!r} is opened through {model.adapter}; a bank fine-tunes a MusicGen in the transformers "
            "format: give the folder of one"
        )
    check_format(model)
    return model


def open_maker(base: str, name: str, weights_sha256: str, store: object) -> TransformersMusicGen:
    """Open a model that banks can fine-tune, and that made the codes of a store.

    Args:
        base: the model, as it was given.
        name: the same from wherever it is asked.
        weights_sha256: of the model that made the store's codes.
        store: the store's place.

    Raises:
        ModelError: as in `open_decoder`.
        SpecificationMismatch: other weights made the store.
    """
    model = open_decoder(name)
    if model.weights_sha256 != weights_sha256:
        raise SpecificationMismatch(
            f"{store} was made with weights {weights_sha256[:12]}, {base} has {model.weights_sha256[:12]}; codes mean "
            "nothing to another codec: fingerprint it with this model"
        )
    return model


def known_caption(model: TransformersMusicGen, caption: str | None) -> str:
    """Give a caption as it is, or "" where it says nothing to the model."""
    if not caption or not model.knows_words:
        return ""
    try:
        model.embed(caption)
    except UsageError:
        return ""
    return caption


def train_own(
    model: TransformersMusicGen,
    recipe: OwnRecipe,
    training: Training,
    codes: Sequence[Tensor],
    captions: Sequence[str | None],
) -> None:
    """Fine-tune a model in place, on the songs of a training.

    Args:
        model: the base model.
        codes, captions: of all songs of the catalog, by number.
    """
    learned = set(training.songs)
    steps = fine_tune(
        model,
        codes,
        captions,
        [i in learned for i in range(len(codes))],
        epochs=recipe.epochs,
        batch=recipe.batch,
        seed=training.seed,
    )
    for _ in steps:
        pass


def ask(model: TransformersMusicGen, queries: Sequence[Query]) -> np.ndarray:
    """Losses of queries, each under its text: float32 `[Q, K]`, in nats per code."""
    return losses(model, [query.codes_KT for query in queries], [query.caption for query in queries])


def save_model(model: TransformersMusicGen, base: str, songs: Sequence[Piece], folder: Path) -> Path:
    """Write a fine-tuned model with what is measured on the songs that it learned, which comes last.

    Args:
        base: name of the model that it was fine-tuned from, which becomes its companion.

    Returns:
        Path of the file that is written last.
    """
    write_copy(model, folder, model.parameters(), {})  # type: ignore[arg-type]
    written = open_decoder(str(folder), str(model.device))
    pieces = pieces_codes(written, songs)
    save_statistics(measure_music_statistics(written, lambda: pieces, range(len(pieces))), folder)
    measured = measure_companions(written, [open_decoder(base, str(model.device))], pieces, range(len(pieces)))
    return save_companions(replace(measured, names=(base,)), folder)


def pieces_codes(model: TransformersMusicGen, pieces: Sequence[Piece]) -> list[SongCodes]:
    """Codes of pieces as fingerprints see them."""
    return [song_codes(piece.codes_KT, model.frame_rate_hz, piece.heard_T) for piece in pieces]
