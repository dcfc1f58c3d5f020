"""A store's calibration: both channels, pinned to the data that it was measured on."""

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from lumina_ray.calibration.controls import Guarantee, KindOfControls, Unlikeness
from lumina_ray.calibration.gate import Gate
from lumina_ray.calibration.null import CatalogNoise, ChannelCalibration, calibrate, check_enough
from lumina_ray.calibration.numerics import use_one_blas_thread
from lumina_ray.calibration.profile import ModelProfile, profile_of
from lumina_ray.calibration.reliability import ScoreReliability, measure_reliability
from lumina_ray.calibration.shared import Shared, measure_shared, write_shared
from lumina_ray.calibration.standard import Reference, SongNoise
from lumina_ray.calibration.vectors import opened, store_sha256, take, usable_songs
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.files import atomic_path
from lumina_ray.storage import AnyPath, Location, locate
from lumina_ray.vocabulary import CHANNELS, Channel

if TYPE_CHECKING:
    from lumina_ray.store import Store

CALIBRATION_FILE = "calibration.json"
SONG_NOISE_FILE = "song_noise.parquet"
CALIBRATION_VERSION: Literal[2] = 2
"""Calibrations before 2 judged each channel by itself, and no song by what controls find alike to it."""


class Calibration(BaseModel):
    """The noise of each channel, the gate, and the stores that they were measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format_version: Literal[2] = CALIBRATION_VERSION
    specification_sha256: str = Field(description="sha256 of the fingerprint specification of catalog and controls.")
    catalog_sha256: str = Field(description="sha256 of ids, codes and vectors of the catalog store.")
    controls_sha256: str = Field(description="sha256 of ids, codes and vectors of the control store.")
    duplicate_controls: int = Field(description="Controls left out because another has the very same codes.")
    closest: dict[str, tuple[tuple[str, str, float], ...]] = Field(
        description="Per channel the closest (control id, song id, similarity): a cover or re-encoding of a catalog "
        "song among the controls shows up here, and hides that song."
    )
    channels: dict[str, ChannelCalibration]
    gates: dict[str, Gate] = Field(
        description="The nulls of standard scores, by the channels that a query has: of both joined, and of each alone."
    )
    kinds: tuple[KindOfControls, ...] = Field(
        description="False alarms by kind of controls: those of one `source` are of one kind."
    )
    unlike: dict[str, Unlikeness] = Field(description="Whether controls can be told from songs, by channel.")
    reliability: dict[str, dict[str, ScoreReliability]] = Field(
        description="Per channel whether each of `controls` has a ranking of its own, and each of `queries` where some "
        "were given, by similarity and by the channel's standard score."
    )
    profiles: tuple[ModelProfile, ...] = Field(
        (), description="Of models that a clip may be an output of: the audited one, if pieces of it were given, first."
    )
    song_noise_sha256: str = Field(description="sha256 of the noise of every song, which lies beside this file.")
    _songs: pa.Table | None = PrivateAttr(None)
    _shared: Shared | None = PrivateAttr(None)

    @property
    def songs(self) -> pa.Table | None:
        """The noise of every song: song_id, mean and spread in each channel, and whether it is a reference song.

        None where it lies elsewhere, as in a snapshot.
        """
        return self._songs

    @property
    def shared(self) -> Shared | None:
        """The noise of shared evidence, of a calibration that was just made; None where stores have no evidence."""
        return self._shared

    def to_json(self) -> str:
        """Canonical: equal calibrations are equal bytes; floats survive the round trip bit for bit."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, indent=1) + "\n"

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def calibrate_store(
    store: "Store | AnyPath",
    controls: "Store | AnyPath",
    *,
    guarantee: Guarantee = "mean",
    queries: "Store | AnyPath | None" = None,
    pieces: "Store | AnyPath | None" = None,
    other_pieces: "Mapping[str, Store | AnyPath] | None" = None,
) -> Calibration:
    """Measure the noise of a catalog store against a control store; each is open already, or a path or an address.

    Controls of one `source` are of one kind.

    Args:
        guarantee: what the bar promises of unrelated tracks.
        queries: a store of queries, whose scores' reliability is measured beside that of the controls'.
        pieces: a store of pieces that the audited model made up, so that others can be told to be its output.
        other_pieces: model → a store of its pieces, likewise.

    Raises:
        SpecificationMismatch: the stores were made by different specifications.
        StoreError: the same audio in two stores; duplicate ids; no usable vectors.
        UsageError: too few distinct controls for the guarantee, fewer than two distinct queries, or too few pieces.
    """
    store, controls = opened(store), opened(controls)
    check_controls(store, controls)
    use_one_blas_thread()
    rows, _ = usable_songs(store)
    distinct, n_controls = _distinct(controls)
    try:
        # Before anything takes long.
        check_enough(len(distinct), guarantee)
    except UsageError as error:
        raise UsageError(f"{controls.path}: {error}") from error
    if other_pieces and _name_of(store.run.model) in other_pieces:
        raise UsageError(f"{_name_of(store.run.model)} is the audited model itself: call the other one something else")
    asked = {"controls": (controls, distinct)}
    if queries is not None:
        asked["queries"] = _queries(store, opened(queries))
    channels = store.specification.channels
    kinds = [controls.songs["source"][int(row)].as_py() or "" for row in distinct]
    songs = {c: take(store.vectors(c), rows) for c in channels}
    of_controls = {c: controls.vectors(c)[distinct] for c in channels}
    codes_N = np.array(store.songs["codes_sha256"].to_pylist(), dtype=object)[rows].astype(str)
    closest = {
        c: tuple(
            (controls.song_ids[distinct[i]], store.song_ids[rows[j]], similarity)
            for i, j, similarity in _closest(songs[c], of_controls[c])
        )
        for c in channels
    }
    try:
        # In the order of their hashes, which nobody chooses.
        noise = calibrate(songs, of_controls, np.argsort(codes_N, kind="stable"), guarantee, kinds)
        reliability = {
            c: {
                name: one
                for kind, (of, rows_of) in asked.items()
                for name, one in measure_reliability(songs[c], of.vectors(c)[rows_of], noise.songs[c], kind).items()
            }
            for c in channels
        }
        references = {
            c: Reference(songs[c][noise.reference_rows].astype(np.float64), of.take(noise.reference_rows))
            for c, of in noise.songs.items()
        }
        made_by = [(_name_of(store.run.model), pieces, True)] if pieces is not None else []
        made_by += [(model, of, False) for model, of in (other_pieces or {}).items()]
        profiles = tuple(
            _profile(store, controls, model, opened(of), of_controls, references, audited)
            for model, of, audited in made_by
        )
        table = _song_table([store.song_ids[row] for row in rows], noise)
        hashes = store_sha256(store), store_sha256(controls)
        calibration = Calibration(
            specification_sha256=store.specification.sha256,
            catalog_sha256=hashes[0],
            controls_sha256=hashes[1],
            duplicate_controls=n_controls - len(distinct),
            closest=closest,
            channels=noise.channels,
            gates=noise.gates,
            kinds=noise.kinds,
            unlike=dict(noise.unlike),
            reliability=reliability,
            profiles=profiles,
            song_noise_sha256=_sha256_of(table),
        )
        calibration._songs = table
        calibration._shared = measure_shared(store, rows, noise.reference_rows, controls, distinct, hashes)
        return calibration
    except UsageError as error:
        raise UsageError(f"{controls.path}: {error}") from error


