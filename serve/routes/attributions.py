"""Audio in, reports out."""

import asyncio
import json
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import ValidationError

from lumina_ray.answers import FingerprintQuery
from lumina_ray.attribution.schema import Report
from serve.arrivals import Arriving
from serve.problems import Problem, openapi_responses
from serve.requestlog import waiting_for
from serve.schemas import AnswerOptions, UploadOptions, describe_errors
from serve.services import (
    Served,
    answer,
    answered_by,
    attribute_audio,
    confirm_report,
    confirmer_of,
    decode_upload,
)
from serve.uploads import NDJSON, json_body, openapi_upload, upload

_EXAMPLE_REPORT = Path(__file__).parents[1] / "example_report.json"

# Both channels of the longest vectors, as JSON.
_MAX_FINGERPRINT_BYTES = 4 << 20
_MAX_NAMES = 100

router = APIRouter(prefix="/v1/attributions", tags=["attributions"])


@router.post(
    "",
    summary="Attribute an audio file",
    response_model=Report,
    response_description="The report, byte for byte what `lumina attribute AUDIO --index INDEX --json` prints.",
    responses={
        200: {
            "content": {
                "application/json": {"example": json.loads(_EXAMPLE_REPORT.read_text("utf-8"))},
                NDJSON: {"schema": {"type": "string", "description": "With `confirm`: the report, its confirmation."}},
            }
        },
        **openapi_responses(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
    },
    openapi_extra=openapi_upload(),
)
async def attribute(options: Annotated[UploadOptions, Query()], services: Served, arrival: Arriving) -> Response:
    """Decode, fingerprint and compare with the catalog. Nothing of the upload is kept."""
    args = services.args
    if options.confirm:
        # Before the upload is read.
        confirmer_of(services)
    async with (
        upload(arrival, args.max_upload_bytes) as body,
        answered_by(arrival.deadline_s, args.request_timeout_s),
    ):
        policy, top_k = options.policy or args.policy, options.top_k or args.top_k
        audio = await decode_upload(services, body)
        report = await attribute_audio(services, audio, policy, top_k, options.candidates, options.partial)
        confirmation = await confirm_report(services, audio, report) if options.confirm else None
    if confirmation is not None:
        return Response(f"{report}\n{confirmation}\n", media_type=NDJSON)
    return Response(report, media_type="application/json")


@router.post(
    "/by-fingerprint",
    summary="Attribute a fingerprint",
    response_model=Report,
    response_description="The report. Without the vectors of its chunks, the query counts as one chunk.",
    responses=openapi_responses(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": FingerprintQuery.model_json_schema()}},
        }
    },
)
async def attribute_fingerprint(
    options: Annotated[AnswerOptions, Query()], services: Served, arrival: Arriving
) -> Response:
    """Compare vectors that the client made, as the index was made, with the catalog."""
    args = services.args
    async with json_body(arrival, "fingerprint", _MAX_FINGERPRINT_BYTES) as body:
        query = await asyncio.to_thread(_parse, body)
        policy, top_k = options.policy or args.policy, options.top_k or args.top_k
        response = services.searcher.attribute_vectors.remote(query, policy, top_k, options.candidates, options.partial)
        with waiting_for("search"):
            report = await answer(services, response, arrival.deadline_s)
    return Response(report, media_type="application/json")


def _parse(body: bytes) -> FingerprintQuery:
    """Also what is wrong with it is found out here, outside the event loop: there may be a lot."""
    # Each unknown name is an error of its own, and a small body has room for hundreds of thousands.
    if body.count(b":") > _MAX_NAMES:
        raise Problem(422, "request.invalid", f"A fingerprint has no more than {_MAX_NAMES} names.")
    try:
        return FingerprintQuery.model_validate_json(body)
    except ValidationError as error:
        raise Problem(422, "request.invalid", describe_errors(error.errors())) from error
