"""Build a ground-truth bank of small diffusion transformers on Ray: the same music, halves and order of work as
`cluster.truth`, with models of the second family.

Resumable: what is on disk is not redone.

lumina truth build --family dit --out BANK
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import ray
import torch
from rich.console import Console

from cluster.own_truth import causes
from cluster.session import ray_session, stoppable
from cluster.truth import RECORDINGS_PER_TASK, Workplace, begin, encode_recordings, read_music, run_missing, save
from lumina_ray.training.captions import vocabulary
from lumina_ray.truth.corpus import Recording, corpus
from lumina_ray.truth.dit_bank import BASE, DIT_VERSION, TEXT, WHOLE, DitBank, save_dit_bank
from lumina_ray.truth.dit_models import SMALL, DitStart, losses, make_pieces, trained, trained_base, with_weights
from lumina_ray.truth.models import flat, unflat
from lumina_ray.truth.pieces import Order, orders
from lumina_ray.truth.queries import Piece, Query, made_up_queries, real_queries
from lumina_ray.truth.recipe import Recipe, Training, retrainings, whole_catalogs

MODEL = "nano-dit"
"""Name of the model whose codec makes the latents."""
_MADE_UP = ("captioned", "guided")
_PARTS = ("half", "again-half")


def build_dit_bank(
    out: Path,
    recipe: Recipe = SMALL,
    recordings: tuple[Recording, ...] | None = None,
    model: str = MODEL,
    console: Console | None = None,
) -> DitBank:
    """Build a bank in `out`, or go on where an earlier run was interrupted.

    Args:
        recordings: the music; by default the corpus of all banks.
        model: its codec makes the latents.

    Raises:
        UsageError: packages of the demo catalog are missing.
        SpecificationMismatch: `out` was begun with another recipe.
        ClusterError: there is no Ray to be had, or a task failed.
    """
    console, place = console or Console(stderr=True), Workplace(out.resolve())
    recordings = corpus(recipe.seed) if recordings is None else recordings
    begin(place, {"dit bank version": DIT_VERSION, "latents of": model} | asdict(recipe))
    with ray_session(), stoppable(), causes():
        run = partial(run_missing, console=console)
        parts = [recordings[i : i + RECORDINGS_PER_TASK] for i in range(0, len(recordings), RECORDINGS_PER_TASK)]
        run("Recordings", encode_recordings, [(place.music(i), (part, model)) for i, part in enumerate(parts)])
        music = read_music([place.music(i) for i in range(len(parts))])
        based = [i for i, recording in enumerate(recordings) if recording.role == "base"]
        words = tuple(vocabulary(music.captions))
        of_base = [music.learned[i] for i in based], [music.captions[i] for i in based]
        run("Base model", _train_base, [(place.model(BASE), (recipe, *of_base, words))])
        base = _read(place.model(BASE))
        start = DitStart(words, base[BASE], base[TEXT], music.captions)
        shared, begun = ray.put(music.learned), ray.put(start)
        (whole,) = (one for one in whole_catalogs(recipe, recordings) if one.name == WHOLE)
        run("Model of the whole catalog", _train, [(place.model(WHOLE), (recipe, whole, shared, begun))])
        weights = _read(place.model(WHOLE))[WHOLE]
        wanted = [order for order in orders(recipe, WHOLE, recordings, music.captions) if order.kind in _MADE_UP]
        run("Pieces", _make, [(place.pieces(WHOLE), (recipe, wanted, begun, weights))])
        queries = [
            *real_queries(recordings, music.learned, dict(enumerate(music.excerpts)), recipe.seed),
            *_pieces(place.pieces(WHOLE), wanted, recipe.seed),
        ]
        asked = ray.put([(query.codes_KT, query.caption) for query in queries])
        halves = [
            one for one in retrainings(recipe, recordings, music.captions) if one.name.rpartition("-")[0] in _PARTS
        ]
        run("Losses of the whole catalog", _ask, [(place.losses(WHOLE), (recipe, begun, weights, asked))])
        run("Retrained models", _retrain, [
            (place.losses(training.name), (recipe, training, shared, begun, asked)) for training in halves
        ])  # fmt: skip
    trainings = [whole, *halves]
    found = [np.load(place.losses(training.name))["losses"] for training in trainings]
    bank = DitBank(recipe, recordings, music.learned, queries, start, weights, trainings, np.stack(found))
    save_dit_bank(bank, place.out)
    return bank


def _train_base(
    recipe: Recipe, pieces: Sequence[Piece], captions: Sequence[str], words: Sequence[str], path: Path
) -> None:
    torch.set_num_threads(1)
    weights, text = trained_base(recipe, pieces, captions, words)
    save(path, flat({BASE: weights, TEXT: text}))


def _train(recipe: Recipe, training: Training, pieces: Sequence[Piece], start: DitStart, path: Path) -> None:
    torch.set_num_threads(1)
    save(path, flat({training.name: trained(recipe, training, pieces, start)}))


def _make(recipe: Recipe, wanted: Sequence[Order], start: DitStart, weights: dict, path: Path) -> None:
    torch.set_num_threads(1)
    model = with_weights(recipe, start, weights)
    made = (make_pieces(model, order.captions, order.guidance, recipe.seed + i) for i, order in enumerate(wanted))
    save(path, {str(i): latents_BCT.numpy().astype(np.float16) for i, latents_BCT in enumerate(made)})


def _ask(recipe: Recipe, start: DitStart, weights: dict, asked: Sequence[tuple[torch.Tensor, str]], path: Path) -> None:
    torch.set_num_threads(1)
    model = with_weights(recipe, start, weights)
    save(path, {"losses": losses(model, [latents for latents, _ in asked], [caption for _, caption in asked])})


def _retrain(
    recipe: Recipe,
    training: Training,
    pieces: Sequence[Piece],
    start: DitStart,
    asked: Sequence[tuple[torch.Tensor, str]],
    path: Path,
) -> None:
    torch.set_num_threads(1)
    _ask(recipe, start, trained(recipe, training, pieces, start), asked, path)


def _read(path: Path) -> dict:
    with np.load(path) as arrays:
        return unflat(dict(arrays))


def _pieces(path: Path, wanted: Sequence[Order], seed: int) -> list[Query]:
    with np.load(path) as arrays:
        made = [torch.from_numpy(arrays[str(i)].astype(np.float32)) for i in range(len(wanted))]
    return [
        query
        for order, latents_BCT in zip(wanted, made, strict=True)
        for query in made_up_queries(order.kind, WHOLE, latents_BCT, order.captions, seed)
    ]
