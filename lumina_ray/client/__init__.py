"""The endpoint from Python: every route a method, every answer a model. Needs neither torch nor Ray."""

from lumina_ray.client.client import Client
from lumina_ray.client.errors import EndpointError
from lumina_ray.client.models import (
    Fingerprint,
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
    ResultPage,
    Song,
    SongPage,
)

__all__ = [
    "Client",
    "EndpointError",
    "Fingerprint",
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
    "ResultPage",
    "Song",
    "SongPage",
]
