"""A store's calibration: both channels, pinned to the data that it was measured on."""

import hashlib
import json
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumina_ray.calibration.null import ChannelCalibration, calibrate
from lumina_ray.calibration.numerics import use_one_blas_thread
from lumina_ray.calibration.reliability import ScoreReliability, measure_reliability
from lumina_ray.calibration.vectors import opened, store_sha256, take, usable_songs
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.files import atomic_path
from lumina_ray.storage import AnyPath, Location, locate

if TYPE_CHECKING:
    from lumina_ray.store import Store

CALIBRATION_FILE = "calibration.json"


class Calibration(BaseModel):
    """The noise of each channel, and the stores that it was measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    specification_sha256: str = Field(description="sha256 of the fingerprint specification of catalog and controls.")
    catalog_sha256: str = Field(description="sha256 of ids, codes and vectors of the catalog store.")
    controls_sha256: str = Field(description="sha256 of ids, codes and vectors of the control store.")
    duplicate_controls: int = Field(description="Controls left out because another has the very same codes.")
    closest: dict[str, tuple[tuple[str, str, float], ...]] = Field(
        description="Per channel the closest (control id, song id, similarity): a cover or re-encoding of a catalog "
        "song among the controls shows up here, and hides that song."
    )
    channels: dict[str, ChannelCalibration]
    reliability: dict[str, dict[str, ScoreReliability]] = Field(
        default={},
        description="Per channel whether each of `controls` has a ranking of its own, and each of `queries` where some "
        "were given, by similarity and by adjusted similarity. Empty in files of earlier versions.",
    )

    def to_json(self) -> str:
        """Canonical: equal calibrations are equal bytes; floats survive the round trip bit for bit."""
        # What earlier versions wrote keeps its bytes, and its hash.
        values = self.model_dump(mode="json", exclude=None if self.reliability else {"reliability"})
        return json.dumps(values, sort_keys=True, ensure_ascii=False, indent=1) + "\n"

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()


def calibrate_store(
    store: "Store | AnyPath", controls: "Store | AnyPath", queries: "Store | AnyPath | None" = None
) -> Calibration:
    """Measure the noise of a catalog store against a control store; each is open already, or a path or an address.

    Args:
        queries: a store of queries, whose scores' reliability is measured beside that of the controls'.

    Raises:
        SpecificationMismatch: the stores were made by different specifications.
        StoreError: the same audio in both stores; duplicate ids; no usable vectors.
        UsageError: fewer than `MIN_CONTROLS` distinct controls, or fewer than two distinct queries.
    """
    store, controls = opened(store), opened(controls)
    check_controls(store, controls)
    use_one_blas_thread()
    rows, _ = usable_songs(store)
    distinct, n_controls = _distinct(controls)
    asked = {"controls": (controls, distinct)}
    if queries is not None:
        asked["queries"] = _queries(store, opened(queries))
    closest, nulls, reliability = {}, {}, {}
    try:
        for c in store.specification.channels:
            songs_ND, controls_CD = take(store.vectors(c), rows), controls.vectors(c)[distinct]
            closest[c] = tuple(
                (controls.song_ids[distinct[i]], store.song_ids[rows[j]], similarity)
                for i, j, similarity in _closest(songs_ND, controls_CD)
            )
            nulls[c] = calibrate(songs_ND, controls_CD)
            reliability[c] = {
                name: one
                for kind, (of, rows_of) in asked.items()
                for name, one in measure_reliability(songs_ND, of.vectors(c)[rows_of], kind).items()
            }
        return Calibration(
            specification_sha256=store.specification.sha256,
            catalog_sha256=store_sha256(store),
            controls_sha256=store_sha256(controls),
            duplicate_controls=n_controls - len(distinct),
            closest=closest,
            channels=nulls,
            reliability=reliability,
        )
    except UsageError as error:
        raise UsageError(f"{controls.path}: {error}") from error


def write_calibration(calibration: Calibration, store_path: AnyPath) -> Location:
    """Write `calibration.json` into a store, whole or not at all, and return its path."""
    path = locate(store_path) / CALIBRATION_FILE
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
    try:
        return Calibration.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise StoreError(
            f"{file} is not a calibration of this software version ({error}); "
            f"run `lumina calibrate {file.parent} --controls CONTROL_STORE` again"
        ) from error


def check_controls(store: "Store", controls: "Store") -> None:
    """Check that a control store may stand for what a catalog's model never saw.

    Raises:
        SpecificationMismatch: the stores were made by different specifications.
        StoreError: the same audio in both.
    """
    if store.specification.sha256 != controls.specification.sha256:
        raise SpecificationMismatch(
            f"catalog {store.path} has specification {store.specification.sha256[:12]}, controls {controls.path} have "
            f"{controls.specification.sha256[:12]}: fingerprint both with the same model and fingerprint"
        )
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


def _queries(store: "Store", queries: "Store") -> tuple["Store", np.ndarray]:
    if store.specification.sha256 != queries.specification.sha256:
        raise SpecificationMismatch(
            f"catalog {store.path} has specification {store.specification.sha256[:12]}, queries {queries.path} have "
            f"{queries.specification.sha256[:12]}: fingerprint both with the same model and fingerprint"
        )
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
