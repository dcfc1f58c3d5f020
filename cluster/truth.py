"""Build a ground-truth bank: retrain small models on many parts of a catalog.

Resumable: what is on disk is not redone.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from rich.console import Console

from cluster.progress import show_steps
from cluster.session import ray_session
from lumina_ray.errors import SpecificationMismatch
from lumina_ray.files import atomic_path
from lumina_ray.model.open import open_model
from lumina_ray.truth.alterations import altered_copies
from lumina_ray.truth.bank import VERSION, Bank, save_bank
from lumina_ray.truth.corpus import Audited, Recording, corpus, record
from lumina_ray.truth.models import Weights, flat, generate, trained, unflat, weights_of, with_weights
from lumina_ray.truth.queries import (
    QUERY_FRAMES,
    Query,
    altered_queries,
    continuations,
    free_queries,
    losses,
    real_queries,
    songs_to_alter,
)
from lumina_ray.truth.recipe import NANO, SMALL, Recipe, Training, retrainings, whole_catalogs

SIZES = {"small": SMALL, "nano": NANO}
# Recordings that one task encodes, in minutes: a lost machine loses no more.
_RECORDINGS_PER_TASK = 20
_RETRIES = 3
# Small models leave most of a GPU idle.
_GPU_FRACTION = 0.25


@dataclass(frozen=True)
class Workplace:
    """Where the parts of a bank lie until it is whole."""

    out: Path

    @property
    def parts(self) -> Path:
        return self.out / "parts"

    def codes(self, number: int) -> Path:
        return self.parts / "codes" / f"{number:03}.npz"

    def altered(self, position: int) -> Path:
        return self.parts / "altered" / f"{position:03}.npz"

    def model(self, name: str) -> Path:
        return self.parts / "models" / f"{name}.npz"

    def queries(self, model: str) -> Path:
        return self.parts / "queries" / f"{model}.npz"

    def losses(self, name: str) -> Path:
        return self.parts / "losses" / f"{name}.npz"


def build_bank(out: Path, recipe: Recipe, console: Console | None = None) -> Bank:
    """Build a bank in `out`, or go on where an earlier run was interrupted.

    Raises:
        UsageError: packages of the demo catalog are missing.
        SpecificationMismatch: `out` was begun with another recipe.
        ClusterError: there is no Ray to be had.
    """
    console = console or Console(stderr=True)
    place, recordings = Workplace(out.resolve()), corpus(recipe.seed)
    _begin(place, recipe)
    with ray_session():
        run, device = partial(run_missing, console=console), training_device()
        parts = [recordings[i : i + _RECORDINGS_PER_TASK] for i in range(0, len(recordings), _RECORDINGS_PER_TASK)]
        run("Recordings", encode_recordings, [(place.codes(i), (part,)) for i, part in enumerate(parts)])
        codes = [codes_KT for i in range(len(parts)) for codes_KT in _read_codes(place.codes(i))]
        altered = songs_to_alter(recordings, recipe.seed)
        run("Altered copies", encode_altered, [(place.altered(i), (recordings[i],)) for i in altered])
        shared = ray.put(codes)
        whole = whole_catalogs(recipe, recordings)
        run("Models of whole catalogs", train_whole, [
            (place.model(training.name), (recipe, training, shared, device)) for training in whole
        ])  # fmt: skip
        run("Generated queries", make_queries, [
            (place.queries(model), (recipe, model, recordings, shared, device, place.model(model))) for model in "AB"
        ])  # fmt: skip
        free_A, prompted_A = _made_up(place, recordings, "A", recipe.seed)
        free_B, prompted_B = _made_up(place, recordings, "B", recipe.seed)
        queries = [*real_queries(recordings, codes, recipe.seed), *free_A]
        asked = ray.put([query.codes_KT for query in queries])
        of_subsets = retrainings(recipe, recordings)
        run("Losses of whole catalogs", ask_whole, [
            (place.losses(training.name), (recipe, asked, device, place.model(training.name))) for training in whole
        ])  # fmt: skip
        run("Retrained models", retrain, [
            (place.losses(training.name), (recipe, training, shared, asked, device)) for training in of_subsets
        ])  # fmt: skip
    trainings = [*whole, *of_subsets]
    bank = Bank(
        recipe,
        recordings,
        codes,
        queries,
        [*_altered(place, recordings, altered, recipe.seed), *free_B, *prompted_A, *prompted_B],
        {name: weights for training in whole for name, weights in _wanted(place, training.name).items()},
        trainings,
        np.stack([np.load(place.losses(training.name))["losses"] for training in trainings]),
    )
    save_bank(bank, place.out)
    return bank


def training_device() -> str:
    """Where the models of a bank are trained on this cluster."""
    return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"


def run_missing(
    what: str, task: Callable[..., None], jobs: Sequence[tuple[Path, tuple[Any, ...]]], console: Console
) -> None:
    """Run a task on Ray for every file that is not there yet, with its arguments and then the file's path."""
    gpus = _GPU_FRACTION if training_device() == "cuda" else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)(task)
    missing = [(*arguments, path) for path, arguments in jobs if not path.exists()]
    with show_steps(what, len(missing), console) as step:
        waiting = [remote.remote(*arguments) for arguments in missing]
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
            step()


