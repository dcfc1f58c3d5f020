"""Membership evidence: was a model trained on a song?

A model that learned from a song finds it likelier than a model that never saw it. `excess` is the song's mean
log-likelihood under the audited model minus that under a reference model, in nats per code: the reference corrects for
how likely such a song is in any case (Watson et al. 2022, arXiv:2111.08440).

The null hypothesis is that the model saw neither the song nor anything nearly identical. Controls are such songs, so
the p-value of a song is `(1 + #{controls with at least its excess}) / (C + 1)`. It is exact if song and controls are
exchangeable (a conformal p-value), and worthless if they are not music of the same kind.

A p-value belongs to one song that was chosen before looking: of n songs that the model never saw, about 0.05 n have
p ≤ 0.05. It is not corrected for the other songs of a list, because then the same song would have one number in channel
P and another one in M. A report says how many such songs to expect by chance.

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
from lumina_ray.calibration.controls import ALPHA, UNLIKE_AUC
from lumina_ray.calibration.null import MIN_CONTROLS
from lumina_ray.calibration.vectors import store_sha256
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.files import atomic_path
from lumina_ray.storage import Location

if TYPE_CHECKING:
    from lumina_ray.store import Store

MEMBERSHIP_FILE = "membership.parquet"
EARLIER_FILE = "use.parquet"
"""Name of the same file in versions before 0.2."""
_METADATA_KEY = b"lumina_ray"
# A refusal, where calibration only warns at 0.01: of right controls, it may hit one in a thousand.
_UNLIKE_P = 0.001
_SCHEMA = pa.schema(
    [pa.field("song_id", pa.string(), nullable=False)]
    + [pa.field(name, pa.float64(), nullable=False) for name in ("audited", "reference", "excess", "p_value")]
)

Likelihoods = Mapping[str, tuple[float, float]]
"""Song id → its mean log-likelihood under the audited model and under the reference, in nats per code."""


class MembershipBasis(BaseModel):
    """The models and songs that membership evidence was measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weights_sha256: str = Field(description="sha256 of the audited model's weights.")
    reference: str = Field(description="Name of the reference model, as it was given.")
    reference_weights_sha256: str = Field(description="sha256 of the weights of a model that never saw the catalog.")
    catalog_sha256: str = Field(description="sha256 of ids, codes and vectors of the catalog store.")
    controls_sha256: str = Field(description="sha256 of ids, codes and vectors of the control store.")
    control_excess: tuple[float, ...] = Field(description="Excess of each distinct control, descending, nats per code.")

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
class Membership:
    """Membership evidence of every song of a catalog.

    Attributes:
        songs: song_id, audited, reference (log-likelihoods), excess (nats per code) and p_value, by song_id.
    """

    basis: MembershipBasis
    songs: pa.Table

    @property
    def n_significant(self) -> int:
        """Songs with p ≤ `ALPHA`."""
        return int((self.songs["p_value"].to_numpy() <= ALPHA).sum())

    def refuted(self) -> np.ndarray:
        """Say whose use is refuted, bool `[N]`: songs of lower excess than nearly all controls.

        Training on a song raises its excess. A song that was used is therefore among the lowest `ALPHA` at most as
        often as a control, which is what refutes, at that level, that it was used. One song was chosen before looking.
        """
        low_N = membership_p_values(-self.songs["excess"].to_numpy(), -np.array(self.basis.control_excess))
        return low_N <= ALPHA

    def aligned(self, song_ids: pa.ChunkedArray) -> "Membership":
        """Membership evidence in another order: row i is that of `song_ids[i]`, each of which is a song of this one."""
        return Membership(self.basis, self.songs.take(pc.index_in(song_ids, value_set=self.songs["song_id"])))


def membership_p_values(excess_N: np.ndarray, control_excess_C: np.ndarray) -> np.ndarray:
    """P-values of songs chosen before looking: the share of controls and song with at least the song's excess.

    Args:
        excess_N: excess of the songs, in nats per code.
        control_excess_C: excess of the controls.

    Returns:
        float64 `[N]`.
    """
    ascending = np.sort(control_excess_C)
    at_least = len(ascending) - np.searchsorted(ascending, excess_N, side="left")
    return (1 + at_least) / (len(ascending) + 1)


