"""Attribution of one query: search, regression, confidence, shares, evidence."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import TypeAdapter

import lumina_ray
from lumina_ray.attribution import intervals
from lumina_ray.attribution.policies import POLICIES, Evidence, Verdict, v7_confidence, v7_lip
from lumina_ray.attribution.schema import (
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
from lumina_ray.index import Found, Snapshot
from lumina_ray.methods.kernel import RIDGE, kernel_scores

if TYPE_CHECKING:
    from lumina_ray.fingerprint import QueryFingerprint

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

_CHANNEL_THREADS = ThreadPoolExecutor(thread_name_prefix="channel")
# Multiplications of one channel from which it is worth a thread: threads that take turns at the interpreter cost more.
_WORTH_A_THREAD = 1 << 26
_ALL_FACTS = TypeAdapter(list[SongFacts])
# Songs of a catalog that are remembered, 2 kB each. Of a larger one none: most are asked for once in a long time.
_REMEMBERED = 20_000


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
    return attribute_all([query], snapshot, policy, top_k)[0]


def attribute_all(
    queries: "Sequence[QueryFingerprint]",
    snapshot: Snapshot,
    policy: str = DEFAULT_POLICY,
    top_k: int = DEFAULT_TOP_K,
) -> list[Report]:
    """What `attribute` says of each of some queries, which are searched for together: cheaper, and the same reports.

    Raises:
        As `attribute`.
    """
    if policy not in POLICIES:
        raise UsageError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    if top_k < 1:
        raise UsageError(f"top_k must be at least 1, got {top_k}")
    for query in queries:
        if query.specification_sha256 != snapshot.specification_sha256:
            raise SpecificationMismatch(
                f"the query has specification {query.specification_sha256}, index {snapshot.version} has "
                f"{snapshot.specification_sha256}: fingerprint the query with the model and fingerprint of the index"
            )
    use_one_blas_thread()
    found = {c: _search(c, queries, snapshot, top_k) for c in snapshot.indexes}
    dims = max(index.dims for index in snapshot.indexes.values())
    threads = dims * max(len(snapshot), min(top_k, len(snapshot)) ** 2) >= _WORTH_A_THREAD
    reports = []
    for query in queries:
        *others, _ = query.channels
        waited = {c: _CHANNEL_THREADS.submit(_retrieve, c, query, found[c], snapshot) for c in others if threads}
        retrieved = {c: _retrieve(c, query, found[c], snapshot) for c in query.channels if c not in waited}
        retrieved |= {c: of_channel.result() for c, of_channel in waited.items()}
        channels = {c: _attribute_channel(c, query, retrieved[c], snapshot, policy) for c in query.channels}
        reports.append(_report(query, snapshot, policy, top_k, channels))
    return reports


def _search(channel: Channel, queries: "Sequence[QueryFingerprint]", snapshot: Snapshot, top_k: int) -> Iterator[Found]:
    """What is nearest to those queries that have the channel, in their order."""
    asked = [query.channels[channel].vector for query in queries if channel in query.channels]
    if not asked:
        return iter(())
    asked_QD = np.stack(asked)
    check_unit_rows(asked_QD, f"query, channel {channel}")
    return snapshot.nearest(channel, asked_QD, top_k)


@dataclass(frozen=True)
class _Retrieved:
    rows: np.ndarray
    evidence: Evidence
    kernel_scores: np.ndarray


def _retrieve(channel: Channel, query: "QueryFingerprint", found: Iterator[Found], snapshot: Snapshot) -> _Retrieved:
    """Search and regression, most of which is outside Python: channels can have a core each."""
    nearest, g = next(found), query.channels[channel].vector.astype(np.float64)
    noise, means = snapshot.calibration.channels[channel], snapshot.means[channel][nearest.rows]
    evidence = Evidence(nearest.similarity, means, nearest.vectors, g, noise)
    return _Retrieved(nearest.rows, evidence, kernel_scores(nearest.vectors, g))


def _report(
    query: "QueryFingerprint", snapshot: Snapshot, policy: str, top_k: int, channels: dict[Channel, ChannelReport]
) -> Report:
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
        channels=channels,
        provenance=Provenance(
            weights_sha256=query.weights_sha256,
            specification_sha256=query.specification_sha256,
            specification=snapshot.manifest["specification"],
            index_version=snapshot.version,
            index_key=snapshot.key,
            calibration_sha256=snapshot.calibration.sha256,
            use=_use_provenance(snapshot),
            environment=dict(query.environment),
            software=_software() | {"index_built_with_faiss": snapshot.manifest["software"]["faiss"]},
        ),
    )


@cache
def _software() -> dict[str, str]:
    return {name: version(name) for name in ("numpy", "scipy")} | {"lumina_ray": lumina_ray.__version__}


def _attribute_channel(
    channel: Channel, query: "QueryFingerprint", retrieved: _Retrieved, snapshot: Snapshot, policy: str
) -> ChannelReport:
    evidence = retrieved.evidence
    noise = evidence.noise
    verdict = POLICIES[policy].judge(evidence)
    candidates = _candidates(
        retrieved, verdict, query.channels[channel].chunk_vectors, np.asarray(query.chunk_weights), snapshot, policy
    )
    qualified = int(verdict.qualified.sum())
    band = _noise_band(noise, policy, float(evidence.query @ snapshot.centres[channel]))
    subject, right = _CHANNELS[channel]
    return ChannelReport(
        subject=subject,
        right=right,
        verdict=_sentence(policy, len(candidates), qualified, noise, verdict.unattributed),
        basis=_basis(snapshot.use, candidates),
        warnings=_warnings(policy, band, snapshot.n_present, len(candidates), qualified),
        searched=snapshot.n_present,
        retrieved=len(candidates),
        qualified=qualified,
        attributed=1 - verdict.unattributed,
        unattributed=verdict.unattributed,
        noise=band,
        candidates=candidates,  # type: ignore[arg-type]  # which Pydantic makes of them all at once
    )


def _candidates(
    retrieved: _Retrieved,
    verdict: Verdict,
    chunk_vectors_nD: np.ndarray,
    weights_n: np.ndarray,
    snapshot: Snapshot,
    policy: str,
) -> list[dict[str, Any]]:
    """What a `Candidate` is made of, by rank."""
    rows, evidence = retrieved.rows, retrieved.evidence
    noise, adjusted = evidence.noise, evidence.adjusted
    chunk_similarity_kn = (chunk_vectors_nD.astype(np.float64) @ evidence.vectors.T).T
    calibrated = policy == "calibrated"
    order = np.lexsort((rows, -(adjusted if calibrated else evidence.similarity), -verdict.shares))
    by_song: dict[str, np.ndarray] = {
        "similarity": evidence.similarity,
        "adjusted_similarity": adjusted,
        "threshold": verdict.thresholds,
        "kernel_score": retrieved.kernel_scores,
        "z": evidence.z,
        "p_value": noise.p_value(adjusted),
        "family_wise_p": evidence.family_wise_p,
        "q_value": evidence.q_values,
        "qualified": verdict.qualified,
        "share": verdict.shares,
        "chunk_similarities": np.round(chunk_similarity_kn, 6),
    }
    if calibrated and verdict.qualified.sum() <= intervals.MAX_SONGS:
        by_song["share_low"], by_song["share_high"] = intervals.share_intervals(evidence, verdict, chunk_vectors_nD)
    if policy == "v7":
        by_song["confidence"] = v7_confidence(evidence.z)
        by_song["lip_percent"] = (v7_lip(evidence.z) + 1) / 2 * 100
    if verdict.explained is not None:
        by_song["explained"] = verdict.explained
    nothing = [None] * len(rows)
    by_rank: dict[str, Sequence] = {
        "rank": range(1, len(rows) + 1),
        "song": _songs(snapshot, rows[order]),
        "use": _use(snapshot, rows[order]),
        "level": [verdict.levels[i] for i in order.tolist()],
        "p_extrapolated": [noise.extrapolated_p(s) for s in adjusted[order].tolist()],
        "driving_chunks": driving_chunks(chunk_similarity_kn[order], weights_n),
        **dict.fromkeys(("share_low", "share_high", "explained", "confidence", "lip_percent"), nothing),
        **{name: values[order].tolist() for name, values in by_song.items()},
    }
    return [dict(zip(by_rank, values, strict=True)) for values in zip(*by_rank.values(), strict=True)]


def _use(snapshot: Snapshot, rows: np.ndarray) -> list[UseFacts | None]:
    """What is known of the model's having been trained on some songs."""
    if snapshot.use is None:
        return [None] * len(rows)
    excess, p_values = (snapshot.use.songs[name].take(rows).to_pylist() for name in ("excess", "p_value"))
    return [UseFacts(excess=e, p_value=p) for e, p in zip(excess, p_values, strict=True)]


