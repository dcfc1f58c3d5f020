"""Reports that were made before."""

from fastapi import APIRouter

from lumina_ray.answers import ReportVerification
from serve.arrivals import Arriving
from serve.page import MAX_REPORT_BYTES, MAX_SIGNATURE_BYTES, check_parts
from serve.problems import openapi_responses
from serve.services import Served, answer, answered_by, fingerprint_upload
from serve.uploads import fields, openapi_file, openapi_form

router = APIRouter(prefix="/v1/reports", tags=["reports"])


@router.post(
    "/verify",
    summary="Verify a report",
    responses=openapi_responses(400, 401, 408, 413, 415, 422, 429, 500, 503, 504),
    openapi_extra=openapi_form(
        {
            "report": openapi_file("The report's file, byte for byte."),
            "audio": openapi_file("The file that it is about. Without it, nothing is computed again."),
            "signature": openapi_file("The signature's file, as `lumina sign` wrote it."),
        },
        ["report"],
    ),
)
async def verify(services: Served, arrival: Arriving) -> ReportVerification:
    """Check the report's bytes, signature and snapshot, and compute all of it again from its audio."""
    args = services.args
    limits = {"report": MAX_REPORT_BYTES, "audio": args.max_upload_bytes, "signature": MAX_SIGNATURE_BYTES}
    async with fields(arrival, limits) as files:
        check_parts(files["report"])
        query = None
        async with answered_by(arrival.deadline_s, args.request_timeout_s):
            if "audio" in files:
                query = await fingerprint_upload(services, files["audio"])
        response = services.searcher.verify.remote(files["report"], files.get("signature"), query)
        return await answer(services, response, arrival.deadline_s)
