"""dattri's published benchmark of a Music Transformer on MAESTRO, read from the folder that dattri downloads it to.

    FOLDER/benchmark/maestro_musictransformer/models_full/0/model_weights_0.pt …    models of all segments, by seed
    FOLDER/benchmark/maestro_musictransformer/models_half/0/model_weights_0.pt …    models of random halves of them
    FOLDER/benchmark/maestro_musictransformer/lds/indices_lds.pt                    segments of each half, [R, N / 2]
    FOLDER/benchmark/maestro_musictransformer/lds/target_values_lds.pt              of queries under each half, [R, Q]
    FOLDER/dataset/maestro-v2.0.0-processed/train/*.pickle                          events of MAESTRO's pieces
    FOLDER/dataset/generated_music/*.pickle                                         events that a model made

Source: dattri 0.3.0, `dattri.benchmark.load` and `experiments/benchmark_result_mt.py`.

Shape legend: R = retrained models, N = segments, Q = queries, n = either, T = events of a segment.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from lumina_ray.errors import StoreError
from lumina_ray.symbolic.dattri_model import AGAIN, read_model, read_torch
from lumina_ray.symbolic.events import N_EVENTS

MAX_EVENT_FILES = 10_000
MAX_EVENT_BYTES = 16 << 20
"""The most files of a folder of events, and the largest one, that are read; MAESTRO has 967 of well under 1 MiB."""
MAX_QUERIES = 100_000
_BENCHMARK = Path("benchmark", "maestro_musictransformer")
_TRAIN = Path("dataset", "maestro-v2.0.0-processed", "train")
_GENERATED = Path("dataset", "generated_music")


@dataclass(frozen=True)
class DattriRecipe:
    """Choices of the benchmark.

    Attributes:
        segments: N, the first ones of MAESTRO's training pieces.
        models: how many full models TracIn takes, and how many models of halves TRAK takes.
        weight: of each model in TracIn's sum.
        dims: numbers of a gradient that TRAK projects to.
    """

    segments: int = 5000
    models: int = 10
    weight: float = 1e-3
    dims: int = 2048


PUBLISHED_RECIPE = DattriRecipe()


@dataclass(frozen=True)
class Segments:
    """Pieces of files, each as long as a model's window and one event, whose loss is the segment's.

    Attributes:
        events_nT: int64.
        files: name of the file that each is from.
        drawn: how many dattri begins at a random place of their file, each time that it reads them: the first of every
            file that has more events. Here they begin with the file.
    """

    events_nT: np.ndarray
    files: tuple[str, ...]
    drawn: int


@dataclass(frozen=True)
class DattriBenchmark:
    """Everything that the recipe takes.

    Attributes:
        full, half: weights of the models that are used.
        segments: what models learned from.
        queries: what a model made.
        masks_RN: bool, the segments that each retrained model learned from.
        targets_RQ: float64, target values of queries under each retrained model; may be no numbers.
    """

    recipe: DattriRecipe
    full: tuple[Path, ...]
    half: tuple[Path, ...]
    segments: Segments
    queries: Segments
    masks_RN: np.ndarray
    targets_RQ: np.ndarray


def read_benchmark(folder: Path, recipe: DattriRecipe = PUBLISHED_RECIPE) -> DattriBenchmark:
    """Read the benchmark, all but the models' weights.

    Raises:
        StoreError: something is missing or damaged, or does not fit the rest.
    """
    root = folder / _BENCHMARK
    if not root.is_dir():
        raise StoreError(
            f"{folder}: has no folder {_BENCHMARK.as_posix()}; give the folder that dattri downloads to, ~/.dattri by "
            f"default, or {AGAIN}"
        )
    full, half = (_weights(root / name, recipe.models) for name in ("models_full", "models_half"))
    window = read_model(full[0]).window
    segments = read_segments(folder / _TRAIN, window, recipe.segments)
    if len(segments.files) < recipe.segments:
        raise StoreError(
            f"{folder / _TRAIN}: holds {len(segments.files)} segments of {window + 1} events, and the benchmark takes "
            f"{recipe.segments}; {AGAIN}"
        )
    queries = read_segments(folder / _GENERATED, window, MAX_QUERIES)
    if not queries.files:
        raise StoreError(f"{folder / _GENERATED}: no file has {window + 1} events; {AGAIN}")
    masks_RN = _masks(root / "lds" / "indices_lds.pt", recipe.segments)
    targets_RQ = _targets(root / "lds" / "target_values_lds.pt", len(masks_RN), len(queries.files), folder / _GENERATED)
    return DattriBenchmark(recipe, full, half, segments, queries, masks_RN, targets_RQ)


def read_segments(folder: Path, window: int, most: int) -> Segments:
    """Cut files of events, in the order of their names, into segments that follow each other.

    A segment begins at every `window` events, as long as it ends within its file.

    Args:
        most: how many segments are read at most.

    Raises:
        StoreError: the folder is missing or has too many files, or a file cannot be read.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder; {AGAIN}")
    paths = sorted((path for path in folder.iterdir() if path.is_file()), key=lambda path: path.name)
    if len(paths) > MAX_EVENT_FILES:
        raise StoreError(f"{folder}: has {len(paths)} files, and {MAX_EVENT_FILES} can be read; {AGAIN}")
    found: list[np.ndarray] = []
    files: list[str] = []
    drawn = 0
    for path in paths:
        events = _events(path)
        starts = range(0, len(events) - window, window)[: most - len(found)]
        found += [events[start : start + window + 1] for start in starts]
        files += [path.name] * len(starts)
        drawn += bool(starts) and len(events) > window + 1
        if len(found) == most:
            break
    return Segments(np.stack(found) if found else np.empty((0, window + 1), np.int64), tuple(files), drawn)


