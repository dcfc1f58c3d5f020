"""What the routes of a gateway work with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    WorkerCrashedError,
)
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator

from lumina_ray.errors import AudioError, StoreError
from serve import metrics
from serve.access import Access
from serve.decoding import Decoders
from serve.problems import Problem
from serve.requestlog import note, waiting_for
from serve.schemas import ServeArgs

# What a handle's `remote` gives: a generator only where one is asked for, as its type does not say.
Response = DeploymentResponse[Any] | DeploymentResponseGenerator[Any]
# What Ray raises for a worker, a node or an object that it lost or has no room for. Not RayError, as what code of ours
# raises in a worker is one as well.
LOST = (
    RayActorError,
    WorkerCrashedError,
    NodeDiedError,
    LocalRayletDiedError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfDiskError,
    OutOfMemoryError,
)
_BEARER = HTTPBearer(
    auto_error=False, description="An API key, made with `lumina keys add`. Not asked for where access is open."
)


@dataclass(frozen=True)
class Services:
    """The deployments behind a gateway, and what the endpoint was configured with.

    Attributes:
        access: who may ask; None where anybody may.
        jobs: None where none are taken.
    """

    args: ServeArgs
    access: Access | None
    fingerprinter: DeploymentHandle
    searcher: DeploymentHandle
    decoders: Decoders
    jobs: DeploymentHandle | None


def _services(request: Request) -> Services:
    return request.app.state.services


Served = Annotated[Services, Depends(_services)]


async def _caller(
    services: Served, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> str:
    if services.access is None:
        return ""
    holder = services.access.admit(credentials.credentials if credentials else None)
    note(key=holder)
    return holder


# The name of the key's holder, who is refused here where there is none; empty where access is open.
Caller = Annotated[str, Depends(_caller)]


async def answer(services: Services, response: Response, deadline_s: float) -> Any:
    """What a deployment answers, in the time that a request has.

    Args:
        deadline_s: by the event loop's clock.

    Raises:
        Problem: returned by the deployment, as Serve would log a traceback for one that is raised; or no answer.
    """
    async with answered_by(deadline_s, services.args.request_timeout_s):
        outcome = await given(response)
    if isinstance(outcome, Problem):
        raise outcome
    return outcome


async def given(response: Response) -> Any:
    """What a deployment answers. Cancelled, as when time is up, it cancels the call too, which goes on by itself."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


async def attribute_upload(services: Services, body: bytes, policy: str, top_k: int, partial: bool = False) -> str:
    """Decode, fingerprint and compare with the catalog; the report as canonical JSON.

    Raises:
        AudioError: the audio cannot be used.
        Problem: it ended the decoder, or a part of the index is missing.
    """
    query = await fingerprint_upload(services, body)
    with waiting_for("search"):
        report = await given(services.searcher.attribute.remote(query, policy, top_k, partial))
    if isinstance(report, Problem):
        raise report
    return report


async def fingerprint_upload(services: Services, body: bytes) -> bytes:
    """Decode and fingerprint; a pickled `QueryFingerprint`.

    Raises:
        AudioError: the audio cannot be used.
        Problem: it ended the decoder.
    """
    with waiting_for("decode"):
        audio = await services.decoders.load(body, services.args.max_audio_s, services.args.max_upload_bytes)
    note(audio_s=audio.duration_s)
    metrics.count_audio(audio.duration_s)
    with waiting_for("fingerprint"):
        query = await given(services.fingerprinter.fingerprint.remote(audio))
    if isinstance(query, AudioError):
        raise query
    return query


@asynccontextmanager
async def arriving_by(deadline_s: float, limit_s: float) -> AsyncIterator[None]:
    """Turn a request that does not arrive in time into a problem; arguments as of `answered_by`."""
    try:
        with waiting_for("upload"):
            async with asyncio.timeout_at(deadline_s):
                yield
    except TimeoutError as error:
        raise Problem(408, "request.timeout", f"The upload did not arrive within {limit_s:g} s.") from error


@asynccontextmanager
async def answered_by(deadline_s: float, limit_s: float) -> AsyncIterator[None]:
    """Turn into a problem whatever keeps the deployments from answering in time.

    Args:
        deadline_s: by the event loop's clock.
        limit_s: what the answer calls the time limit.
    """
    try:
        async with asyncio.timeout_at(deadline_s):
            yield
    except TimeoutError as error:
        raise Problem.retry_later(
            504, "server.timeout", f"No answer within {limit_s:g} s; send shorter audio, or try later."
        ) from error
    except AudioError as error:
        raise Problem.of_audio(error) from error
    except BackPressureError as error:
        raise Problem.retry_later(429, "server.busy", "All queues are full; try again later.") from error
    except (DeploymentUnavailableError, *LOST) as error:
        raise Problem.retry_later(503, "server.unavailable", "A worker was lost; try again.") from error
    except StoreError as error:
        raise Problem.retry_later(503, "server.unavailable", "The index cannot be read now; try later.") from error
