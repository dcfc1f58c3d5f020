"""Audio in, reports out."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from lumina_ray.attribution.schema import Report
from serve.problems import Problem, openapi_responses
from serve.schemas import AttributionOptions
from serve.services import Caller, Served, answered_by, attribute_upload
from serve.uploads import openapi_upload, read_upload

_EXAMPLE_REPORT = Path(__file__).parents[1] / "example_report.json"

router = APIRouter(prefix="/v1/attributions", tags=["attributions"])


@router.post(
    "",
    summary="Attribute an audio file",
    response_model=Report,
    response_description="The report, byte for byte what `lumina attribute AUDIO --index INDEX --json` prints.",
    responses={
        200: {"content": {"application/json": {"example": json.loads(_EXAMPLE_REPORT.read_text("utf-8"))}}},
        **openapi_responses(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
    },
    openapi_extra=openapi_upload(),
)
async def attribute(
    request: Request, options: Annotated[AttributionOptions, Query()], services: Served, _: Caller
) -> Response:
    """Decode, fingerprint and compare with the catalog. Nothing of the upload is kept."""
    args = services.args
    deadline_s = asyncio.get_running_loop().time() + args.request_timeout_s
    try:
        async with asyncio.timeout_at(deadline_s):
            body = await read_upload(request, args.max_upload_bytes)
    except TimeoutError as error:
        raise Problem(
            408, "request.timeout", f"The upload did not arrive within {args.request_timeout_s:g} s."
        ) from error
    async with answered_by(deadline_s, args.request_timeout_s):
        report = await attribute_upload(services, body, options.policy or args.policy, options.top_k or args.top_k)
    return Response(report, media_type="application/json")
