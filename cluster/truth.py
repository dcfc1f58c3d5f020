"""Build a ground-truth bank: retrain small models on many parts of a catalog.

Resumable: what is on disk is not redone.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
from lumina_ray.audio import cut_chunks
from lumina_ray.audio.level import FRAME_SAMPLES
from lumina_ray.errors import AudioError, SpecificationMismatch
from lumina_ray.files import atomic_path
from lumina_ray.fingerprint import encode_song
from lumina_ray.model import AttributableModel
from lumina_ray.model.open import open_model
from lumina_ray.training.captions import vocabulary
from lumina_ray.truth.alterations import altered_copies
from lumina_ray.truth.bank import BASE, TEXT, VERSION, Bank, save_bank
from lumina_ray.truth.corpus import Audited, Recording, corpus, members, play, record
from lumina_ray.truth.models import (
    Start,
    TextParts,
    Weights,
    flat,
    trained,
    trained_base,
    unflat,
    weights_of,
    with_weights,
)
from lumina_ray.truth.pieces import Order, make_pieces, orders, piece_queries
from lumina_ray.truth.queries import TRAINED_FRAMES, Piece, Query, altered_queries, losses, real_queries, songs_to_alter
from lumina_ray.truth.recipe import NANO, SMALL, Recipe, Training, retrainings, whole_catalogs

SIZES = {"small": SMALL, "nano": NANO}
Asked = list[tuple[torch.Tensor, str]]
"""Codes of queries, int64 `[K, T]`, and the texts that their losses are under; "" is the fixed text."""
# Recordings that one task encodes, in minutes: a lost machine loses no more.
RECORDINGS_PER_TASK = 20
_RETRIES = 3
# Small models leave most of a GPU idle.
_GPU_FRACTION = 0.25
_MAKERS = ("A", "B", "reference")
"""Models that make pieces up."""
_EARLY = ("A-early", "B-early", "reference-early")
"""Early models that a bank keeps: of the audited ones, and of one that stands in for them with its own companions."""


@dataclass(frozen=True)
class Workplace:
    """Where the parts of a bank lie until it is whole."""

    out: Path

    @property
    def parts(self) -> Path:
        return self.out / "parts"

    def music(self, number: int) -> Path:
        return self.parts / "music" / f"{number:03}.npz"

    def altered(self, position: int) -> Path:
        return self.parts / "altered" / f"{position:03}.npz"

    def model(self, name: str) -> Path:
        return self.parts / "models" / f"{name}.npz"

    def pieces(self, model: str) -> Path:
        return self.parts / "pieces" / f"{model}.npz"

    def losses(self, name: str) -> Path:
        return self.parts / "losses" / f"{name}.npz"


@dataclass(frozen=True)
class Music:
    """The encoded corpus, by position.

    Attributes:
        learned: what models learn from.
        excerpts: what follows.
        captions: of every recording.
    """

    learned: list[Piece]
    excerpts: list[Piece]
    captions: tuple[str, ...]

    @property
    def codes(self) -> list[torch.Tensor]:
        """Codes of `learned`, int64 `[K, T]` each."""
        return [piece.codes_KT for piece in self.learned]


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
        parts = [recordings[i : i + RECORDINGS_PER_TASK] for i in range(0, len(recordings), RECORDINGS_PER_TASK)]
        run("Recordings", encode_recordings, [(place.music(i), (part, "nano")) for i, part in enumerate(parts)])
        music = read_music([place.music(i) for i in range(len(parts))])
        altered = songs_to_alter(recordings, recipe.seed)
        run("Altered copies", encode_altered, [(place.altered(i), (recordings[i],)) for i in altered])
        run("Base model", train_base, [(place.model(BASE), (recipe, recordings, music, device))])
        start = _read_start(place, music)
        shared, begun = ray.put(music.codes), ray.put(start)
        whole = whole_catalogs(recipe, recordings)
        run("Models of whole catalogs", train_whole, [
            (place.model(training.name), (recipe, training, shared, begun, device)) for training in whole
        ])  # fmt: skip
        wanted = {name: orders(recipe, name, recordings, music.captions) for name in _MAKERS}
        run("Pieces", make, [
            (place.pieces(name), (recipe, name, of, shared, begun, device, place.model(name)))
            for name, of in wanted.items()
        ])  # fmt: skip
        queries, extra = _queries(place, recipe, recordings, music, altered, wanted)
        asked = ray.put([(query.codes_KT, query.caption) for query in queries])
        of_subsets = retrainings(recipe, recordings, music.captions)
        run("Losses of whole catalogs", ask_whole, [
            (place.losses(training.name), (recipe, asked, begun, device, place.model(training.name)))
            for training in whole
        ])  # fmt: skip
        run("Retrained models", retrain, [
            (place.losses(training.name), (recipe, training, shared, asked, begun, device, place.model(training.name)))
            for training in of_subsets
        ])  # fmt: skip
    trainings = [*whole, *of_subsets]
    bank = Bank(
        recipe,
        recordings,
        music.codes,
        queries,
        extra,
        {BASE: start.weights} | {n: w for training in whole for n, w in _wanted(place, training.name).items()},
        trainings,
        np.stack([np.load(place.losses(training.name))["losses"] for training in trainings]),
        music.captions,
        start.text,
        [piece.heard_T for piece in music.learned],
    )
    save_bank(bank, place.out)
    return bank


def training_device() -> str:
    """Where the models of a bank are trained on this cluster."""
    return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"


def run_missing(
    what: str,
    task: Callable[..., None],
    jobs: Sequence[tuple[Path, tuple[Any, ...]]],
    console: Console,
    gpus: float = _GPU_FRACTION,
) -> None:
    """Run a task on Ray for every file that is not there yet, with its arguments and then the file's path.

    Args:
        gpus: that a task takes, where the cluster has any.
    """
    gpus = gpus if training_device() == "cuda" else 0
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=_RETRIES)(task)
    missing = [(*arguments, path) for path, arguments in jobs if not path.exists()]
    with show_steps(what, len(missing), console) as step:
        waiting = [remote.remote(*arguments) for arguments in missing]
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
            step()


def encode_recordings(recordings: tuple[Recording, ...], model_name: str, path: Path) -> None:
    """Render recordings and encode, with a model's codec and as fingerprints do, what models learn and what follows."""
    torch.set_num_threads(1)
    model, out = open_model(model_name, "cpu"), dict[str, np.ndarray]()
    end = TRAINED_FRAMES * FRAME_SAMPLES
    for recording in recordings:
        played = play(recording)
        for name, where in (("learned", slice(end)), ("excerpt", slice(end, None))):
            codes_KT, heard_T = _encoded(model, played.samples[where])
            out |= {f"{recording.recording_id}/{name}": codes_KT, f"{recording.recording_id}/{name}-heard": heard_T}
        out[f"{recording.recording_id}/caption"] = np.array(played.caption)
    save(path, out)


