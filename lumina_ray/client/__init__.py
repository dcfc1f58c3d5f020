"""The endpoint from Python: every route a method, every answer a model. Needs neither torch nor Ray."""

from lumina_ray.answers import (
    FingerprintQuery,
    IndexVersion,
    IndexVersions,
    Job,
    JobFile,
    JobResult,
    Neighbour,
    Neighbours,
    ProblemFacts,
    Readiness,
    ReportDifference,
    ReportVerification,
    ResultsPage,
    Song,
    SongPage,
)
from lumina_ray.attribution.confirmation import Confirmation, ConfirmedSong
from lumina_ray.client.client import Client
from lumina_ray.client.errors import EndpointError

__all__ = [
    "Client",
    "Confirmation",
    "ConfirmedSong",
    "EndpointError",
    "FingerprintQuery",
    "IndexVersion",
    "IndexVersions",
    "Job",
    "JobFile",
    "JobResult",
    "Neighbour",
    "Neighbours",
    "ProblemFacts",
    "Readiness",
    "ReportDifference",
    "ReportVerification",
    "ResultsPage",
    "Song",
    "SongPage",
]
