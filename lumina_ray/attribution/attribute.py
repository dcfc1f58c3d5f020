"""Attribution of one query: search, regression, confidence, shares, evidence."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

import numpy as np

import lumina_ray
from lumina_ray.attribution.intervals import share_intervals
from lumina_ray.attribution.policies import POLICIES, Evidence, Verdict, v7_confidence, v7_lip
from lumina_ray.attribution.schema import (
    Candidate,
    ChannelReport,
    NoiseBand,
    PolicyFacts,
    Provenance,
    QueryChunk,
    QueryFacts,
    Report,
    SongFacts,
    UseFacts,
    UseProvenance,
)
from lumina_ray.calibration import ALPHA, ChannelCalibration
from lumina_ray.calibration.numerics import use_one_blas_thread
from lumina_ray.calibration.use import USE_FILE, Use
from lumina_ray.calibration.vectors import Channel, check_unit_rows
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.index import Snapshot
from lumina_ray.methods.kernel import RIDGE, kernel_scores

if TYPE_CHECKING:
    from lumina_ray.fingerprint import ChannelQuery, QueryFingerprint

DEFAULT_POLICY = "calibrated"
DEFAULT_TOP_K = 256

EVIDENCE = (
    "Similarity-based evidence: how alike the query and the songs are in the audited model's own view. "
    "It is not proof that the model used a song, and a share is not a causal fraction."
)

USE_EVIDENCE = (
    "Evidence of use, where a song has any, is that the model was trained on the song or on something nearly "
    "identical: not that it made use of it for this query. It holds as far as the controls are music of the catalog's "
    "kind and the reference model never saw the catalog."
)

_CHANNELS: dict[Channel, tuple[Literal["composition", "production"], Literal["publishing", "master"]]] = {
    "P": ("composition", "publishing"),
    "M": ("production", "master"),
}


def attribute(
    query: "QueryFingerprint", snapshot: Snapshot, policy: str = DEFAULT_POLICY, top_k: int = DEFAULT_TOP_K
) -> Report:
    """Attribute a query to the songs of a snapshot, each channel by itself.

    Args:
        policy: a name in `POLICIES`.
        top_k: candidates per channel, retrieved by similarity; more than the catalog holds is the catalog.

    Raises:
        SpecificationMismatch: the query was not fingerprinted as the catalog was.
        UsageError: an unknown policy, or `top_k` below 1.
        StoreError: query vectors that are not finite unit vectors.
    """
    if policy not in POLICIES:
        raise UsageError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    if top_k < 1:
        raise UsageError(f"top_k must be at least 1, got {top_k}")
    if query.specification_sha256 != snapshot.specification_sha256:
        raise SpecificationMismatch(
            f"the query has specification {query.specification_sha256}, index {snapshot.version} has "
            f"{snapshot.specification_sha256}: fingerprint the query with the model and fingerprint of the index"
        )
    use_one_blas_thread()
    rule = POLICIES[policy]
    return Report(
        evidence=EVIDENCE if snapshot.use is None else f"{EVIDENCE} {USE_EVIDENCE}",
        policy=PolicyFacts(
            name=policy,  # type: ignore[arg-type]  # checked above
            published=rule.published,
            statistic=rule.statistic,
            qualifies=rule.qualifies,
            share=rule.share,
            ridge=RIDGE,
            top_k=top_k,
        ),
        query=QueryFacts(
            audio_sha256=query.audio_sha256,
            codes_sha256=query.codes_sha256,
            duration_s=query.duration_s,
            chunks=tuple(
                QueryChunk(start_s=start, duration_s=duration, weight=weight)
                for start, duration, weight in zip(
                    query.chunk_starts_s, query.chunk_durations_s, query.chunk_weights, strict=True
                )
            ),
        ),
        channels={
            c: _attribute_channel(c, query.channels[c], np.asarray(query.chunk_weights), snapshot, policy, top_k)
            for c in query.channels
        },
        provenance=Provenance(
            weights_sha256=query.weights_sha256,
            specification_sha256=query.specification_sha256,
            specification=snapshot.manifest["specification"],
            index_version=snapshot.version,
            index_key=snapshot.key,
            calibration_sha256=snapshot.calibration.sha256,
            use=_use_provenance(snapshot),
            environment=dict(query.environment),
            software={name: version(name) for name in ("numpy", "scipy")}
            | {"lumina_ray": lumina_ray.__version__, "index_built_with_faiss": snapshot.manifest["software"]["faiss"]},
        ),
    )


def _attribute_channel(
    channel: Channel, query: "ChannelQuery", weights_n: np.ndarray, snapshot: Snapshot, policy: str, top_k: int
) -> ChannelReport:
    check_unit_rows(query.vector[None], f"query, channel {channel}")
    noise = snapshot.calibration.channels[channel]
    g = query.vector.astype(np.float64)
    _, rows = snapshot.search(channel, query.vector[None], top_k)
    K = snapshot.vectors(channel, rows[0]).astype(np.float64)
    evidence = Evidence(np.einsum("kd,d->k", K, g), snapshot.means[channel][rows[0]], K, g, noise)
    verdict = POLICIES[policy].judge(evidence)
    candidates = _candidates(evidence, verdict, query, weights_n, rows[0], snapshot, policy)
    qualified = int(verdict.qualified.sum())
    band = _noise_band(noise, policy, float(g @ snapshot.centres[channel]))
    subject, right = _CHANNELS[channel]
    return ChannelReport(
        subject=subject,
        right=right,
        verdict=_sentence(policy, qualified, noise, verdict.unattributed),
        basis=_basis(snapshot.use, candidates),
        warnings=_warnings(policy, band, snapshot.n_present, len(candidates)),
        searched=snapshot.n_present,
        retrieved=len(candidates),
        qualified=qualified,
        attributed=1 - verdict.unattributed,
        unattributed=verdict.unattributed,
        noise=band,
        candidates=candidates,
    )


def _candidates(
    evidence: Evidence,
    verdict: Verdict,
    query: "ChannelQuery",
    weights_n: np.ndarray,
    rows: np.ndarray,
    snapshot: Snapshot,
    policy: str,
) -> tuple[Candidate, ...]:
    songs = snapshot.songs.select(list(SongFacts.model_fields)).take(rows).to_pylist()
    use = snapshot.use and snapshot.use.songs.select(list(UseFacts.model_fields)).take(rows).to_pylist()
    scores = kernel_scores(evidence.vectors, evidence.query)
    z, adjusted = evidence.z, evidence.adjusted
    p_values, family_wise_p = evidence.noise.p_value(adjusted), evidence.family_wise_p
    confidence, lip_percent = v7_confidence(z), (v7_lip(z) + 1) / 2 * 100
    chunk_similarity_nk = query.chunk_vectors.astype(np.float64) @ evidence.vectors.T
    calibrated = policy == "calibrated"
    statistic = adjusted if calibrated else evidence.similarity
    nothing = np.zeros(len(rows))
    low, high = share_intervals(evidence, verdict, query.chunk_vectors) if calibrated else (nothing, nothing)
    q_values = evidence.q_values
    order = np.lexsort((rows, -statistic, -verdict.shares))
    return tuple(
        Candidate(
            rank=rank,
            song=SongFacts(**songs[i]),
            similarity=float(evidence.similarity[i]),
            adjusted_similarity=float(adjusted[i]),
            threshold=float(verdict.thresholds[i]),
            kernel_score=float(scores[i]),
            z=float(z[i]),
            p_value=float(p_values[i]),
            family_wise_p=float(family_wise_p[i]),
            p_extrapolated=evidence.noise.extrapolated_p(float(adjusted[i])),
            q_value=float(q_values[i]),
            level=verdict.levels[i],
            qualified=bool(verdict.qualified[i]),
            share=float(verdict.shares[i]),
            share_low=float(low[i]) if calibrated else None,
            share_high=float(high[i]) if calibrated else None,
            explained=None if verdict.explained is None else float(verdict.explained[i]),
            confidence=float(confidence[i]) if policy == "v7" else None,
            lip_percent=float(lip_percent[i]) if policy == "v7" else None,
            chunk_similarities=tuple(np.round(chunk_similarity_nk[:, i], 6).tolist()),
            driving_chunks=driving_chunks(chunk_similarity_nk[:, i], weights_n),
            use=UseFacts(**use[i]) if use else None,
        )
        for rank, i in enumerate(order.tolist(), start=1)
    )


def driving_chunks(similarity_n: np.ndarray, weights_n: np.ndarray) -> tuple[int, ...]:
    """The fewest chunks whose weighted positive similarity makes up at least half of all of it, strongest first."""
    parts = weights_n * np.maximum(similarity_n, 0)
    order = np.argsort(-parts, kind="stable")
    total = parts.sum()
    if total <= 0:
        return ()
    return tuple(order[: int(np.searchsorted(np.cumsum(parts[order]), total / 2)) + 1].tolist())


def _noise_band(noise: ChannelCalibration, policy: str, query_mean: float) -> NoiseBand:
    chance = {
        "calibrated": np.floor(ALPHA * (noise.n_controls + 1) + 1e-9) / (noise.n_controls + 1),
        "v8": noise.exceedance["1"] * noise.n_songs,
        "v7": noise.exceedance["1.95996"] * noise.n_songs,
    }
    return NoiseBand(
        n_controls=noise.n_controls,
        mean=noise.mean,
        std=noise.std,
        similarity_quantiles=noise.similarity_quantiles,
        control_maxima_similarity=noise.control_maxima_similarity,
        control_maxima=noise.control_maxima,
        alpha=ALPHA,
        critical=noise.critical(ALPHA),
        resolution=noise.resolution,
        expected_false_positives=float(chance[policy]),
        query_mean_similarity=query_mean,
        control_means=noise.control_means,
        query_typicality_p=noise.bulk_p(query_mean),
    )


def _sentence(policy: str, qualified: int, noise: ChannelCalibration, unattributed: float) -> str:
    songs = "1 song" if qualified == 1 else f"{qualified} songs"
    if policy != "calibrated":
        return f"{songs} of {noise.n_songs} pass the published rule {policy}, which proves nothing by itself."
    if not qualified:
        return (
            f"No song stands out: the best match is no better than what {noise.n_controls} unrelated control tracks "
            f"find among these {noise.n_songs} songs. Nothing is attributed."
        )
    stand = "stands" if qualified == 1 else "stand"
    return (
        f"{songs} of {noise.n_songs} {stand} above the noise of {noise.n_controls} unrelated control tracks; "
        f"{unattributed:.1%} of the query's fingerprint stays unattributed."
    )


def _basis(use: Use | None, candidates: tuple[Candidate, ...]) -> str:
    """Shares never depend on it: only what may be said of them does."""
    if use is None:
        return (
            "The shares rest on likeness alone: there is no reference model, so nothing is known of whether the model "
            "was trained on these songs."
        )
    p_values = [c.use.p_value for c in candidates if c.qualified and c.use is not None]
    if not p_values:
        return "No song qualifies: there are no shares that could rest on likeness or on use."
    n, found = len(p_values), sum(p <= ALPHA for p in p_values)
    only = "the one song that qualifies"
    if not found:
        which = only if n == 1 else f"any of the {n} songs that qualify"
        return (
            f"The shares rest on likeness alone: there is no evidence that the model was trained on {which} "
            f"(p > {ALPHA:g} by {use.basis.n_controls} controls)."
        )
    which = only if n == 1 else f"{found} of the {n} songs that qualify"
    return (
        f"The shares rest on likeness and, for {which}, on evidence that the model was trained on "
        f"{'it' if found == 1 else 'them'} (p ≤ {ALPHA:g} by {use.basis.n_controls} controls; "
        f"{use.basis.chance * n:.2g} expected by chance)."
    )


def _use_provenance(snapshot: Snapshot) -> UseProvenance | None:
    if snapshot.use is None:
        return None
    basis = snapshot.use.basis
    return UseProvenance(
        reference_weights_sha256=basis.reference_weights_sha256,
        controls_sha256=basis.controls_sha256,
        n_controls=basis.n_controls,
        resolution=basis.resolution,
        file_sha256=snapshot.manifest["files"][USE_FILE],
    )


def _warnings(policy: str, band: NoiseBand, searched: int, retrieved: int) -> tuple[str, ...]:
    warnings = []
    if policy != "calibrated":
        warnings.append(
            f"The rule {policy} is published, not proven, and not corrected for the {searched} songs searched: an "
            f"unrelated track would have about {band.expected_false_positives:.1f} of them qualify."
        )
    # With few controls even the most extreme query cannot reach alpha: outside all of them is what can be known.
    if band.query_typicality_p <= max(band.alpha, 2 * band.resolution):
        than = "more" if band.query_mean_similarity > np.median(band.control_means) else "less"
        warnings.append(
            f"The query as a whole resembles the catalog {than} than the controls do (mean similarity "
            f"{band.query_mean_similarity:.3f}, controls {band.control_means[-1]:.3f} to {band.control_means[0]:.3f}): "
            f"its p-values may be too {'small' if than == 'more' else 'large'}. Controls from the same kind of source "
            "as the query would settle it."
        )
    if retrieved < searched:
        warnings.append(
            f"Only the {retrieved} most similar of {searched} songs were judged; shares leave the others out."
        )
    return tuple(warnings)
