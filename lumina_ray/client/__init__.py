"""The endpoint from Python: every route a method, every answer a model. Needs neither torch nor Ray."""

from lumina_ray.client.client import Client
from lumina_ray.client.errors import EndpointError
from lumina_ray.client.models import (
    ChannelVectors,
    Fingerprint,
    Indexes,
    IndexVersion,
    Job,
    JobError,
    JobResult,
    JobResults,
    Nearest,
    Neighbour,
    Readiness,
    Song,
    Songs,
)

__all__ = [
    "ChannelVectors",
    "Client",
    "EndpointError",
    "Fingerprint",
    "IndexVersion",
    "Indexes",
    "Job",
    "JobError",
    "JobResult",
    "JobResults",
    "Nearest",
    "Neighbour",
    "Readiness",
    "Song",
    "Songs",
]