def write_calibration(calibration: Calibration, store_path: AnyPath) -> Location:
    """Write `calibration.json` into a store, whole or not at all, and return its path.

    The noise of every song, and that of shared evidence, are written beside it first, where the calibration has them.
    """
    path = locate(store_path) / CALIBRATION_FILE
    if calibration.songs is not None:
        with atomic_path(locate(store_path) / SONG_NOISE_FILE) as partial:
            pq.write_table(calibration.songs, partial)
        write_shared(calibration.shared, store_path)
    with atomic_path(path) as partial:
        partial.write_text(calibration.to_json(), encoding="utf-8")
    return path


def read_calibration(path: AnyPath) -> Calibration:
    """Read a `calibration.json`, given as the file or as the folder that holds it.

    Raises:
        StoreError: there is none, or it is not one.
    """
    path = locate(path)
    file = path / CALIBRATION_FILE if path.is_dir() else path
    if not file.is_file():
        raise StoreError(f"{file} does not exist: run `lumina calibrate {file.parent} --controls CONTROL_STORE`")
    beside = file.parent / SONG_NOISE_FILE
    try:
        text = file.read_bytes()
        if json.loads(text).get("format_version", 1) != CALIBRATION_VERSION:
            raise StoreError(
                f"{file} was written by an earlier or a later version, whose p-values mean something else; run "
                f"`lumina calibrate {file.parent} --controls CONTROL_STORE` again, and then `lumina index`"
            )
        calibration = Calibration.model_validate_json(text)
        if beside.is_file():
            calibration._songs = pq.read_table(pa.BufferReader(beside.read_bytes()))
        return calibration
    except (ValidationError, ValueError, AttributeError, pa.ArrowException) as error:
        raise StoreError(
            f"{file} is not a calibration of this software version ({error}); "
            f"run `lumina calibrate {file.parent} --controls CONTROL_STORE` again"
        ) from error


def song_noise_of(calibration: Calibration, song_ids: list[str], store_path: AnyPath) -> dict[Channel, SongNoise]:
    """Give the noise of a store's songs, by channel.

    Args:
        song_ids: of the songs that the calibration was measured on, in their order.
        store_path: named in errors.

    Raises:
        StoreError: it is missing, damaged, or of other songs.
    """
    table = calibration.songs
    if table is None or _sha256_of(table) != calibration.song_noise_sha256 or table["song_id"].to_pylist() != song_ids:
        raise StoreError(
            f"{locate(store_path) / SONG_NOISE_FILE} is missing, or does not belong to {CALIBRATION_FILE}: run "
            f"`lumina calibrate {store_path} --controls CONTROL_STORE` again"
        )
    return {
        c: SongNoise(*(table[name].to_numpy() for name in noise_columns(c)))
        for c in CHANNELS
        if c in calibration.channels
    }


