"""Shared parts of a gateway's routes: the deployments behind it, and calls to them."""

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

from lumina_ray.audio import ChunkedAudio
from lumina_ray.errors import AudioError, StoreError
from lumina_ray.vocabulary import DEFAULT_CANDIDATES
from serve import metrics
from serve.access import Access
from serve.decoding import Decoders
from serve.problems import Problem
from serve.requestlog import note, waiting_for
from serve.schemas import ServeArgs

# Return type of a handle's `remote`. It is a generator only if one is asked for, which the type does not say.
Response = DeploymentResponse[Any] | DeploymentResponseGenerator[Any]
# Ray raises these for a worker, a node or an object that it lost or has no room for. RayError itself is too wide:
# errors of our own code in a worker are RayErrors too.
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
        confirmer: None where nothing is confirmed.
    """

    args: ServeArgs
    access: Access | None
    fingerprinter: DeploymentHandle
    searcher: DeploymentHandle
    decoders: Decoders
    jobs: DeploymentHandle | None
    confirmer: DeploymentHandle | None


def _services(request: Request) -> Services:
    return request.app.state.services


Served = Annotated[Services, Depends(_services)]


async def _caller(
    services: Served, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> str:
    if services.access is None:
        return ""
    holder = services.access.admit(credentials.credentials if credentials else None)
    note(key=holder.name)
    return holder.sha256


# Whose request it is: the hash of the API key, as a name may be given to another key once the first is revoked; empty
# where access is open. Who has no key is refused here.
Caller = Annotated[str, Depends(_caller)]


async def answer(services: Services, response: Response, deadline_s: float) -> Any:
    """Wait for the answer of a deployment, in the time that a request has.

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
    """Wait for the answer of a deployment. If this is cancelled, so is the call, which would go on otherwise."""
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


async def attribute_upload(
    services: Services,
    body: bytes,
    policy: str,
    top_k: int,
    candidates: int = DEFAULT_CANDIDATES,
    partial: bool = False,
) -> str:
    """Decode, fingerprint and compare with the catalog; the report as canonical JSON.

    Raises:
        AudioError: the audio cannot be used.
        Problem: it ended the decoder, or a part of the index is missing.
    """
    return await attribute_audio(services, await decode_upload(services, body), policy, top_k, candidates, partial)


async def attribute_audio(
    services: Services, audio: ChunkedAudio, policy: str, top_k: int, candidates: int, partial: bool
) -> str:
    """Fingerprint decoded audio and compare with the catalog. Raises: Problem: a part of the index is missing."""
    fingerprinted = await fingerprint_audio(services, audio)
    with waiting_for("search"):
        report = await given(services.searcher.attribute.remote(fingerprinted, policy, top_k, candidates, partial))
    if isinstance(report, Problem):
        raise report
    return report


async def confirm_report(services: Services, audio: ChunkedAudio, report: str) -> str:
    """Confirm a report by forgetting its audio; the confirmation as JSON on one line.

    Raises:
        Problem: the audio cannot be forgotten, or nothing is confirmed here.
    """
    with waiting_for("confirm"):
        confirmation = await given(confirmer_of(services).confirm.remote(audio, report))
    if isinstance(confirmation, Problem):
        raise confirmation
    return confirmation


def confirmer_of(services: Services) -> DeploymentHandle:
    """The deployment that confirms. Raises: Problem: there is none."""
    if services.confirmer is None:
        raise Problem(422, "confirm.off", "Nothing is confirmed here: the endpoint was started without a store.")
    return services.confirmer


async def decode_upload(services: Services, body: bytes) -> ChunkedAudio:
    """Decode.

    Raises:
        AudioError: the audio cannot be used.
        Problem: it ended the decoder.
    """
    with waiting_for("decode"):
        audio = await services.decoders.load(body, services.args.max_audio_s, services.args.max_upload_bytes)
    note(audio_s=audio.duration_s)
    metrics.count_audio(audio.duration_s)
    return audio


async def fingerprint_upload(services: Services, body: bytes) -> Response:
    """Decode and fingerprint. Returns and raises: as `fingerprint_audio` and `decode_upload`."""
    return await fingerprint_audio(services, await decode_upload(services, body))


async def fingerprint_audio(services: Services, audio: ChunkedAudio) -> Response:
    """Fingerprint decoded audio.

    Returns:
        The fingerprinter's finished response. Pass it to a method of the searcher as it is: Serve then gives the
        searcher the `QueryFingerprint`, by reference. It is waited for here and not in the searcher's queue, where
        songs that wait for the model would take the places of searches.
    """
    with waiting_for("fingerprint"):
        response = services.fingerprinter.fingerprint.remote(audio)
        await given(response)
    return response


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
