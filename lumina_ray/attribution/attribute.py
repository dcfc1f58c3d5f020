"""Attribution of queries to the songs of a snapshot: search and regression, then a policy, then the report."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from lumina_ray.attribution.candidates import list_candidates
from lumina_ray.attribution.evidence import Evidence, Retrieved, query_levels, retrieve, search
from lumina_ray.attribution.facts import (
    basis_of,
    membership_counts,
    noise_band,
    policy_facts,
    query_facts,
    warnings_of,
)
from lumina_ray.attribution.influence import find_influence
from lumina_ray.attribution.policies import POLICIES, Verdict
from lumina_ray.attribution.provenance import find_provenance
from lumina_ray.attribution.schema import RIGHTS, ChannelReport, Report
from lumina_ray.attribution.shared import find_shared
from lumina_ray.calibration.numerics import use_one_blas_thread
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.index import Found, Snapshot
from lumina_ray.vocabulary import DEFAULT_CANDIDATES, DEFAULT_POLICY, DEFAULT_TOP_K, Channel, QueryFingerprint

# Multiplications of one channel from which a thread of its own pays: below, threads wait for the interpreter instead.
_WORTH_A_THREAD = 1 << 26


def attribute(
    query: QueryFingerprint,
    snapshot: Snapshot,
    policy: str = DEFAULT_POLICY,
    top_k: int = DEFAULT_TOP_K,
    candidates: int = DEFAULT_CANDIDATES,
) -> Report:
    """Attribute a query to the songs of a snapshot, each channel by itself.

    Args:
        policy: a name in `POLICIES`.
        top_k: songs per channel that are retrieved by similarity and judged; all songs where the catalog holds fewer.
        candidates: songs per channel that the report lists, the best ones by rank; it also lists every other song
            that qualifies or has a share. No number depends on it.

    Raises:
        SpecificationMismatch: the query was not fingerprinted as the catalog was.
        UsageError: an unknown policy, or `top_k` or `candidates` below 1.
        StoreError: query vectors that are not finite unit vectors.
    """
    return attribute_all([query], snapshot, policy, top_k, candidates)[0]


def attribute_all(
    queries: Sequence[QueryFingerprint],
    snapshot: Snapshot,
    policy: str = DEFAULT_POLICY,
    top_k: int = DEFAULT_TOP_K,
    candidates: int = DEFAULT_CANDIDATES,
) -> list[Report]:
    """Attribute several queries, searching for all of them together. The reports are those of `attribute`, bit for bit.

    Args: see `attribute`.

    Raises:
        SpecificationMismatch, UsageError, StoreError: see `attribute`.
    """
    if policy not in POLICIES:
        raise UsageError(f"policy must be one of {', '.join(POLICIES)}, got {policy!r}")
    for name, value in (("top_k", top_k), ("candidates", candidates)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    for query in queries:
        if query.specification_sha256 != snapshot.specification_sha256:
            raise SpecificationMismatch(
                f"the query has specification {query.specification_sha256}, index {snapshot.version} has "
                f"{snapshot.specification_sha256}: fingerprint the query with the model and fingerprint of the index"
            )
    use_one_blas_thread()
    found = {c: search(c, queries, snapshot, top_k) for c in snapshot.indexes}
    reports = []
    # The threads end with the call. Starting them takes 0.1 ms.
    with ThreadPoolExecutor(len(found)) if _worth_threads(snapshot, top_k) else nullcontext() as pool:
        for query in queries:
            retrieved = _retrieve_all(query, found, snapshot, pool)
            channels = {
                c: _channel_report(c, query, retrieved[c], snapshot, policy, candidates) for c in query.channels
            }
            influence = find_influence(query, snapshot)
            reports.append(
                Report(
                    policy=policy_facts(policy, top_k, candidates),
                    query=query_facts(query),
                    near_copies=channels,
                    provenance=find_provenance(query, snapshot),
                    influence=influence,
                    basis=basis_of(query, snapshot),
                    shared=find_shared(query, snapshot, channels, influence),
                )
            )
    return reports


def _worth_threads(snapshot: Snapshot, top_k: int) -> bool:
    dims = max(index.dims for index in snapshot.indexes.values())
    return dims * max(len(snapshot), min(top_k, len(snapshot)) ** 2) >= _WORTH_A_THREAD


def _retrieve_all(
    query: QueryFingerprint, found: dict[Channel, Iterator[Found]], snapshot: Snapshot, pool: ThreadPoolExecutor | None
) -> dict[Channel, Retrieved]:
    """Retrieve each channel of a query: with a pool, the last one in this thread and the others beside it."""
    *others, last = query.channels
    levels = query_levels(query, snapshot)
    waited = {c: pool.submit(retrieve, c, query, found[c], snapshot, levels) for c in others} if pool else {}
    retrieved = {c: retrieve(c, query, found[c], snapshot, levels) for c in (*others, last) if c not in waited}
    return retrieved | {c: of_channel.result() for c, of_channel in waited.items()}


def _channel_report(
    channel: Channel,
    query: QueryFingerprint,
    retrieved: Retrieved,
    snapshot: Snapshot,
    policy: str,
    candidates: int,
) -> ChannelReport:
    evidence: Evidence = retrieved.evidence
    verdict: Verdict = POLICIES[policy].judge(evidence)
    listed = list_candidates(channel, query, retrieved, verdict, snapshot, policy, candidates)
    judged, qualified = retrieved.judged, int(verdict.qualified.sum())
    band = noise_band(evidence.noise, evidence.gate, policy, float(evidence.query @ snapshot.centres[channel]))
    subject, right = RIGHTS[channel]
    return ChannelReport(
        subject=subject,
        right=right,
        warnings=warnings_of(policy, band, snapshot.calibration.unlike[channel], snapshot.n_present, judged, qualified),
        membership=membership_counts(snapshot, retrieved.rows[verdict.qualified]),
        searched=snapshot.n_present,
        retrieved=judged,
        qualified=qualified,
        attributed=1 - verdict.unattributed,
        unattributed=verdict.unattributed,
        self_likeness=evidence.parts.self_likeness,
        noise=band,
        candidates=listed,  # type: ignore[arg-type]  # Pydantic makes the models of them all at once
    )