def noise_columns(channel: str) -> tuple[str, str]:
    """Names of a table's columns with the mean and the spread of each song's noise."""
    return f"{channel}_noise_mean", f"{channel}_noise_spread"


def _song_table(song_ids: list[str], noise: CatalogNoise) -> pa.Table:
    columns: dict[str, pa.Array] = {"song_id": pa.array(song_ids, pa.string())}
    for channel, songs in noise.songs.items():
        columns |= zip(noise_columns(channel), (pa.array(songs.mean), pa.array(songs.spread)), strict=True)
    is_reference = np.zeros(len(song_ids), bool)
    is_reference[noise.reference_rows] = True
    return pa.table(columns | {"reference": pa.array(is_reference)})


def _sha256_of(table: pa.Table) -> str:
    digest = hashlib.sha256()
    for name in table.column_names:
        digest.update(f"{name}\0".encode())
        if name == "song_id":
            digest.update("\n".join(table[name].to_pylist()).encode())
        else:
            digest.update(np.ascontiguousarray(table[name].to_numpy()).tobytes())
    return digest.hexdigest()


def check_controls(store: "Store", controls: "Store") -> None:
    """Check that a control store may stand for what a catalog's model never saw.

    Raises:
        SpecificationMismatch: the stores were made by different specifications.
        StoreError: the same audio in both.
    """
    _check_specification(store, controls, "controls")
    song_of = dict(zip(store.songs["codes_sha256"].to_pylist(), store.song_ids, strict=True))
    shared = [
        f"{control_id} (in the catalog as {song_of[codes]})"
        for control_id, codes in zip(controls.song_ids, controls.songs["codes_sha256"].to_pylist(), strict=True)
        if codes in song_of
    ]
    if shared:
        raise StoreError(
            f"{len(shared)} control track(s) are catalog songs: {', '.join(shared[:5])}; controls must be music that "
            "the model never saw: leave them out of the control manifest"
        )


def _distinct(store: "Store") -> tuple[np.ndarray, int]:
    """Rows of the usable recordings of a store, each recording once, and how many there are with duplicates."""
    rows, _ = usable_songs(store)
    codes = np.array(store.songs["codes_sha256"].to_pylist(), dtype=object)[rows]
    # A recording that occurs twice is one observation: as two, it would make the noise look better known than it is.
    _, first = np.unique(codes.astype(str), return_index=True)
    return rows[np.sort(first)], len(rows)


def _name_of(model: str) -> str:
    """Name a model without the folder that it lies in, which is a machine's."""
    return model.rstrip("/").rpartition("/")[2]


def _check_specification(store: "Store", other: "Store", what: str) -> None:
    if store.specification.sha256 != other.specification.sha256:
        raise SpecificationMismatch(
            f"catalog {store.path} has specification {store.specification.sha256[:12]}, {what} {other.path} have "
            f"{other.specification.sha256[:12]}: fingerprint both with the same model and fingerprint"
        )


def _profile(
    store: "Store",
    controls: "Store",
    model: str,
    pieces: "Store",
    of_controls: Mapping[Channel, np.ndarray],
    references: Mapping[Channel, Reference],
    audited: bool,
) -> ModelProfile:
    """Make the profile of a model from a store of its pieces."""
    _check_specification(store, pieces, "pieces")
    rows, _ = _distinct(pieces)
    codes = {pieces.songs["codes_sha256"][int(row)].as_py() for row in rows}
    if shared := codes.intersection(controls.songs["codes_sha256"].to_pylist()):
        raise StoreError(
            f"{len(shared)} of the pieces in {pieces.path} are controls, too: controls must be music that no model of "
            "these made up; leave them out of one of both"
        )
    vectors = {c: pieces.vectors(c)[rows] for c in references}
    return profile_of(model, vectors, of_controls, references, store_sha256(pieces), audited=audited)


def _queries(store: "Store", queries: "Store") -> tuple["Store", np.ndarray]:
    _check_specification(store, queries, "queries")
    rows, _ = _distinct(queries)
    if len(rows) < 2:
        raise UsageError(f"{queries.path}: {len(rows)} distinct queries; 2 are needed to compare their rankings")
    return queries, rows


def _closest(songs_ND: np.ndarray, controls_CD: np.ndarray, n: int = 3) -> list[tuple[int, int, float]]:
    """The controls that are closest to a song: their rows, the songs' and the similarities, descending."""
    similarity_CN = controls_CD @ songs_ND.T
    best_C = similarity_CN.argmax(axis=1)
    values_C = similarity_CN[np.arange(len(controls_CD)), best_C]
    order = np.argsort(-values_C, kind="stable")[:n]
    return [(int(i), int(best_C[i]), float(values_C[i])) for i in order]