def encode_altered(recording: Recording, path: Path) -> None:
    """Encode every altered copy of a recording, but for those that are refused as silent."""
    torch.set_num_threads(1)
    model, out = open_model("nano", "cpu"), dict[str, np.ndarray]()
    for name, copy in altered_copies(record(recording)).items():
        with suppress(AudioError):
            out[name], out[f"{name}-heard"] = _encoded(model, copy)
    save(path, out)


def train_base(recipe: Recipe, recordings: tuple[Recording, ...], music: Music, device: str, path: Path) -> None:
    """Train the model that all others start from."""
    torch.set_num_threads(1)
    learned = [i for i, recording in enumerate(recordings) if recording.role == "base"]
    words = vocabulary(music.captions)
    weights, text = trained_base(
        recipe, [music.codes[i] for i in learned], [music.captions[i] for i in learned], words, device
    )
    save(path, flat({BASE: weights, TEXT: text.weights}) | {"words": np.array(words)})


def train_whole(
    recipe: Recipe, training: Training, codes: list[torch.Tensor], start: Start, device: str, path: Path
) -> None:
    """Train a model of a whole catalog and keep it at each checkpoint."""
    torch.set_num_threads(1)
    kept: dict[str, Weights] = {}
    for fraction, model in trained(recipe, training, codes, start, device):
        name = training.name if fraction == recipe.checkpoints[-1] else f"{training.name}-early"
        kept[name] = weights_of(model)
    save(path, flat(kept))


def make(
    recipe: Recipe, name: str, wanted: tuple[Order, ...], codes: list[torch.Tensor], start: Start, device: str,
    weights: Path, path: Path,
) -> None:  # fmt: skip
    """Sample what is ordered from a model."""
    torch.set_num_threads(1)
    model = with_weights(recipe, _read_models(weights)[name], start.text, device)
    made = make_pieces(recipe, model, wanted, codes)
    save(path, {str(i): codes_BKT.numpy().astype(np.uint16) for i, codes_BKT in enumerate(made)})


def ask_whole(recipe: Recipe, asked: Asked, start: Start, device: str, weights: Path, path: Path) -> None:
    """Losses of all queries under a finished model."""
    torch.set_num_threads(1)
    model = with_weights(recipe, _read_models(weights)[path.stem], start.text, device)
    save(path, {"losses": losses(model, *_unzipped(asked))})


def retrain(
    recipe: Recipe,
    training: Training,
    codes: list[torch.Tensor],
    asked: Asked,
    start: Start,
    device: str,
    weights: Path,
    path: Path,
) -> None:
    """Train a model, keep it, and ask it about all queries."""
    torch.set_num_threads(1)
    if not weights.exists():
        *_, (_, model) = trained(recipe, training, codes, start, device)
        save(weights, flat({training.name: weights_of(model)}))
    model = with_weights(recipe, _read_models(weights)[training.name], start.text, device)
    save(path, {"losses": losses(model, *_unzipped(asked))})