def judge_membership(
    store: "Store", controls: "Store", of_songs: Likelihoods, of_controls: Likelihoods, reference: tuple[str, str]
) -> Membership:
    """Make membership evidence from log-likelihoods.

    Args:
        reference: name and weights_sha256 of the reference model.

    Raises:
        SpecificationMismatch, StoreError: see `check_controls`; or songs without a log-likelihood.
        UsageError: fewer than `MIN_CONTROLS` distinct controls, or such as the reference model tells from the songs.
    """
    check_controls(store, controls)
    # A recording that occurs twice is one observation.
    distinct = dict(zip(controls.songs["codes_sha256"].to_pylist(), controls.song_ids, strict=True)).values()
    if len(distinct) < MIN_CONTROLS:
        raise UsageError(
            f"{controls.path}: {len(distinct)} distinct controls; membership evidence needs at least {MIN_CONTROLS}"
        )
    audited_N, reference_N = _arrays(store, store.song_ids, of_songs)
    audited_C, reference_C = _arrays(controls, list(distinct), of_controls)
    _check_kind(reference_N, reference_C, controls.path, reference[0])
    excess_N, excess_C = audited_N - reference_N, audited_C - reference_C
    columns = [store.song_ids, audited_N, reference_N, excess_N, membership_p_values(excess_N, excess_C)]
    basis = MembershipBasis(
        weights_sha256=store.specification.weights_sha256,
        reference=reference[0],
        reference_weights_sha256=reference[1],
        catalog_sha256=store_sha256(store),
        controls_sha256=store_sha256(controls),
        control_excess=tuple(np.sort(excess_C)[::-1].tolist()),
    )
    return Membership(basis, pa.table(columns, schema=_SCHEMA))


def write_membership(membership: Membership, store_path: Location) -> Location:
    """Write `membership.parquet` into a store, whole or not at all, in place of an earlier version's `use.parquet`.

    Returns:
        The path of the file.
    """
    path = store_path / MEMBERSHIP_FILE
    metadata = {_METADATA_KEY: json.dumps(membership.basis.model_dump(), sort_keys=True)}
    with atomic_path(path) as partial:
        pq.write_table(membership.songs.replace_schema_metadata(metadata), partial)
    (store_path / EARLIER_FILE).unlink(missing_ok=True)
    return path


def read_membership(folder: Location) -> Membership | None:
    """Read the membership evidence of a store or a snapshot; None if it has none.

    Raises:
        StoreError: the file is damaged, or an earlier version wrote it.
    """
    file = folder / MEMBERSHIP_FILE
    if not file.is_file():
        if (folder / EARLIER_FILE).is_file():
            raise StoreError(
                f"{folder / EARLIER_FILE} holds membership evidence of an earlier version: run `lumina use` again, or "
                "delete it"
            )
        return None
    try:
        # `pq.read_table` imports pandas.
        table = pq.ParquetFile(pa.BufferReader(file.read_bytes())).read()
        basis = MembershipBasis.model_validate_json((table.schema.metadata or {})[_METADATA_KEY])
        return Membership(basis, table.replace_schema_metadata().cast(_SCHEMA))
    except (pa.ArrowException, KeyError, ValueError, ValidationError) as error:
        raise StoreError(
            f"{file} is damaged or of another software version ({error}); run `lumina use` again, or delete it"
        ) from error


def current_membership(store: "Store", data_sha256: str) -> Membership | None:
    """Read a store's membership evidence, and check that it is about the songs as they are now; None if there is none.

    Raises:
        StoreError: the store has changed since.
    """
    membership = read_membership(store.path)
    if membership is not None and membership.basis.catalog_sha256 != data_sha256:
        raise StoreError(
            f"{store.path} has changed since its membership evidence was measured: run `lumina use {store.path} "
            f"--controls CONTROL_STORE --reference {membership.basis.reference}` again, or delete "
            f"{store.path / MEMBERSHIP_FILE}"
        )
    return membership


def _check_kind(reference_N: np.ndarray, reference_C: np.ndarray, controls: Location, reference: str) -> None:
    """Refuse to claim anything where a model that saw neither songs nor controls tells one from the other.

    Exchangeable music is equally likely to it: a Mann–Whitney test of the log-likelihoods.
    """
    # Whoever only reads evidence, as searches do, need not wait for it.
    from scipy.stats import mannwhitneyu

    found = mannwhitneyu(reference_N, reference_C)
    auc = float(found.statistic) / (len(reference_N) * len(reference_C))
    if found.pvalue <= _UNLIKE_P and max(auc, 1 - auc) >= UNLIKE_AUC:
        raise UsageError(
            f"{controls}: the reference model {reference} finds {auc:.0%} of the songs likelier than a control, where "
            f"50 % would be alike (p {found.pvalue:.1g}): the controls are other music than the catalog, or the "
            "reference has learned some of it. No p-value would mean anything: take controls of the catalog's kind, or "
            "another reference"
        )


def _arrays(store: "Store", song_ids: list[str], likelihoods: Likelihoods) -> tuple[np.ndarray, np.ndarray]:
    if missing := [song_id for song_id in song_ids if song_id not in likelihoods]:
        raise StoreError(f"{store.path} was changed while it was read (no codes of {missing[0]}); run it again")
    values_N2 = np.array([likelihoods[song_id] for song_id in song_ids], np.float64).reshape(-1, 2)
    return values_N2[:, 0], values_N2[:, 1]
