"""Makes a copy of a model that has forgotten some songs of its catalog: an approximation of training without them.

The step is the one that attribution takes (`lumina_ray.unlearning.unlearn`), only longer. What it did is measured on
the songs, on other songs of the catalog and on controls, and written down beside the copy.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file
from torch import nn

from lumina_ray.errors import ModelError, UnlearningError, UsageError
from lumina_ray.files import atomic_path
from lumina_ray.model.companion import COMPANION_FILE
from lumina_ray.model.fisher import FISHER_FILE, Fisher
from lumina_ray.model.interface import AttributableModel
from lumina_ray.model.statistics import STATISTICS_FILE
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.unlearning.losses import code_losses, song_loss
from lumina_ray.unlearning.select import select_parts
from lumina_ray.unlearning.unlearn import Forgetting, unlearned
from lumina_ray.vocabulary import SongCodes

RECORD_FILE = "forgotten.json"
FORGET_NATS = 0.05
"""How far the loss of forgotten songs rises by default, in nats per code."""
FORGET_STEPS = 5
WHAT_IT_IS = (
    "An approximation of a training without the songs: weights were moved until the songs' loss had risen by a given "
    "amount. It proves neither that nothing of the songs is left nor that the model is one that never saw them."
)
_WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class GroupLosses:
    """Losses of a group of songs, in nats per code.

    Attributes:
        songs: how many.
        before, after: mean loss of a song.
        rise: mean rise.
        rise_sd: standard deviation of a song's rise; 0 for one song.
    """

    songs: int
    before: float
    after: float
    rise: float
    rise_sd: float


@dataclass(frozen=True)
class ForgetReport:
    """What forgetting songs did.

    Attributes:
        weights_sha256: hash of the weights of the model before.
        fisher_sha256: hash of the Fisher information.
        settings: of the forgetting.
        song_ids: of the forgotten songs.
        groups: "forgotten", "rest" (other songs of the catalog) and "controls" (songs that the model never saw).
        what_it_is: for people.
    """

    weights_sha256: str
    fisher_sha256: str
    settings: Mapping[str, str | float | int | bool]
    song_ids: tuple[str, ...]
    groups: Mapping[str, GroupLosses]
    what_it_is: str = WHAT_IT_IS

    def to_dict(self) -> dict:
        """Plain JSON values."""
        return asdict(self)


def joined(songs: Sequence[SongCodes]) -> SongCodes:
    """Songs as one, chunk after chunk: its loss is a mean over the codes of all."""
    if not songs:
        raise UsageError("no songs to forget; name at least one")
    return SongCodes(
        tuple(chunk for song in songs for chunk in song.chunks),
        tuple(start_s for song in songs for start_s in song.starts_s),
        tuple(heard for song in songs for heard in song.heard),
    )


def forget(
    model: AttributableModel,
    songs: Mapping[str, SongCodes],
    groups: Mapping[str, Sequence[SongCodes]],
    fisher: Fisher,
    how: Forgetting,
    out: Path | None = None,
) -> ForgetReport:
    """Forget songs for the time of a measurement, and write the model down as it is then. The model is then as before.

    Args:
        songs: to forget, by id.
        groups: other songs whose losses are measured, by name.
        out: a folder for the copy; none by default.

    Raises:
        ModelError: the copy cannot be made of a model of this format.
        UsageError: no songs, or `out` is not empty.
        Others as `unlearned`.
    """
    ids = tuple(sorted(songs))
    measured = {"forgotten": [songs[song_id] for song_id in ids]} | {name: list(of) for name, of in groups.items()}
    if out is not None:
        check_copy(model, out)
    before = {name: _losses(model, of) for name, of in measured.items()}
    sha256 = model.weights_sha256
    with unlearned(model, joined(measured["forgotten"]), fisher, how):
        after = {name: _losses(model, of) for name, of in measured.items()}
        report = ForgetReport(
            weights_sha256=sha256,
            fisher_sha256=fisher.sha256,
            settings=asdict(how),
            song_ids=ids,
            groups={name: _group(before[name], after[name]) for name in measured},
        )
        if out is not None:
            _write_copy(model, out, how, report)
    return report


def check_copy(model: AttributableModel, out: Path) -> None:
    """Check that a copy of a model with other weights can be written.

    Raises:
        ModelError: see `check_format`.
        UsageError: the folder is not empty.
    """
    check_format(model)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: is there already; choose another --out")


def check_format(model: AttributableModel) -> None:
    """Check that a model is of the format that copies with other weights are written in.

    Raises:
        ModelError: it is in another one, or in memory only.
    """
    if model.folder is None or not isinstance(model, TransformersMusicGen):
        raise ModelError(f"model {model.name!r}: only a copy of a folder in the transformers format can be written")
    if not (model.folder / _WEIGHTS_FILE).is_file():
        raise ModelError(f"{model.folder}: has no {_WEIGHTS_FILE}; save the model in one file first")


def _write_copy(model: AttributableModel, out: Path, how: Forgetting, report: ForgetReport) -> None:
    assert isinstance(model, TransformersMusicGen)
    told = json.dumps(report.to_dict(), indent=1, sort_keys=True) + "\n"
    write_copy(model, out, [part.parameter for part in select_parts(model, how.layers)], {RECORD_FILE: told})


def write_copy(
    model: TransformersMusicGen, out: Path, changed: Sequence[nn.Parameter], texts: Mapping[str, str]
) -> None:
    """Write a copy of a model's folder in which some weights are those of the model as it is now.

    Changed weights are in float32, where half precision would round a small step away. Weights come last: without them
    there is no model. What was measured with the former weights is left out.

    Args:
        texts: files that the copy gets besides, by name.

    Raises:
        ModelError: the folder's file lacks one of these weights.
    """
    assert model.folder is not None
    places = set(map(id, changed))
    tensors = load_file(model.folder / _WEIGHTS_FILE)
    new = {name: p.detach().cpu().contiguous() for name, p in model.model.named_parameters() if id(p) in places}
    if missing := new.keys() - tensors.keys():
        raise ModelError(f"{model.folder / _WEIGHTS_FILE}: lacks {sorted(missing)[0]}; save the model again")
    out.mkdir(parents=True, exist_ok=True)
    left_out = {COMPANION_FILE, FISHER_FILE, STATISTICS_FILE, _WEIGHTS_FILE, RECORD_FILE}
    for path in model.folder.iterdir():
        if path.is_file() and path.name not in left_out:
            shutil.copyfile(path, out / path.name)
    for name, text in texts.items():
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with atomic_path(out / _WEIGHTS_FILE) as temporary:
        save_file(tensors | new, temporary, metadata={"format": "pt"})


def _losses(model: AttributableModel, songs: Sequence[SongCodes]) -> np.ndarray:
    return np.array([song_loss(code_losses(model, song)) for song in songs])


def _group(before_N: np.ndarray, after_N: np.ndarray) -> GroupLosses:
    if not len(before_N):
        raise UnlearningError("a group of songs to measure is empty; leave it out")
    rise_N = after_N - before_N
    sd = float(rise_N.std(ddof=1)) if len(rise_N) > 1 else 0.0
    return GroupLosses(len(rise_N), float(before_N.mean()), float(after_N.mean()), float(rise_N.mean()), sd)
