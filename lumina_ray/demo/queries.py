"""Files that the demo asks about: a copy, a control, another generator's clip, and what the model itself makes up."""

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from lumina_ray.audio import load_audio
from lumina_ray.audio.encode import encode_mp3
from lumina_ray.catalog import read_manifest, write_manifest
from lumina_ray.catalog.manifest import manifest_of
from lumina_ray.errors import UsageError
from lumina_ray.fingerprint.codes import encode_prompt
from lumina_ray.model import AttributableModel
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

_MP3_BIT_RATE = 64_000
_PIECE_S = 10.0
_PROMPT_S = 3.0
_CAPTIONED = 2
_OWN_PIECES = 16
_SEED = 7


@dataclass(frozen=True)
class Query:
    """A file that the demo attributes.

    Attributes:
        name: stem of the report's files.
        path: the audio file.
        what: a description for people.
        kind: what ground-truth banks call queries of its kind (`lumina_ray.truth.power.Power.queries`).
    """

    name: str
    path: Path
    what: str
    kind: str


def hold_out_one(controls: Path, rest: Path) -> tuple[Path, Path]:
    """Remove the last control from the controls, so that the calibration knows it no better than any query.

    Args:
        controls: manifest of the controls.
        rest: path at which the manifest of the other controls is written.

    Returns:
        The audio file of the removed control, and `rest`.
    """
    table = read_manifest(controls)
    write_manifest(table.slice(0, len(table) - 1), rest)
    return Path(table["path"][-1].as_py()), rest


def make_own_pieces(model: AttributableModel, catalog: Path, folder: Path) -> Path:
    """Have a model make up music under captions of the catalog, by which provenance knows its output.

    Returns:
        The manifest of the pieces.
    """
    folder.mkdir(parents=True)
    rows = []
    for number, caption in enumerate(_captions(catalog)[_CAPTIONED:]):
        path = folder / f"{number:02}.flac"
        soundfile.write(path, model.generate(_PIECE_S, _SEED + number, text=caption), SAMPLE_RATE_HZ)
        rows.append({"song_id": path.stem, "path": path.name, "title": caption})
    manifest = folder / "pieces.parquet"
    write_manifest(manifest_of(rows), manifest)
    return manifest


def make_queries(
    model: AttributableModel, catalog: Path, control: Path, others: Path, folder: Path
) -> tuple[str, list[Query]]:
    """Write the files to attribute.

    Args:
        model: that was trained on the catalog.
        catalog, others: manifests of the catalog, and of another generator's clips.
        control: an audio file that neither the model nor the calibration knows.

    Returns:
        The id of the catalog song that the first query is a copy of, and the queries.
    """
    folder.mkdir(parents=True)
    songs = read_manifest(catalog).sort_by("song_id").to_pylist()
    copied, continued = songs[len(songs) // 2], songs[len(songs) // 3]
    copy = folder / "reencoded.mp3"
    encode_mp3(load_audio(copied["path"]).samples, copy, _MP3_BIT_RATE)
    title = f"“{copied['title']}” ({copied['song_id']})"
    queries = [Query("reencoded", copy, f"A catalog song as MP3 at 64 kbit/s: {title}", "altered mp3")]
    for number, caption in enumerate(_captions(catalog)[:_CAPTIONED]):
        path = folder / f"captioned-{number + 1}.flac"
        soundfile.write(path, model.generate(_PIECE_S, _SEED, text=caption), SAMPLE_RATE_HZ)
        queries.append(Query(path.stem, path, f"Made up by {model.name} under the caption “{caption}”", "guided"))
    continuation = folder / "continued.flac"
    if (samples := _continued(model, Path(continued["path"]))) is not None:
        soundfile.write(continuation, samples, SAMPLE_RATE_HZ)
        title = f"“{continued['title']}” ({continued['song_id']})"
        what = f"How {model.name} goes on from {_PROMPT_S:.0f} s of {title}"
        queries.append(Query("continued", continuation, what, "continued"))
    other = read_manifest(others).to_pylist()[0]
    return copied["song_id"], [
        *queries,
        Query("control", control, f"A control that neither model nor calibration ever saw: {control.stem}", "control"),
        Query("other-generator", Path(other["path"]), f"Made up by another model: “{other['title']}”", "foreign"),
    ]


def _captions(catalog: Path) -> list[str]:
    """Captions of the catalog, all different, in an order that follows from nothing but themselves."""
    different = sorted(set(read_manifest(catalog)["caption"].to_pylist()))
    return random.Random(_SEED).sample(different, _CAPTIONED + _OWN_PIECES)


def _continued(model: AttributableModel, song: Path) -> np.ndarray | None:
    """Let a model go on from the beginning of a song: float32 `[n]`, the beginning itself cut off.

    None where the model makes whole pieces alone.
    """
    prompt_KT = encode_prompt(model, load_audio(song).samples[: round(_PROMPT_S * SAMPLE_RATE_HZ)], str(song))
    try:
        samples = model.generate(_PIECE_S, _SEED, prompt_KT=prompt_KT)
    except UsageError:
        return None
    return samples[round(prompt_KT.shape[1] / model.frame_rate_hz * SAMPLE_RATE_HZ) :]
