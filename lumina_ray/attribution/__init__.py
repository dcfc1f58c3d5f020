"""A query's fingerprint + a snapshot → a report of candidates, shares and confidence in each channel."""

from lumina_ray.attribution.attribute import attribute, attribute_all
from lumina_ray.attribution.policies import POLICIES, Policy
from lumina_ray.attribution.schema import (
    Candidate,
    ChannelReport,
    MembershipCounts,
    MembershipFacts,
    MembershipProvenance,
    NearestOnly,
    NoIntervals,
    NoiseBand,
    PartNotSearched,
    PolicyFacts,
    Provenance,
    PublishedRule,
    QueryChunk,
    QueryFacts,
    QueryUnlikeControls,
    Report,
    ReportWarning,
    SongFacts,
)
from lumina_ray.methods.kernel import RIDGE, kernel_scores, nonnegative_kernel_scores

__all__ = [
    "POLICIES",
    "RIDGE",
    "Candidate",
    "ChannelReport",
    "MembershipCounts",
    "MembershipFacts",
    "MembershipProvenance",
    "NearestOnly",
    "NoIntervals",
    "NoiseBand",
    "PartNotSearched",
    "Policy",
    "PolicyFacts",
    "Provenance",
    "PublishedRule",
    "QueryChunk",
    "QueryFacts",
    "QueryUnlikeControls",
    "Report",
    "ReportWarning",
    "SongFacts",
    "attribute",
    "attribute_all",
    "kernel_scores",
    "nonnegative_kernel_scores",
]