def train_and_ask(
    recipe: Recipe, training: Training, codes: list[torch.Tensor], asked: Asked, start: Start, device: str, path: Path
) -> None:
    """Train a model that nobody needs again, and ask it about all queries."""
    torch.set_num_threads(1)
    *_, (_, model) = trained(recipe, training, codes, start, device)
    save(path, {"losses": losses(model, *_unzipped(asked))})


def _unzipped(asked: Asked) -> tuple[list[torch.Tensor], list[str]]:
    return [codes_KT for codes_KT, _ in asked], [caption for _, caption in asked]


def _encoded(model: AttributableModel, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes or latents as stores have them, chunk after chunk, `[K, T]`, and which frames are heard, bool `[T]`."""
    song = encode_song(model, cut_chunks(samples))
    return np.concatenate(song.chunks, axis=1), np.concatenate(song.heard)


def _begin(place: Workplace, recipe: Recipe) -> None:
    # Parts of another version would be mixed in unseen.
    begin(place, {"bank version": VERSION} | asdict(recipe))


def begin(place: Workplace, settings: Mapping[str, Any]) -> None:
    """Note what a bank is built by, or check that an interrupted build was begun by the same.

    Raises:
        SpecificationMismatch: it was not.
    """
    file, wanted = place.parts / "recipe.json", json.loads(json.dumps(settings))
    if not file.exists():
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(wanted))
        return
    begun = json.loads(file.read_text())
    for name, value in wanted.items():
        if begun.get(name) != value:
            raise SpecificationMismatch(
                f"{place.out} was begun with {name} = {begun.get(name)}, not {value}; give another --out"
            )


def read_music(paths: Sequence[Path]) -> Music:
    """Read what `encode_recordings` wrote."""
    learned, excerpts, captions = [], [], []
    for path in paths:
        with np.load(path) as arrays:
            for name in arrays.files:
                match name.rpartition("/")[2]:
                    case "learned":
                        learned.append(_piece(arrays, name))
                    case "excerpt":
                        excerpts.append(_piece(arrays, name))
                    case "caption":
                        captions.append(str(arrays[name]))
    return Music(learned, excerpts, tuple(captions))


def _piece(arrays: Mapping[str, np.ndarray], name: str) -> Piece:
    stored = arrays[name]
    computed = np.int64 if stored.dtype.kind == "u" else np.float32
    return Piece(torch.from_numpy(stored.astype(computed)), torch.from_numpy(arrays[f"{name}-heard"]))


def _read_start(place: Workplace, music: Music) -> Start:
    with np.load(place.model(BASE)) as arrays:
        words = tuple(arrays["words"].tolist())
        models = unflat({name: arrays[name] for name in arrays.files if name != "words"})
    return Start(models[BASE], TextParts(words, models[TEXT]), music.captions)


def _queries(
    place: Workplace,
    recipe: Recipe,
    recordings: tuple[Recording, ...],
    music: Music,
    altered: list[int],
    wanted: dict[str, tuple[Order, ...]],
) -> tuple[list[Query], list[Query]]:
    """The queries that all models are asked about, and those that need no losses."""
    of_maker: dict[str, list[Query]] = {}
    for name, of in wanted.items():
        with np.load(place.pieces(name)) as arrays:
            made = [torch.from_numpy(arrays[str(i)].astype(np.int64)) for i in range(len(of))]
        model: Audited = "B" if name == "B" else "A"
        of_maker[name] = list(piece_queries(recordings, model, of, made, recipe.seed))
    own = {-1, *members(recordings, "A")}
    asked = [
        *real_queries(recordings, music.learned, dict(enumerate(music.excerpts)), recipe.seed),
        *(query for query in of_maker["A"] if query.recording in own),
        *of_maker["reference"],
        *_altered(place, recordings, altered, recipe.seed),
    ]
    # The twin test alone asks about continuations of what model A does not know.
    return asked, [*(query for query in of_maker["A"] if query.recording not in own), *of_maker["B"]]


def _altered(place: Workplace, recordings: tuple[Recording, ...], positions: list[int], seed: int) -> list[Query]:
    copies: dict[tuple[int, str], Piece] = {}
    for position in positions:
        with np.load(place.altered(position)) as arrays:
            names = [name for name in arrays.files if not name.endswith("-heard")]
            copies |= {(position, name): _piece(arrays, name) for name in names}
    return altered_queries(recordings, copies, seed)


def _wanted(place: Workplace, catalog: str) -> dict[str, Weights]:
    models = _read_models(place.model(catalog))
    # Weights are most of a bank's size.
    return {name: weights for name, weights in models.items() if not name.endswith("-early") or name in _EARLY}


def _read_models(path: Path) -> dict[str, Weights]:
    with np.load(path) as arrays:
        return unflat(arrays)


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