def _songs(snapshot: Snapshot, rows: np.ndarray) -> list[SongFacts]:
    """What the catalog says of some songs."""
    songs: dict[int, Any] = {row: snapshot.remembered.get(row) for row in rows.tolist()}
    if new := [row for row, song in songs.items() if song is None]:
        names = list(SongFacts.model_fields)
        columns = snapshot.songs.select(names).take(new).itercolumns()
        values = zip(*(column.to_numpy().tolist() for column in columns), strict=True)
        made = _ALL_FACTS.validate_python([dict(zip(names, one, strict=True)) for one in values])
        songs |= (found := dict(zip(new, made, strict=True)))
        if len(snapshot) <= _REMEMBERED:
            snapshot.remembered.update(found)
    return list(songs.values())


def driving_chunks(similarity_kn: np.ndarray, weights_n: np.ndarray) -> list[tuple[int, ...]]:
    """Of each song the fewest chunks whose weighted positive similarity makes up at least half of all of it.

    Strongest first; none where there is no positive similarity.
    """
    parts_kn = weights_n * np.maximum(similarity_kn, 0)
    order_kn = np.argsort(-parts_kn, axis=1, kind="stable")
    total_k = np.ascontiguousarray(parts_kn).sum(axis=1)
    carried_kn = np.cumsum(np.take_along_axis(parts_kn, order_kn, axis=1), axis=1)
    needed_k = np.where(total_k > 0, (carried_kn < total_k[:, None] / 2).sum(axis=1) + 1, 0)
    return [tuple(order[:needed]) for order, needed in zip(order_kn.tolist(), needed_k.tolist(), strict=True)]


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


