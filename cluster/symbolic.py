"""Build a symbolic bank on Ray: small Music Transformers, retrained on halves of some pieces, one task each.

Resumable: what is on disk is not redone.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import ray
import torch
from rich.console import Console

from cluster.session import ray_session
from cluster.truth import Workplace, begin, run_missing
from lumina_ray.demo.songs import DemoSong
from lumina_ray.files import atomic_path
from lumina_ray.symbolic.bank import VERSION, GradientSet, SymbolicBank, save_bank
from lumina_ray.symbolic.events import pitch_classes
from lumina_ray.symbolic.features import DIMENSIONS
from lumina_ray.symbolic.gradients import passages, projected
from lumina_ray.symbolic.pieces import Piece, Query, asked_pieces, chosen, excerpts, make_piece, scores
from lumina_ray.symbolic.recipe import WHOLE, SymbolicRecipe, SymbolicTraining, trainings, untrained_seed
from lumina_ray.symbolic.training import (
    Weights,
    generated,
    learning_rates,
    losses,
    new_model,
    trained,
    weights_of,
    with_weights,
)

_SCORES_PER_TASK = 20
_UNTRAINED = "untrained"


def build_symbolic_bank(out: Path, recipe: SymbolicRecipe, console: Console | None = None) -> SymbolicBank:
    """Build a bank in `out`, or go on where an earlier run was interrupted.

    Raises:
        UsageError: packages of the demo catalog are missing, or too few scores are long enough.
        SpecificationMismatch: `out` was begun with another recipe.
        ClusterError: there is no Ray to be had.
    """
    place, songs = Workplace(out.resolve()), scores()
    begin(place, {"symbolic bank version": VERSION} | asdict(recipe))
    parts = [songs[i : i + _SCORES_PER_TASK] for i in range(0, len(songs), _SCORES_PER_TASK)]
    with ray_session():
        run = partial(run_missing, console=console or Console(stderr=True), gpus=0)
        run("Scores", read_scores, [(place.music(i), (part, recipe)) for i, part in enumerate(parts)])
        pieces = chosen([piece for i in range(len(parts)) for piece in _read_pieces(place.music(i))], recipe)
        wanted = trainings(recipe, len(pieces))
        shared = ray.put(pieces)
        kept = [training for training in wanted if not training.name.startswith("half-")]
        run("Models", train, [(place.model(training.name), (recipe, training, shared)) for training in kept])
        run("Continuations", go_on, [(place.pieces(WHOLE), (recipe, shared, place.model(WHOLE)))])
        queries = _queries(place, recipe, pieces)
        asked_of = ray.put(queries)
        judges = [training for training in wanted if training.name.startswith("half-")]
        run("Retrained models", retrain, [
            (place.losses(training.name), (recipe, training, shared, asked_of)) for training in judges
        ])  # fmt: skip
        names = [*_checkpoints(recipe), *(t.name for t in kept if t.name != WHOLE), _UNTRAINED]
        run("Gradients", take_gradients, [
            (_gradients(place, name), (recipe, name, shared, asked_of, place.parts / "models")) for name in names
        ])  # fmt: skip
    bank = _gathered(place, recipe, pieces, queries, judges)
    save_bank(bank, place.out)
    return bank


def read_scores(songs: Sequence[DemoSong], recipe: SymbolicRecipe, path: Path) -> None:
    """Read scores, and keep those that are long enough."""
    arrays: dict[str, np.ndarray] = {}
    for song in songs:
        piece = make_piece(song, recipe)
        if piece is not None:
            arrays |= {f"{piece.name}/learned": piece.learned_WT, f"{piece.name}/held": piece.held_T}
            arrays |= {f"{piece.name}/{name}": values for name, values in piece.features.items()}
    _save(path, arrays)


def train(recipe: SymbolicRecipe, training: SymbolicTraining, pieces: list[Piece], path: Path) -> None:
    """Train a model and keep it: that of all pieces at each checkpoint, others at the end."""
    torch.set_num_threads(1)
    arrays: dict[str, np.ndarray] = {}
    for number, model in enumerate(trained(recipe, training, pieces)):
        if training.name == WHOLE or number == len(recipe.checkpoints) - 1:
            arrays |= {f"{number}/{name}": values for name, values in weights_of(model).items()}
    _save(path, arrays)


def go_on(recipe: SymbolicRecipe, pieces: list[Piece], weights: Path, path: Path) -> None:
    """Let the model of all pieces go on with some of them."""
    torch.set_num_threads(1)
    model = with_weights(recipe, _read_weights(weights, len(recipe.checkpoints) - 1))
    made = generated(recipe, model, pieces, asked_pieces(recipe, "generated", len(pieces)))
    _save(path, {"events": np.stack([query.events_T for query in made])})


def retrain(
    recipe: SymbolicRecipe, training: SymbolicTraining, pieces: list[Piece], queries: list[Query], path: Path
) -> None:
    """Train a model on a half, and ask it about all queries."""
    torch.set_num_threads(1)
    *_, model = trained(recipe, training, pieces)
    _save(path, {"losses": losses(model, queries)})


def take_gradients(
    recipe: SymbolicRecipe, name: str, pieces: list[Piece], queries: list[Query], models: Path, path: Path
) -> None:
    """Gradients of all pieces and queries under one model."""
    torch.set_num_threads(1)
    if name == _UNTRAINED:
        model = new_model(recipe, untrained_seed(recipe))
    else:
        training, _, number = name.partition("@")
        model = with_weights(
            recipe, _read_weights(models / f"{training}.npz", int(number or len(recipe.checkpoints) - 1))
        )
    found, vectors = projected(model, passages(pieces, queries))
    _save(path, {"losses": found, "vectors": vectors})


def _checkpoints(recipe: SymbolicRecipe) -> list[str]:
    return [f"{WHOLE}@{number}" for number in range(len(recipe.checkpoints))]


def _gradients(place: Workplace, name: str) -> Path:
    return place.parts / "gradients" / f"{name}.npz"


def _queries(place: Workplace, recipe: SymbolicRecipe, pieces: list[Piece]) -> list[Query]:
    of = asked_pieces(recipe, "generated", len(pieces))
    with np.load(place.pieces(WHOLE)) as arrays:
        made = [
            Query("generated", i, events_T, recipe.prompt) for i, events_T in zip(of, arrays["events"], strict=True)
        ]
    return [*excerpts(recipe, pieces), *made]


def _gathered(
    place: Workplace,
    recipe: SymbolicRecipe,
    pieces: list[Piece],
    queries: list[Query],
    judges: list[SymbolicTraining],
) -> SymbolicBank:
    n = len(pieces)
    masks_RN = np.zeros((len(judges), n), bool)
    for mask_N, training in zip(masks_RN, judges, strict=True):
        mask_N[list(training.pieces)] = True
    of_sets = {
        "whole": _checkpoints(recipe),
        "ensemble": [training.name for training in trainings(recipe, n) if training.name.startswith("ensemble-")],
        _UNTRAINED: [_UNTRAINED],
    }
    gradients, of_queries = {}, {}
    for name, of in of_sets.items():
        read = [dict(np.load(_gradients(place, one))) for one in of]
        vectors_CxD, losses_Cx = (np.stack([one[part] for one in read]) for part in ("vectors", "losses"))
        gradients[name] = GradientSet(vectors_CxD[:, :n], vectors_CxD[:, n:], losses_Cx[:, :n])
        of_queries[name] = losses_Cx[-1, n:]
    return SymbolicBank(
        recipe=recipe,
        names=tuple(piece.name for piece in pieces),
        features={name: np.stack([piece.features[name] for piece in pieces]) for name in DIMENSIONS},
        kinds=tuple(query.kind for query in queries),
        of_Q=np.array([query.piece for query in queries]),
        masks_RN=masks_RN,
        losses_RQ=np.stack([np.load(place.losses(training.name))["losses"] for training in judges]),
        whole_Q=of_queries["whole"],
        untrained_Q=of_queries[_UNTRAINED],
        rates_C=learning_rates(recipe, n),
        classes_N=np.stack([pitch_classes(piece.learned_WT.ravel()) for piece in pieces]),
        classes_Q=np.stack([pitch_classes(query.events_T[query.first :]) for query in queries]),
        gradients=gradients,
    )


def _read_pieces(path: Path) -> list[Piece]:
    with np.load(path) as arrays:
        names = [name.removesuffix("/learned") for name in arrays.files if name.endswith("/learned")]
        return [
            Piece(
                name,
                arrays[f"{name}/learned"],
                arrays[f"{name}/held"],
                {feature: arrays[f"{name}/{feature}"] for feature in DIMENSIONS},
            )
            for name in names
        ]


def _read_weights(path: Path, number: int) -> Weights:
    with np.load(path) as arrays:
        of = f"{number}/"
        return {name.removeprefix(of): arrays[name] for name in arrays.files if name.startswith(of)}


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
