"""Membership evidence: was a model trained on a song?

A model that learned from a song finds it likelier than models that never saw it. `excess` is the song's mean
log-likelihood under the audited model minus the mean of those under reference models, in nats per code: references
correct for how likely such a song is in any case (Watson et al. 2022, arXiv:2111.08440). Songs differ in how far models
disagree about them that saw none of them, so the `evidence` of a song is its excess in standard errors. How large these
are is told by how the excess differs from window to window of the song and, with several references, by how they differ
from each other (Carlini et al. 2022, arXiv:2112.03570). A variance of few numbers is shrunken towards what others say
of it (Smyth 2004, doi:10.2202/1544-6115.1027).

The null hypothesis is that the model saw neither the song nor anything nearly identical. Controls are such songs, so
the p-value of a song is `(1 + #{controls with at least its evidence}) / (C + 1)`. It is exact if song and controls are
exchangeable (a conformal p-value), and worthless if they are not music of the same kind.

A p-value belongs to one song that was chosen before looking: of n songs that the model never saw, about 0.05 n have
p ≤ 0.05. It is not corrected for the other songs of a list, because then the same song would have one number in channel
P and another one in M. A report says how many such songs to expect by chance.

C = controls, N = songs, R = references.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

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
from lumina_ray.fingerprint.observed import Observed
from lumina_ray.storage import Location

if TYPE_CHECKING:
    from lumina_ray.store import Store

MEMBERSHIP_FILE = "membership.parquet"
EARLIER_FILE = "use.parquet"
"""Name of the same file in versions before 0.2."""
MAX_REFERENCES = 16
"""Each worker holds all of them at once."""
VERSION: Literal[2] = 2
"""Version of the evidence that this software writes and reads. Files of version 1 do not name it."""
_METADATA_KEY = b"lumina_ray"
# Both were chosen on works for choosing: for how many references a track's windows count, and by which part of the
# variance of its windows tracks differ from each other, however long they are.
_PRIOR = 8.0
_BETWEEN = 0.1
# Nats per code: no two models agree better on any music, so no evidence is divided by less.
_LEAST_DEVIATION = 1e-6
# A refusal, where calibration only warns at 0.01: of right controls, it may hit one in a thousand.
_UNLIKE_P = 0.001
_SCHEMA = pa.schema(
    [pa.field("song_id", pa.string(), nullable=False)]
    + [
        pa.field(name, pa.float64(), nullable=False)
        for name in ("audited", "reference", "excess", "evidence", "p_value")
    ]
)

Likelihoods = Mapping[str, Observed]
"""Song id → what the models find of it."""


class MembershipBasis(BaseModel):
    """The models and songs that membership evidence was measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    version: Literal[2] = VERSION
    weights_sha256: str = Field(description="sha256 of the audited model's weights.")
    references: tuple[str, ...] = Field(min_length=1, description="Names of the reference models, as they were given.")
    references_weights_sha256: tuple[str, ...] = Field(
        min_length=1, description="sha256 of the weights of each: models that never saw the catalog."
    )
    catalog_sha256: str = Field(description="sha256 of ids, codes and vectors of the catalog store.")
    controls_sha256: str = Field(description="sha256 of ids, codes and vectors of the control store.")
    control_evidence: tuple[float, ...] = Field(description="Evidence of each distinct control, descending.")

    @property
    def n_controls(self) -> int:
        return len(self.control_evidence)

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
        songs: song_id, audited, reference (log-likelihoods, the latter the mean of all references'), excess (nats per
            code), evidence (excess in standard errors) and p_value, by song_id.
    """

    basis: MembershipBasis
    songs: pa.Table

    @property
    def n_significant(self) -> int:
        """Songs with p ≤ `ALPHA`."""
        return int((self.songs["p_value"].to_numpy() <= ALPHA).sum())

    def refuted(self) -> np.ndarray:
        """Say whose use is refuted, bool `[N]`: songs of lower evidence than nearly all controls.

        Training on a song raises its evidence. A song that was used is therefore among the lowest `ALPHA` at most as
        often as a control, which is what refutes, at that level, that it was used. One song was chosen before looking.
        """
        low_N = membership_p_values(-self.songs["evidence"].to_numpy(), -np.array(self.basis.control_evidence))
        return low_N <= ALPHA

    def aligned(self, song_ids: pa.ChunkedArray) -> "Membership":
        """Membership evidence in another order: row i is that of `song_ids[i]`, each of which is a song of this one."""
        return Membership(self.basis, self.songs.take(pc.index_in(song_ids, value_set=self.songs["song_id"])))


def membership_p_values(evidence_N: np.ndarray, control_evidence_C: np.ndarray) -> np.ndarray:
    """P-values of songs chosen before looking: the share of controls and song with at least the song's evidence.

    Args:
        evidence_N: evidence of the songs.
        control_evidence_C: evidence of the controls.

    Returns:
        float64 `[N]`.
    """
    ascending = np.sort(control_evidence_C)
    at_least = len(ascending) - np.searchsorted(ascending, evidence_N, side="left")
    return (1 + at_least) / (len(ascending) + 1)


def evidence_of(observed: Sequence[Observed]) -> np.ndarray:
    """Evidence of tracks, float64 `[N]`: how far each is likelier to the audited model than to the references.

    With one reference it is `m / (s √(ρ + 1/n))`: the mean of n windows, over what it would scatter by if no model knew
    the track. Windows scatter by s; ρ s² is how much longer tracks differ from each other all the same, so that tracks
    of different lengths can be compared. With R references it is `(a − mean of r) / (σ √(1 + 1/R))`: they show how far
    models differ about the track, v. So few say little, and σ² is `(d₀ p + (R − 1) v) / (d₀ + R − 1)`, where p is
    `s² (ρ + 1/n)` again, times what makes it as large as v over all tracks together. In s² the pooled variance of all
    tracks counts as one window more.

    Songs and controls must be given together, so that what is pooled is drawn from both alike.
    """
    n_N = np.array([max(of.n_windows, 1) for of in observed], np.float64)
    within_N = _shrunken(np.array([of.window_variance for of in observed]), n_N - 1) * (_BETWEEN + 1 / n_N)
    references_NR = np.array([of.references for of in observed])
    R = references_NR.shape[1]
    if R == 1:
        # A track without any window is as one that is a single window.
        excess_N = np.array([of.window_mean if of.n_windows else of.audited - of.references[0] for of in observed])
        return excess_N / np.maximum(np.sqrt(within_N), _LEAST_DEVIATION)
    excess_N = np.array([of.audited for of in observed]) - references_NR.mean(axis=1)
    between_N = references_NR.var(axis=1, ddof=1)
    prior_N = within_N * (between_N.sum() / max(within_N.sum(), _LEAST_DEVIATION**2))
    variance_N = (_PRIOR * prior_N + (R - 1) * between_N) / (_PRIOR + R - 1)
    return excess_N / np.maximum(np.sqrt(variance_N * (1 + 1 / R)), _LEAST_DEVIATION)


def _shrunken(variance_N: np.ndarray, freedom_N: np.ndarray) -> np.ndarray:
    """Variances, shrunken towards that of all tracks pooled, which counts as one number more in each."""
    pooled = float((freedom_N * variance_N).sum() / max(freedom_N.sum(), 1))
    return (pooled + freedom_N * variance_N) / (1 + freedom_N)


def check_references(references: Sequence[str]) -> None:
    """Check the names of reference models, before any is loaded.

    Raises:
        UsageError: none, more than `MAX_REFERENCES`, or one of them twice.
    """
    if not 1 <= len(references) <= MAX_REFERENCES:
        raise UsageError(
            f"{len(references)} reference models; membership evidence takes 1 to {MAX_REFERENCES}: each worker holds "
            "all of them at once"
        )
    if twice := [name for i, name in enumerate(references) if name in references[:i]]:
        raise UsageError(f"reference {twice[0]!r} is given twice; pass each model once")


def judge_membership(
    store: "Store",
    controls: "Store",
    of_songs: Likelihoods,
    of_controls: Likelihoods,
    references: Sequence[tuple[str, str]],
) -> Membership:
    """Make membership evidence from log-likelihoods.

    Args:
        references: name and weights_sha256 of each reference model, in the order of `Observed.references`.

    Raises:
        SpecificationMismatch, StoreError: see `check_controls`; or songs without a log-likelihood.
        UsageError: fewer than `MIN_CONTROLS` distinct controls, or such as a reference model tells from the songs.
    """
    check_controls(store, controls)
    # A recording that occurs twice is one observation.
    distinct = dict(zip(controls.songs["codes_sha256"].to_pylist(), controls.song_ids, strict=True)).values()
    if len(distinct) < MIN_CONTROLS:
        raise UsageError(
            f"{controls.path}: {len(distinct)} distinct controls; membership evidence needs at least {MIN_CONTROLS}"
        )
    songs = _observed(store, store.song_ids, of_songs)
    tracks = [*songs, *_observed(controls, list(distinct), of_controls)]
    names = [name for name, _ in references]
    references_nR = np.array([of.references for of in tracks])
    _check_kind(references_nR[: len(songs)], references_nR[len(songs) :], controls.path, names)
    audited_N = np.array([of.audited for of in songs])
    reference_N = references_nR[: len(songs)].mean(axis=1)
    evidence_n = evidence_of(tracks)
    evidence_N, evidence_C = evidence_n[: len(songs)], evidence_n[len(songs) :]
    columns = [
        store.song_ids,
        audited_N,
        reference_N,
        audited_N - reference_N,
        evidence_N,
        membership_p_values(evidence_N, evidence_C),
    ]
    basis = MembershipBasis(
        weights_sha256=store.specification.weights_sha256,
        references=tuple(names),
        references_weights_sha256=tuple(sha256 for _, sha256 in references),
        catalog_sha256=store_sha256(store),
        controls_sha256=store_sha256(controls),
        control_evidence=tuple(np.sort(evidence_C)[::-1].tolist()),
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
        written = json.loads((table.schema.metadata or {})[_METADATA_KEY])
        if written.get("version") == VERSION:
            basis = MembershipBasis.model_validate(written)
            return Membership(basis, table.replace_schema_metadata().cast(_SCHEMA))
    except (pa.ArrowException, KeyError, ValueError, ValidationError, AttributeError) as error:
        raise StoreError(
            f"{file} is damaged or of another software version ({error}); run `lumina use` again, or delete it"
        ) from error
    raise StoreError(
        f"{file} holds membership evidence of version {written.get('version', 1)}, and this lumina-ray reads version "
        f"{VERSION}: run `lumina use` on its store again, and build the index again"
    )


def current_membership(store: "Store", data_sha256: str) -> Membership | None:
    """Read a store's membership evidence, and check that it is about the songs as they are now; None if there is none.

    Raises:
        StoreError: the store has changed since.
    """
    membership = read_membership(store.path)
    if membership is not None and membership.basis.catalog_sha256 != data_sha256:
        references = " ".join(f"--reference {name}" for name in membership.basis.references)
        raise StoreError(
            f"{store.path} has changed since its membership evidence was measured: run `lumina use {store.path} "
            f"--controls CONTROL_STORE {references}` again, or delete {store.path / MEMBERSHIP_FILE}"
        )
    return membership


def _check_kind(
    references_NR: np.ndarray, references_CR: np.ndarray, controls: Location, references: Sequence[str]
) -> None:
    """Refuse to claim anything where a model that saw neither songs nor controls tells one from the other.

    Exchangeable music is equally likely to it: a Mann–Whitney test of the log-likelihoods under each reference, at a
    level that is divided by their number.
    """
    # Whoever only reads evidence, as searches do, need not wait for it.
    from scipy.stats import mannwhitneyu

    for name, reference_N, reference_C in zip(references, references_NR.T, references_CR.T, strict=True):
        found = mannwhitneyu(reference_N, reference_C)
        auc = float(found.statistic) / (len(reference_N) * len(reference_C))
        if found.pvalue <= _UNLIKE_P / len(references) and max(auc, 1 - auc) >= UNLIKE_AUC:
            raise UsageError(
                f"{controls}: the reference model {name} finds {auc:.0%} of the songs likelier than a control, where "
                f"50 % would be alike (p {found.pvalue:.1g}): the controls are other music than the catalog, or the "
                "reference has learned some of it. No p-value would mean anything: take controls of the catalog's "
                "kind, or another reference"
            )


def _observed(store: "Store", song_ids: list[str], likelihoods: Likelihoods) -> list[Observed]:
    if missing := [song_id for song_id in song_ids if song_id not in likelihoods]:
        raise StoreError(f"{store.path} was changed while it was read (no codes of {missing[0]}); run it again")
    return [likelihoods[song_id] for song_id in song_ids]