def _sentence(policy: str, retrieved: int, qualified: int, noise: ChannelCalibration, unattributed: float) -> str:
    if not retrieved:
        return "No song was there to be compared with. Nothing is attributed."
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


def _basis(use: Use | None, candidates: list[dict[str, Any]]) -> str:
    """Shares never depend on it: only what may be said of them does."""
    if use is None:
        return (
            "The shares rest on likeness alone: there is no reference model, so nothing is known of whether the model "
            "was trained on these songs."
        )
    p_values = [c["use"].p_value for c in candidates if c["qualified"]]
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


def _warnings(policy: str, band: NoiseBand, searched: int, retrieved: int, qualified: int) -> tuple[str, ...]:
    warnings = []
    if policy != "calibrated":
        warnings.append(
            f"The rule {policy} is published, not proven, and not corrected for the {searched} songs searched: an "
            f"unrelated track would have about {band.expected_false_positives:.1f} of them qualify."
        )
    # With few controls even the most extreme query cannot reach alpha: outside all of them is what can be known.
    if band.query_typicality_p <= max(band.alpha, 2 * band.resolution):
        than = "more" if band.query_mean_similarity > median(band.control_means) else "less"
        warnings.append(
            f"The query as a whole resembles the catalog {than} than the controls do (mean similarity "
            f"{band.query_mean_similarity:.3f}, controls {band.control_means[-1]:.3f} to {band.control_means[0]:.3f}): "
            f"its p-values may be too {'small' if than == 'more' else 'large'}. Controls from the same kind of source "
            "as the query would settle it."
        )
    if policy == "calibrated" and qualified > intervals.MAX_SONGS:
        warnings.append(
            f"The shares have no intervals: {qualified} songs qualify, and they are worked out for up to "
            f"{intervals.MAX_SONGS}. Ask for fewer candidates."
        )
    if retrieved < searched:
        warnings.append(
            f"Only the {retrieved} most similar of {searched} songs were judged; shares leave the others out."
        )
    return tuple(warnings)
