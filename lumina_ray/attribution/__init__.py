"""A query's fingerprint + a snapshot → a report of candidates, shares and confidence in each channel."""

from lumina_ray.attribution.attribute import DEFAULT_POLICY, DEFAULT_TOP_K, attribute, attribute_all
from lumina_ray.attribution.policies import POLICIES, Policy
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
from lumina_ray.methods.kernel import RIDGE, kernel_scores, nonnegative_kernel_scores

__all__ = [
    "DEFAULT_POLICY",
    "DEFAULT_TOP_K",
    "POLICIES",
    "RIDGE",
    "Candidate",
    "ChannelReport",
    "NoiseBand",
    "Policy",
    "PolicyFacts",
    "Provenance",
    "QueryChunk",
    "QueryFacts",
    "Report",
    "SongFacts",
    "UseFacts",
    "UseProvenance",
    "attribute",
    "attribute_all",
    "kernel_scores",
    "nonnegative_kernel_scores",
]
