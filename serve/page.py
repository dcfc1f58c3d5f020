"""The page for people: static files at `/`, and `POST /v1/reports/html`, which draws the report that the page shows."""

import asyncio
import base64
import hashlib
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles

from lumina_ray.answers import ReportVerification
from lumina_ray.attribution.schema import Report
from lumina_ray.errors import UsageError
from serve.arrivals import Arrival, Arriving
from serve.problems import Problem, openapi_responses
from serve.requestlog import traceback_of
from serve.services import Served, answered_by, given
from serve.uploads import body, fields, is_form, openapi_file, openapi_form

logger = logging.getLogger("ray.serve")

STATIC = Path(__file__).with_name("static")
# A report with 4096 candidates of 60 chunks in both channels is some 13 MB.
MAX_REPORT_BYTES = 16 << 20
MAX_SIGNATURE_BYTES = 4096
# Objects, arrays and brackets in titles: a candidate has four, and a channel at most 4096 candidates.
_MAX_REPORT_PARTS = 100_000
# A stranger’s report must not draw without end: a chunk costs some 25 ms, a thousand controls 0.2 s.
MAX_DRAWN_CHUNKS, MAX_DRAWN_CONTROLS, MAX_DRAWN_S = 400, 10_000, 86_400

HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
# Trusted types: the browser itself refuses to take a string as HTML. `blob:` is the query, played from its file.
PAGE_POLICY = (
    "default-src 'self'; media-src blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
# What the page says to who has no key yet is there for endpoints that ask for one.
_OPEN, _WITH_KEYS = 'data-access="open"', 'data-access="keys"'
# The frame shows a report's HTML. It has an origin of its own, as `sandbox` says, loads nothing, and runs no script but
# the one in its file. A report has inline styles.
_FRAME = STATIC / "frame.html"
_FRAME_SCRIPT = _FRAME.read_text("utf-8").partition("<script>")[2].partition("</script>")[0]
_FRAME_SCRIPT_SHA256 = base64.b64encode(hashlib.sha256(_FRAME_SCRIPT.encode()).digest()).decode()
_FRAME_POLICY = (
    f"sandbox allow-scripts; default-src 'none'; script-src 'sha256-{_FRAME_SCRIPT_SHA256}'; "
    "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# One thread: matplotlib's settings belong to the whole process.
_RENDERER = ThreadPoolExecutor(1, thread_name_prefix="report")


def install_page(app: FastAPI) -> None:
    """Add `/`, `/static` and `POST /v1/reports/html`.

    Endpoints are functions of this module, as Serve pickles the application and a thread pool cannot be pickled.
    """
    app.add_api_route("/", page, include_in_schema=False)
    app.mount("/static", _Files(directory=STATIC))
    app.add_api_route(
        "/v1/reports/html",
        report_as_html,
        methods=["POST"],
        summary="Draw a report as an HTML page",
        response_class=HTMLResponse,
        response_description="One self-contained page: that of `lumina attribute --html`, and what was not verified.",
        responses=openapi_responses(400, 401, 408, 413, 422, 429, 500, 503, 504),
        openapi_extra=_openapi_body(),
    )


def _openapi_body() -> dict[str, Any]:
    """A report as it is, or a form that has its signature too."""
    files = {
        "report": openapi_file("The report's file, byte for byte."),
        "signature": openapi_file("The signature's file, as `lumina sign` wrote it."),
    }
    taken = openapi_form(files, ["report"])
    taken["requestBody"]["content"]["application/json"] = {"schema": {"$ref": "#/components/schemas/Report"}}
    return taken


async def page(services: Served) -> HTMLResponse:
    text = (STATIC / "index.html").read_text("utf-8")
    if services.access is not None:
        text = text.replace(_OPEN, _WITH_KEYS)
    return HTMLResponse(text, headers=HEADERS | {"Content-Security-Policy": PAGE_POLICY})


async def report_as_html(services: Served, arrival: Arriving) -> HTMLResponse:
    """Render a report, and say what about it was not verified. Nothing of it is kept."""
    loop = asyncio.get_running_loop()
    async with (
        _handed_in(arrival) as (text, signature),
        answered_by(arrival.deadline_s, services.args.request_timeout_s),
    ):
        report = await loop.run_in_executor(_RENDERER, _parse, text)
        verified = await given(services.searcher.verify.remote(text, signature, None))
        unverified = _not_verified(verified, signature)
        html = await loop.run_in_executor(_RENDERER, _render, report, unverified)
    # Sent as a download: a browser that opened it here would give it this origin.
    return HTMLResponse(html, headers={"Content-Disposition": 'attachment; filename="attribution.html"'})


class _Files(StaticFiles):
    def file_response(self, full_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        policy = _FRAME_POLICY if Path(full_path) == _FRAME else PAGE_POLICY
        response.headers.update(HEADERS | {"Content-Security-Policy": policy})
        return response


@asynccontextmanager
async def _handed_in(arrival: Arrival) -> AsyncIterator[tuple[bytes, bytes | None]]:
    """The bytes of a report, and of its signature where there is one."""
    if is_form(arrival.request):
        async with fields(arrival, {"report": MAX_REPORT_BYTES, "signature": MAX_SIGNATURE_BYTES}) as files:
            yield files["report"], files.get("signature")
    else:
        async with body(arrival, "report", MAX_REPORT_BYTES) as text:
            yield text, None


def _not_verified(verified: ReportVerification | Problem, signature: bytes | None) -> list[str]:
    """Sentences about what could not be verified of a report, or does not hold.

    Raises:
        Problem: it is the server's state and not the report's fault.
    """
    told = []
    if isinstance(verified, Problem):
        if verified.status != 422:
            raise verified
        told.append(verified.detail)
        told.append("Checking ended there: what comes after it was not verified.")
    if signature is None:
        told.append("Who made it: no signature came with it.")
    elif isinstance(verified, ReportVerification):
        told.append(
            f"Who signed it: the signature holds and is by key {verified.signed_by}. This server does not know whose "
            "key that is."
        )
    told.append("Whether its numbers are right: nothing was computed again, as that takes the audio.")
    return told


def check_parts(text: bytes) -> None:
    """Refuse what is a small file and fills the memory once it is read.

    Raises:
        Problem: 422, it has more parts than any report has.
    """
    if text.count(b"{") + text.count(b"[") > _MAX_REPORT_PARTS:
        raise Problem(422, "report.invalid", "Not a report: it has more parts than any.")


def _parse(text: bytes) -> Report:
    check_parts(text)
    # matplotlib takes a second to import, and most gateways never draw.
    from lumina_ray.report import from_json

    try:
        report = from_json(text.decode())
    except (UnicodeDecodeError, UsageError) as error:
        raise Problem(
            422, "report.invalid", "Not a report of this version: send what POST /v1/attributions answered, unchanged."
        ) from error
    _check_drawable(report)
    return report


def _render(report: Report, unverified: list[str]) -> bytes:
    from lumina_ray.report import render_html

    try:
        return render_html(report, unverified=unverified).encode()
    except Exception as error:  # whatever numbers that contradict each other lead to; ours do not
        logger.warning("a report of the right format cannot be drawn: %s", traceback_of(error))
        raise Problem(422, "report.invalid", "The report contradicts itself and cannot be drawn.") from error


def _check_drawable(report: Report) -> None:
    controls = max(len(channel.noise.control_maxima_similarity) for channel in report.near_copies.values())
    for value, limit, unit in (
        (len(report.query.chunks), MAX_DRAWN_CHUNKS, "chunks"),
        (controls, MAX_DRAWN_CONTROLS, "controls"),
        (report.query.duration_s, MAX_DRAWN_S, "seconds"),
    ):
        if value > limit:
            raise Problem(422, "report.not_drawable", f"Pages are drawn of up to {limit} {unit}, not {value:g}.")
