"""Reports that were made before."""

from typing import Any

from fastapi import APIRouter, Request

from serve.page import MAX_REPORT_BYTES, check_parts
from serve.places import Place
from serve.problems import Problem, openapi_responses
from serve.schemas import ReportVerification
from serve.services import Served, answer, answered_by, arriving_by, fingerprint_upload
from serve.uploads import openapi_form, read_fields

_MAX_SIGNATURE_BYTES = 4096

router = APIRouter(prefix="/v1/reports", tags=["reports"])


def _file(description: str) -> dict[str, Any]:
    return {"type": "string", "format": "binary", "description": description}


@router.post(
    "/verify",
    summary="Is a report what its audio gives?",
    responses=openapi_responses(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=openapi_form(
        {
            "report": _file("The report's file, byte for byte."),
            "audio": _file("The file that it is about. Without it, nothing is computed again."),
            "signature": _file("The signature's file, as `lumina sign` wrote it."),
        },
        ["report"],
    ),
)
async def verify(request: Request, services: Served, deadline_s: Place) -> ReportVerification:
    """Check the report's bytes, signature and snapshot, and compute all of it again from its audio."""
    args = services.args
    limits = {"report": MAX_REPORT_BYTES, "audio": args.max_upload_bytes, "signature": _MAX_SIGNATURE_BYTES}
    async with arriving_by(deadline_s, args.request_timeout_s):
        files = await read_fields(request, limits)
    if "report" not in files:
        raise Problem(
            422, "request.no_report", "The form has no complete field 'report'; send the report's file in it."
        )
    check_parts(files["report"])
    query = None
    async with answered_by(deadline_s, args.request_timeout_s):
        if "audio" in files:
            query = await fingerprint_upload(services, files["audio"])
    response = services.searcher.verify.remote(files["report"], files.get("signature"), query)
    return await answer(services, response, deadline_s)
