"""What the routes of a gateway work with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from lumina_ray.audio import load_audio
from lumina_ray.errors import AudioError
from serve.access import Access
from serve.problems import Problem
from serve.schemas import ServeArgs

_BEARER = HTTPBearer(
    auto_error=False, description="An API key, made with `lumina keys add`. Not asked for where access is open."
)


@dataclass(frozen=True)
class Services:
    """The deployments behind a gateway, and what the endpoint was configured with.

    Attributes:
        access: who may ask; None where anybody may.
    """

    args: ServeArgs
    access: Access | None
    fingerprinter: DeploymentHandle
    searcher: DeploymentHandle


def _services(request: Request) -> Services:
    return request.app.state.services


Served = Annotated[Services, Depends(_services)]


async def _caller(
    services: Served, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> str:
    if services.access is None:
        return ""
    return services.access.admit(credentials.credentials if credentials else None)


# The name of the key's holder, who is refused here where there is none; empty where access is open.
Caller = Annotated[str, Depends(_caller)]


async def attribute_upload(services: Services, body: bytes, policy: str, top_k: int) -> str:
    """Decode, fingerprint and compare with the catalog; the report as canonical JSON.

    Raises:
        AudioError: the audio cannot be used.
    """
    args = services.args
    audio = await asyncio.to_thread(
        load_audio, body, name="upload", max_duration_s=args.max_audio_s, max_bytes=args.max_upload_bytes
    )
    query = await services.fingerprinter.fingerprint.remote(audio)
    if isinstance(query, AudioError):
        raise query
    return await services.searcher.attribute.remote(query, policy, top_k)


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
    except (DeploymentUnavailableError, RayActorError) as error:
        raise Problem.retry_later(503, "server.unavailable", "A worker was lost; try again.") from error