class _PlainUnpickler(pickle.Unpickler):
    """Reads lists and numbers; a pickle that asks for anything else may run code."""

    def find_class(self, module_name: str, global_name: str) -> None:
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}")


def _events(path: Path) -> np.ndarray:
    """Events of a file that dattri's processing of MIDI wrote, int64."""
    if (size := path.stat().st_size) > MAX_EVENT_BYTES:
        raise StoreError(f"{path}: has {size} bytes, and {MAX_EVENT_BYTES} can be read; {AGAIN}")
    try:
        with path.open("rb") as file:
            found = _PlainUnpickler(file).load()
    except Exception as error:
        # Damaged pickles raise anything.
        raise StoreError(f"{path}: is no pickled list of events ({error}); remove it, or {AGAIN}") from error
    # An end may come after the events; what fills short sequences up is in no file.
    if not isinstance(found, list) or not all(type(event) is int and 0 <= event <= N_EVENTS for event in found):
        raise StoreError(f"{path}: is no list of events from 0 to {N_EVENTS}; remove it, or {AGAIN}")
    return np.array(found, np.int64)


def _weights(folder: Path, n: int) -> tuple[Path, ...]:
    paths = tuple(folder / str(number) / "model_weights_0.pt" for number in range(n))
    for path in paths:
        if not path.is_file():
            raise StoreError(f"{path}: no such file, and the recipe takes the first {n} models there; {AGAIN}")
    return paths


def _masks(path: Path, n_segments: int) -> np.ndarray:
    """Segments of each retrained model, bool `[R, N]`."""
    indices = _matrix(path)
    if indices.is_floating_point():
        raise StoreError(f"{path}: must be whole numbers, and is {indices.dtype}; {AGAIN}")
    if not 0 <= int(indices.min()) <= int(indices.max()) < n_segments:
        raise StoreError(
            f"{path}: must be numbers of segments from 0 to {n_segments - 1}, and goes from {int(indices.min())} to "
            f"{int(indices.max())}; {AGAIN}"
        )
    masks_RN = np.zeros((len(indices), n_segments), bool)
    np.put_along_axis(masks_RN, indices.numpy().astype(np.int64), True, axis=1)
    if (masks_RN.sum(axis=1) < indices.shape[1]).any():
        raise StoreError(f"{path}: names a segment twice in a row; {AGAIN}")
    return masks_RN


def _targets(path: Path, n_models: int, n_queries: int, queries: Path) -> np.ndarray:
    targets = _matrix(path)
    if targets.shape != (n_models, n_queries):
        raise StoreError(
            f"{path}: has the shape {tuple(targets.shape)}, but indices_lds.pt has {n_models} models, and {queries} "
            f"{n_queries} segments; {AGAIN}"
        )
    return targets.double().numpy()


def _matrix(path: Path) -> Tensor:
    found = read_torch(path)
    if not isinstance(found, Tensor) or found.ndim != 2 or not found.numel() or found.is_complex():
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise StoreError(f"{path}: must be a matrix of real numbers, and is {shape}; {AGAIN}")
    return found.detach()
