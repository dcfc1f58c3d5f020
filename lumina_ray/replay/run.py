"""A run: a recorded fine-tuning of a model, in a folder that holds everything that its replay needs.

Layout, besides that of a record (`lumina_ray.replay.record`):

    songs.safetensors    codes of the songs, with their ids and captions
    model/               the finished model, with what is measured on the songs; written last
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lumina_ray.errors import SpecificationMismatch, StoreError
from lumina_ray.files import atomic_path
from lumina_ray.model.companion import COMPANION_FILE
from lumina_ray.replay.learner import DecoderLearner
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.record import RUN_FILE, open_record, read_run, state_path
from lumina_ray.replay.training import Training
from lumina_ray.truth.own_model import open_decoder, save_model
from lumina_ray.truth.queries import Piece

SONGS_FILE = "songs.safetensors"
MODEL_FOLDER = "model"


@dataclass(frozen=True)
class RunSongs:
    """Songs that a run learns from, in the order of its derivatives.

    Attributes:
        ids: in the store that they are from.
        captions: None for a song without.
        pieces: the songs, each as codes, with which frames of it hold sound.
    """

    ids: tuple[str, ...]
    captions: tuple[str | None, ...]
    pieces: tuple[Piece, ...]

    def training(self, learner: DecoderLearner, plan: Plan) -> Training:
        """Make a training on these songs; the learner's weights are the start."""
        return Training(learner, [piece.codes_KT for piece in self.pieces], self.captions, plan)

    def tensors(self) -> dict[str, Tensor]:
        """Give all pieces as a file has them."""
        named: dict[str, Tensor] = {}
        for i, piece in enumerate(self.pieces):
            named |= {f"codes {i}": piece.codes_KT.to(torch.int32).contiguous(), f"heard {i}": piece.heard_T}
        return named


def keep_songs(songs: RunSongs, folder: Path) -> None:
    """Write the songs of a run, or compare them with those that it was begun with.

    Raises:
        SpecificationMismatch: it was begun with others.
        StoreError: the songs that are there are damaged.
    """
    path = folder / SONGS_FILE
    if path.exists():
        found = load_songs(folder)
        same = (found.ids, found.captions) == (songs.ids, songs.captions)
        if not same or not all(map(torch.equal, found.tensors().values(), songs.tensors().values())):
            raise SpecificationMismatch(f"{folder}: was begun with other songs or captions; choose another folder")
        return
    with atomic_path(path) as temporary:
        metadata = {"ids": json.dumps(songs.ids), "captions": json.dumps(songs.captions)}
        save_file(songs.tensors(), temporary, metadata)


def load_songs(folder: Path) -> RunSongs:
    """Read the songs of a run.

    Raises:
        StoreError: there are none, or they are damaged.
    """
    path = folder / SONGS_FILE
    if not path.is_file():
        raise StoreError(f"{folder}: no run (no {SONGS_FILE}); `lumina train` makes one")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            ids, captions = (tuple(json.loads(metadata[name])) for name in ("ids", "captions"))
            pieces = tuple(
                Piece(file.get_tensor(f"codes {i}").to(torch.int64), file.get_tensor(f"heard {i}"))
                for i in range(len(ids))
            )
    except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
        raise StoreError(f"{path}: damaged ({error}); train again in another folder") from error
    return RunSongs(ids, captions, pieces)


def begin_training(base: str, folder: Path, plan: Plan) -> Training:
    """Make the training of a run from the model that it starts from.

    Raises:
        ModelError: the model is not at hand, or cannot be fine-tuned.
    """
    return load_songs(folder).training(DecoderLearner(open_decoder(base)), plan)


def open_training(folder: Path) -> Training:
    """Make the training of a finished run again, from what is in its folder.

    Raises:
        StoreError: the run is not finished, or damaged.
    """
    check_finished(folder)
    songs, learner = load_songs(folder), DecoderLearner(open_decoder(str(folder / MODEL_FOLDER)))
    try:
        values = read_run(folder)["plan"]
        plan = Plan(**values | {"betas": tuple(values["betas"])})
        with safe_open(state_path(folder, 0), "pt") as file:
            start_P = file.get_tensor("theta")
        parameters = list(learner.module.parameters())
        parts = start_P.split([parameter.numel() for parameter in parameters])
        with torch.no_grad():
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.copy_(part.view(parameter.shape))
    except (SafetensorError, KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        raise StoreError(f"{folder}: a damaged run ({error}); train again in another folder") from error
    return songs.training(learner, plan)


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a run that is trained and whose model is written."""
    return (folder / RUN_FILE).is_file() and (folder / MODEL_FOLDER / COMPANION_FILE).is_file()


def check_finished(folder: Path) -> None:
    """Refuse a folder that holds no finished run.

    Raises:
        StoreError: it does not.
    """
    if not is_finished(folder):
        raise StoreError(f"{folder}: no finished run; `lumina train` makes one, and goes on with one it began")


def write_model(base: str, folder: Path, plan: Plan) -> None:
    """Write the finished model of a recorded run, in float32: these very weights are what a replay ends with."""
    songs, model = load_songs(folder), open_decoder(base)
    training = songs.training(DecoderLearner(model), plan)
    record = open_record(folder, training)
    training.set_weights(record.state(len(training.steps)).theta_P)
    save_model(model, base, songs.pieces, folder / MODEL_FOLDER)
