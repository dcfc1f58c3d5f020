"""Does it work, and what does it answer from? Neither needs a key."""

import asyncio
from contextvars import Context

from fastapi import APIRouter, Request
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

from lumina_ray.answers import Readiness
from lumina_ray.errors import LuminaError
from serve.problems import Problem, openapi_responses
from serve.services import LOST, Served, Services, given

_PATIENCE_S = 5
_FRESH_S = 1.0
# Errors of a replica that fails its own check, such as an index that cannot be read, arrive as these.
_UNWELL = (RuntimeError, LuminaError, OSError)

router = APIRouter(tags=["status"])


@router.get("/healthz", summary="Check that model and index work", responses=openapi_responses(503))
async def healthz(request: Request, services: Served) -> dict[str, str]:
    """A tiny fingerprint and a search are really made. Not for deciding to restart it: Ray does that by itself."""
    await _ready(request, services)
    return {"status": "ok"}


@router.get("/readyz", summary="Get the model and the index that answer", responses=openapi_responses(503))
async def readyz(request: Request, services: Served) -> Readiness:
    """Make the same check as `/healthz`, and name the model and the index that answer."""
    return await _ready(request, services)


async def _ready(request: Request, services: Services) -> Readiness:
    # It needs no key: whoever asks within a moment shares one answer, and one place in the queues.
    state, now_s = request.app.state, asyncio.get_running_loop().time()
    probe: asyncio.Task[Readiness] | None = getattr(state, "probe", None)
    if probe is None or (probe.done() and now_s - state.probed_s > _FRESH_S):
        # In a context of its own: in the request's, Serve would cancel it for all once the first client goes away.
        probe = state.probe = asyncio.create_task(_probe(services), context=Context())
        state.probed_s = now_s
    return await asyncio.shield(probe)


async def _probe(services: Services) -> Readiness:
    args = services.args
    try:
        async with asyncio.timeout(_PATIENCE_S):
            model, index = await asyncio.gather(
                given(services.fingerprinter.describe.remote()), given(services.searcher.describe.remote())
            )
    except (TimeoutError, BackPressureError, DeploymentUnavailableError, *LOST, *_UNWELL) as error:
        raise Problem.retry_later(503, "server.unavailable", "The model or the index cannot answer now.") from error
    if isinstance(index, Problem):
        raise index
    return Readiness(
        **model,
        **index,
        policy=args.policy,
        top_k=args.top_k,
        max_upload_bytes=args.max_upload_bytes,
        max_audio_s=args.max_audio_s,
        confirms=services.confirmer is not None,
    )
