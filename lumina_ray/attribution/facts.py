"""The parts of a report besides its candidates: query, policy, noise, warnings, membership counts, basis."""

from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from statistics import median

import numpy as np

import lumina_ray
from lumina_ray.attribution import intervals
from lumina_ray.attribution.policies import POLICIES
from lumina_ray.attribution.schema import (
    Basis,
    ControlsUnlikeCatalog,
    MembershipCounts,
    MembershipSource,
    NearestOnly,
    NoIntervals,
    NoiseBand,
    PolicyFacts,
    PublishedRule,
    QueryChunk,
    QueryFacts,
    QueryUnlikeControls,
    ReportWarning,
    StreamTaken,
)
from lumina_ray.calibration import ALPHA, ChannelCalibration, Gate
from lumina_ray.calibration.controls import Unlikeness
from lumina_ray.calibration.membership import MEMBERSHIP_FILE
from lumina_ray.index import Snapshot
from lumina_ray.methods.kernel import RIDGE
from lumina_ray.vocabulary import QueryFingerprint


def policy_facts(policy: str, top_k: int, candidates: int) -> PolicyFacts:
    """The rule of an answer, and what was asked for."""
    return PolicyFacts(
        name=policy,  # type: ignore[arg-type]  # a key of POLICIES
        published=POLICIES[policy].published,
        ridge=RIDGE,
        top_k=top_k,
        candidates=candidates,
    )


def query_facts(query: QueryFingerprint) -> QueryFacts:
    """The audio that was attributed."""
    chunks = zip(query.chunk_starts_s, query.chunk_durations_s, query.chunk_weights, strict=True)
    return QueryFacts(
        audio_sha256=query.audio_sha256,
        codes_sha256=query.codes_sha256,
        audio_stream=None if (taken := query.audio_stream) is None else StreamTaken(**asdict(taken)),
        duration_s=query.duration_s,
        chunks=tuple(QueryChunk(start_s=start, duration_s=length, weight=weight) for start, length, weight in chunks),
    )


def noise_band(noise: ChannelCalibration, gate: Gate, policy: str, query_mean: float) -> NoiseBand:
    """The noise of a channel, as a report shows it.

    Args:
        query_mean: mean similarity of the query to all songs of the catalog.
    """
    chance = {
        "calibrated": gate.error_rate(ALPHA),
        "v8": noise.exceedance["1"] * noise.n_songs,
        "v7": noise.exceedance["1.95996"] * noise.n_songs,
    }
    return NoiseBand(
        n_controls=noise.n_controls,
        n_songs=noise.n_songs,
        mean=noise.mean,
        std=noise.std,
        similarity_quantiles=noise.similarity_quantiles,
        control_maxima_similarity=noise.control_maxima_similarity,
        control_maxima=gate.control_maxima,
        guarantee=gate.guarantee,
        alpha=ALPHA,
        critical=gate.critical(ALPHA),
        resolution=gate.resolution,
        expected_false_positives=float(chance[policy]),
        query_mean_similarity=query_mean,
        control_means=noise.control_means,
        query_typicality_p=noise.bulk_p(query_mean),
    )


def membership_counts(snapshot: Snapshot, rows: np.ndarray) -> MembershipCounts | None:
    """Membership evidence of the songs that qualify, given by their rows. Shares never depend on it."""
    if snapshot.membership is None:
        return None
    p_values = snapshot.membership.songs["p_value"].take(rows).to_numpy()
    return MembershipCounts(
        qualified=len(rows),
        significant=int((p_values <= ALPHA).sum()),
        expected_by_chance=snapshot.membership.basis.chance * len(rows),
    )


def warnings_of(
    policy: str, band: NoiseBand, unlike: Unlikeness, searched: int, judged: int, qualified: int
) -> tuple[ReportWarning, ...]:
    """Warnings about a channel, for the reader who relies on its numbers.

    Args:
        band: the channel's noise.
        unlike: whether controls can be told from songs.
        searched, judged, qualified: numbers of songs.
    """
    warnings: list[ReportWarning] = []
    if POLICIES[policy].published:
        warnings.append(PublishedRule(searched=searched, expected_false_positives=band.expected_false_positives))
    # With few controls even the most extreme query cannot reach alpha: outside all of them is what can be known.
    if band.query_typicality_p <= max(band.alpha, 2 * band.resolution):
        warnings.append(
            QueryUnlikeControls(
                resembles_catalog="more" if band.query_mean_similarity > median(band.control_means) else "less",
                mean_similarity=band.query_mean_similarity,
                lowest_control=band.control_means[-1],
                highest_control=band.control_means[0],
            )
        )
    if unlike.warns:
        warnings.append(ControlsUnlikeCatalog(auc=unlike.auc, p_value=unlike.p_value))
    if policy == "calibrated" and qualified > intervals.MAX_SONGS:
        warnings.append(NoIntervals(qualified=qualified, limit=intervals.MAX_SONGS))
    if judged < searched:
        warnings.append(NearestOnly(judged=judged, searched=searched))
    return tuple(warnings)


def basis_of(query: QueryFingerprint, snapshot: Snapshot) -> Basis:
    """Everything that an answer rests on."""
    return Basis(
        weights_sha256=query.weights_sha256,
        specification_sha256=query.specification_sha256,
        specification=snapshot.record.specification,
        index_version=snapshot.version,
        index_key=snapshot.key,
        calibration_sha256=snapshot.calibration.sha256,
        membership=_membership_source(snapshot),
        environment=dict(query.environment),
        software=_software() | {"index_built_with_faiss": snapshot.record.software["faiss"]},
    )


def _membership_source(snapshot: Snapshot) -> MembershipSource | None:
    if snapshot.membership is None:
        return None
    basis = snapshot.membership.basis
    first, *further = basis.references_weights_sha256
    return MembershipSource(
        reference_weights_sha256=first,
        further_references_sha256=tuple(further) or None,
        controls_sha256=basis.controls_sha256,
        n_controls=basis.n_controls,
        resolution=basis.resolution,
        file_sha256=snapshot.record.files[MEMBERSHIP_FILE],
    )


@cache
def _software() -> dict[str, str]:
    return {name: version(name) for name in ("numpy", "scipy")} | {"lumina_ray": lumina_ray.__version__}
