"""Was a model trained on a song? How likely it finds the song, beyond a reference model, against controls.

A model that learned from a song finds it likelier than one that never saw it. `excess` is the song's mean
log-likelihood under the audited model minus that under the reference, in nats per code: the reference takes off how
likely such a song is to begin with (Watson et al. 2022, arXiv:2111.08440).

The null is that the model never saw the song, nor anything nearly identical. Controls stand for such songs, so the
p-value of a song is `(1 + #{controls with at least its excess}) / (C + 1)`: exact where song and controls are
exchangeable (a conformal p-value), and worth nothing where they are not music of the same kind.

It is of one song that was chosen before looking: of n songs that no model ever saw, some 0.05 n have p ≤ 0.05. It is
not corrected for how many are listed beside it, since what is known of a song must not depend on its company: the same
song would have one number in channel P and another in M. Whoever looks at a list is told how many to expect by chance.

C = controls, N = songs.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumina_ray.calibration.calibration import check_controls
from lumina_ray.calibration.null import ALPHA, MIN_CONTROLS
from lumina_ray.calibration.vectors import store_sha256
from lumina_ray.catalog.files import atomic_path
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.storage import Location

if TYPE_CHECKING:
    from lumina_ray.store import Store

USE_FILE = "use.parquet"
_METADATA_KEY = b"lumina_ray"
_SCHEMA = pa.schema(
    [pa.field("song_id", pa.string(), nullable=False)]
    + [pa.field(name, pa.float64(), nullable=False) for name in ("audited", "reference", "excess", "p_value")]
)

Likelihoods = Mapping[str, tuple[float, float]]
"""Song id → its mean log-likelihood under the audited model and under the reference, in nats per code."""


class UseBasis(BaseModel):
    """What evidence of use was measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights_sha256: str = Field(description="Of the audited model.")
    reference: str = Field(description="Name of the reference model, as it was given.")
    reference_weights_sha256: str = Field(description="Of a model that never saw the catalog.")
    catalog_sha256: str = Field(description="Ids, codes and vectors of the catalog store.")
    controls_sha256: str = Field(description="Ids, codes and vectors of the control store.")
    control_excess: tuple[float, ...] = Field(description="Of each distinct control, descending, in nats per code.")

    @property
    def n_controls(self) -> int:
        return len(self.control_excess)

    @property
    def resolution(self) -> float:
        """The smallest p-value that so many controls can show."""
        return 1 / (self.n_controls + 1)

    @property
    def chance(self) -> float:
        """How often a song that the model never saw has p ≤ `ALPHA`."""
        return math.floor(ALPHA * (self.n_controls + 1) + 1e-9) / (self.n_controls + 1)


@dataclass(frozen=True)
class Use:
    """Evidence of use of every song of a catalog.

    Attributes:
        songs: song_id, audited, reference (log-likelihoods), excess (nats per code) and p_value, by song_id.
    """

    basis: UseBasis
    songs: pa.Table

    @property
    def n_significant(self) -> int:
        """Songs with p ≤ `ALPHA`."""
        return int((self.songs["p_value"].to_numpy() <= ALPHA).sum())

    def aligned(self, song_ids: pa.ChunkedArray) -> "Use":
        """With row i that of `song_ids[i]`; all of them are songs of it."""
        return Use(self.basis, self.songs.take(pc.index_in(song_ids, value_set=self.songs["song_id"])))


def use_p_values(excess_N: np.ndarray, control_excess_C: np.ndarray) -> np.ndarray:
    """Of songs chosen before looking, float64 `[N]`: the share of C controls and the song with at least its excess."""
    ascending = np.sort(control_excess_C)
    at_least = len(ascending) - np.searchsorted(ascending, excess_N, side="left")
    return (1 + at_least) / (len(ascending) + 1)


def judge_use(
    store: "Store", controls: "Store", of_songs: Likelihoods, of_controls: Likelihoods, reference: tuple[str, str]
) -> Use:
    """Evidence of use from log-likelihoods.

    Args:
        reference: name and weights_sha256 of the reference model.

    Raises:
        SpecificationMismatch, StoreError: see `check_controls`; or songs without a log-likelihood.
        UsageError: fewer than `MIN_CONTROLS` distinct controls.
    """
    check_controls(store, controls)
    # The same recording twice is one observation.
    distinct = dict(zip(controls.songs["codes_sha256"].to_pylist(), controls.song_ids, strict=True)).values()
    if len(distinct) < MIN_CONTROLS:
        raise UsageError(
            f"{controls.path}: {len(distinct)} distinct controls; evidence of use needs at least {MIN_CONTROLS}"
        )
    audited_N, reference_N = _arrays(store, store.song_ids, of_songs)
    audited_C, reference_C = _arrays(controls, list(distinct), of_controls)
    excess_N, excess_C = audited_N - reference_N, audited_C - reference_C
    columns = [store.song_ids, audited_N, reference_N, excess_N, use_p_values(excess_N, excess_C)]
    basis = UseBasis(
        weights_sha256=store.specification.weights_sha256,
        reference=reference[0],
        reference_weights_sha256=reference[1],
        catalog_sha256=store_sha256(store),
        controls_sha256=store_sha256(controls),
        control_excess=tuple(np.sort(excess_C)[::-1].tolist()),
    )
    return Use(basis, pa.table(columns, schema=_SCHEMA))


def write_use(use: Use, store_path: Location) -> Location:
    """Write `use.parquet` into a store, whole or not at all, and return its path."""
    path = store_path / USE_FILE
    metadata = {_METADATA_KEY: json.dumps(use.basis.model_dump(), sort_keys=True)}
    with atomic_path(path) as partial:
        pq.write_table(use.songs.replace_schema_metadata(metadata), partial)
    return path


def read_use(folder: Location) -> Use | None:
    """Evidence of use that lies in a store or a snapshot; None where there is none.

    Raises:
        StoreError: the file is damaged.
    """
    file = folder / USE_FILE
    if not file.is_file():
        return None
    try:
        table = pq.read_table(pa.BufferReader(file.read_bytes()))
        basis = UseBasis.model_validate_json((table.schema.metadata or {})[_METADATA_KEY])
        return Use(basis, table.replace_schema_metadata().cast(_SCHEMA))
    except (pa.ArrowException, KeyError, ValueError, ValidationError) as error:
        raise StoreError(
            f"{file} is damaged or of another software version ({error}); run `lumina use` again, or delete it"
        ) from error


def current_use(store: "Store", data_sha256: str) -> Use | None:
    """A store's evidence of use, checked to be of its songs as they are now; None where there is none.

    Raises:
        StoreError: the store has changed since.
    """
    use = read_use(store.path)
    if use is not None and use.basis.catalog_sha256 != data_sha256:
        raise StoreError(
            f"{store.path} has changed since its evidence of use was measured: run `lumina use {store.path} --controls "
            f"CONTROL_STORE --reference {use.basis.reference}` again, or delete {store.path / USE_FILE}"
        )
    return use


def _arrays(store: "Store", song_ids: list[str], likelihoods: Likelihoods) -> tuple[np.ndarray, np.ndarray]:
    if missing := [song_id for song_id in song_ids if song_id not in likelihoods]:
        raise StoreError(f"{store.path} was changed while it was read (no codes of {missing[0]}); run it again")
    values_N2 = np.array([likelihoods[song_id] for song_id in song_ids], np.float64).reshape(-1, 2)
    return values_N2[:, 0], values_N2[:, 1]