def encode_recordings(recordings: tuple[Recording, ...], path: Path) -> None:
    """Render recordings and encode them with nano's codec."""
    torch.set_num_threads(1)
    model = open_model("nano", "cpu")
    _save(path, {recording.recording_id: model.encode(record(recording)).numpy() for recording in recordings})


def encode_altered(recording: Recording, path: Path) -> None:
    """Encode every altered copy of a recording."""
    torch.set_num_threads(1)
    model = open_model("nano", "cpu")
    _save(path, {name: model.encode(copy).numpy() for name, copy in altered_copies(record(recording)).items()})


def train_whole(recipe: Recipe, training: Training, codes: list[torch.Tensor], device: str, path: Path) -> None:
    """Train a model of a whole catalog and keep it at each checkpoint."""
    torch.set_num_threads(1)
    kept: dict[str, Weights] = {}
    for fraction, model in trained(recipe, training, codes, device):
        name = training.name if fraction == recipe.checkpoints[-1] else f"{training.name}-early"
        kept[name] = weights_of(model)
    _save(path, flat(kept))


def make_queries(
    recipe: Recipe, name: str, recordings: tuple[Recording, ...], codes: list[torch.Tensor], device: str,
    weights: Path, path: Path,
) -> None:  # fmt: skip
    """Sample from a model: freely, and going on from both recordings of every twin."""
    torch.set_num_threads(1)
    model = with_weights(recipe, _read_models(weights)[name], device)
    twins = [i for i, recording in enumerate(recordings) if recording.role == "twin"]
    prompts_BKT = torch.stack([codes[i][:, : recipe.prompt_frames] for i in twins])
    free_BKT = generate(model, recipe.free, QUERY_FRAMES, recipe.seed)
    prompted_BKT = generate(model, len(twins), QUERY_FRAMES - recipe.prompt_frames, recipe.seed + 1, prompts_BKT)
    _save(path, {"free": free_BKT.numpy(), "prompted": prompted_BKT.numpy(), "twins": np.array(twins)})


def ask_whole(recipe: Recipe, asked: list[torch.Tensor], device: str, weights: Path, path: Path) -> None:
    """Losses of all queries under a finished model."""
    torch.set_num_threads(1)
    _save(path, {"losses": losses(with_weights(recipe, _read_models(weights)[path.stem], device), asked)})


def retrain(
    recipe: Recipe, training: Training, codes: list[torch.Tensor], asked: list[torch.Tensor], device: str, path: Path
) -> None:
    """Train a model, ask it about all queries, forget it."""
    torch.set_num_threads(1)
    *_, (_, model) = trained(recipe, training, codes, device)
    _save(path, {"losses": losses(model, asked)})


def _begin(place: Workplace, recipe: Recipe) -> None:
    # Parts of a bank of an older version are no good: its pieces were sampled wrongly.
    file, wanted = place.parts / "recipe.json", {"bank version": VERSION} | asdict(recipe)
    if not file.exists():
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(wanted))
        return
    begun = json.loads(file.read_text())
    begun["checkpoints"] = tuple(begun["checkpoints"])
    for name, value in wanted.items():
        if begun.get(name) != value:
            raise SpecificationMismatch(
                f"{place.out} was begun with {name} = {begun.get(name)}, not {value}; give another --out"
            )


def _made_up(
    place: Workplace, recordings: tuple[Recording, ...], model: Audited, seed: int
) -> tuple[list[Query], list[Query]]:
    """Read what a model made up freely, and how it went on from twins."""
    with np.load(place.queries(model)) as arrays:
        free, prompted = torch.from_numpy(arrays["free"]), torch.from_numpy(arrays["prompted"])
        return free_queries(model, free), continuations(recordings, model, arrays["twins"].tolist(), prompted, seed)


def _altered(place: Workplace, recordings: tuple[Recording, ...], positions: list[int], seed: int) -> list[Query]:
    copies: dict[tuple[int, str], torch.Tensor] = {}
    for position in positions:
        with np.load(place.altered(position)) as arrays:
            copies |= {(position, name): torch.from_numpy(arrays[name].astype(np.int64)) for name in arrays.files}
    return altered_queries(recordings, copies, seed)


def _wanted(place: Workplace, catalog: str) -> dict[str, Weights]:
    models = _read_models(place.model(catalog))
    # Methods ask for early weights of audited models only, and weights are most of a bank's size.
    return {name: weights for name, weights in models.items() if name != "reference-early"}


def _read_codes(path: Path) -> list[torch.Tensor]:
    with np.load(path) as arrays:
        return [torch.from_numpy(arrays[name].astype(np.int64)) for name in arrays.files]


def _read_models(path: Path) -> dict[str, Weights]:
    with np.load(path) as arrays:
        return unflat(arrays)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
