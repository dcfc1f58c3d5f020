"""The factorial set as it is measured: codes and evidence of every clip, made once and kept in a folder without audio.

Shape legend: n = clips, K = codebooks, T = frames, D = numbers of a vector.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lumina_ray.audio.chunk import cut_chunks
from lumina_ray.errors import UsageError
from lumina_ray.evidence.maps import maps_sha256
from lumina_ray.evidence.vectors import evidence_vectors
from lumina_ray.files import atomic_path
from lumina_ray.truth.factorial import Labels
from lumina_ray.truth.factorial_music import Clip, Part, Variant, clips, render_part
from lumina_ray.vocabulary import EVIDENCE, Evidence, SongCodes

if TYPE_CHECKING:
    from lumina_ray.model import MusicModel

RECIPE = 1
"""Version of the set. Raise it when equal packages come to give other clips, codes or evidence."""
_PACKAGES = ("music21", "mido", "tinysoundfont", "pretty_midi")
_DECODED_SCALE = 32_768

Step = Callable[[str], None]
"""Function that is called with the id of each clip that was made."""


@dataclass(frozen=True)
class FactorialSet:
    """Clips of one part, without their audio.

    Attributes:
        codes_nKT: uint16.
        heard_nT: bool, whether each frame holds sound.
        evidence: float32 `[n, D]` unit vectors, from the clips' audio.
        decoded: the same from audio that the codec decodes from the codes.
    """

    clips: tuple[Clip, ...]
    codes_nKT: np.ndarray
    heard_nT: np.ndarray
    evidence: dict[Evidence, np.ndarray]
    decoded: dict[Evidence, np.ndarray]

    @property
    def labels(self) -> Labels:
        """Score and ensemble of each clip."""
        return Labels(tuple(clip.score for clip in self.clips), tuple(clip.ensemble.name for clip in self.clips))

    def of_variant(self, variant: Variant) -> list[int]:
        """Give the places of the clips of a variant."""
        return [i for i, clip in enumerate(self.clips) if clip.variant == variant]

    @property
    def songs(self) -> list[SongCodes]:
        """The codes of each clip, as a fingerprint is made from them."""
        pairs = zip(self.codes_nKT, self.heard_nT, strict=True)
        return [SongCodes((codes_KT,), (0.0,), (heard_T,)) for codes_KT, heard_T in pairs]


def factorial_set(part: Part, folder: Path, model: "MusicModel", step: Step | None = None) -> FactorialSet:
    """Render a part and encode it, or read what was made in `folder` before from the same recipe and model.

    Args:
        part: which scores and ensembles.
        folder: where codes and evidence are kept; no audio is.
        model: its codec makes the codes.
        step: called after each clip that is made.

    Raises:
        UsageError: a package with scores or sounds is missing.
    """
    recipe, path = _recipe(part, model), folder / f"factorial-{part}.npz"
    made = _read(path, recipe)
    if made is None:
        made = _make(part, model, step)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, recipe=np.array(recipe), **made)
    return FactorialSet(
        clips(part),
        made["codes"],
        made["heard"],
        {name: made[name] for name in EVIDENCE},
        {name: made[f"decoded_{name}"] for name in EVIDENCE},
    )


def _make(part: Part, model: "MusicModel", step: Step | None) -> dict[str, Any]:
    import torch

    rows: dict[str, list[np.ndarray]] = {}
    for clip, samples in render_part(part):
        # A clip is as long as a chunk.
        (chunk,) = cut_chunks(samples, clip.clip_id)
        codes_KT = model.encode(chunk.samples / np.float32(_DECODED_SCALE)).cpu()
        row: dict[str, np.ndarray] = {"codes": codes_KT.numpy().astype(np.uint16), "heard": chunk.heard}
        row |= {str(name): vector for name, vector in evidence_vectors(chunk.samples).items()}
        decoded = np.clip(np.rint(model.decode(codes_KT.to(torch.int64)) * _DECODED_SCALE), -32_768, 32_767)
        row |= {f"decoded_{name}": vector for name, vector in evidence_vectors(decoded.astype(np.int16)).items()}
        for name, values in row.items():
            rows.setdefault(name, []).append(values)
        if step:
            step(clip.clip_id)
    return {name: np.stack(values) for name, values in rows.items()}


def _recipe(part: Part, model: "MusicModel") -> str:
    """A hash of all that decides what a part's codes and evidence are."""
    try:
        versions = {package: version(package) for package in _PACKAGES}
    except PackageNotFoundError as error:
        raise UsageError(
            f"the factorial set needs the package {error.name!r}, which is not installed: run `uv sync --extra demo`"
        ) from None
    text = json.dumps([RECIPE, versions, model.weights_sha256, maps_sha256(), [asdict(clip) for clip in clips(part)]])
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path, recipe: str) -> dict[str, Any] | None:
    """Read what was made; None where there is nothing, or something else."""
    try:
        with np.load(path) as arrays:
            return dict(arrays) if str(arrays["recipe"]) == recipe else None
    except (OSError, ValueError, KeyError, EOFError):
        return None
