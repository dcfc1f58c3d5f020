"""The page for people: one static bundle at `/`, and a report as the page that `lumina attribute --html` writes."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from fastapi.staticfiles import StaticFiles
from starlette.requests import ClientDisconnect

from lumina_ray.attribution.schema import Report
from lumina_ray.errors import UsageError
from serve.places import Place
from serve.problems import Problem, openapi_responses
from serve.services import Served, answered_by, arriving_by
from serve.uploads import incomplete

logger = logging.getLogger("ray.serve")

STATIC = Path(__file__).with_name("static")
# A report with 4096 candidates of 60 chunks in both channels is some 13 MB.
MAX_REPORT_BYTES = 16 << 20
# Objects, arrays and brackets in titles: a candidate has four, and a channel at most 4096 candidates.
_MAX_REPORT_PARTS = 100_000
# A stranger’s report must not draw without end: a chunk costs some 25 ms, a thousand controls 0.4 s.
MAX_DRAWN_CHUNKS, MAX_DRAWN_CONTROLS, MAX_DRAWN_S = 400, 1000, 86_400

# Trusted types: the browser itself refuses to take a string as HTML. `blob:` is the query, played from its file.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
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
        summary="A report as a page",
        response_class=HTMLResponse,
        response_description="One self-contained page, byte for byte what `lumina attribute --html` writes.",
        responses=openapi_responses(400, 401, 408, 413, 422, 429, 500, 504),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Report"}}},
            }
        },
    )


async def page() -> FileResponse:
    return FileResponse(STATIC / "index.html", headers=_HEADERS)


async def report_as_html(request: Request, services: Served, deadline_s: Place) -> HTMLResponse:
    """Render a report that `POST /v1/attributions` answered. Nothing of it is kept."""
    limit_s = services.args.request_timeout_s
    async with arriving_by(deadline_s, limit_s):
        text = await _read(request)
    async with answered_by(deadline_s, limit_s):
        html = await asyncio.get_running_loop().run_in_executor(_RENDERER, _render, text)
    # As a download: a browser that opened it here would give it this origin.
    return HTMLResponse(html, headers={"Content-Disposition": 'attachment; filename="attribution.html"'})


class _Files(StaticFiles):
    def file_response(self, full_path: str | PathLike[str], *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(full_path, *args, **kwargs)
        response.headers.update(_HEADERS)
        return response


async def _read(request: Request) -> bytes:
    text = bytearray()
    try:
        async for block in request.stream():
            text += block
            if len(text) > MAX_REPORT_BYTES:
                raise Problem(413, "report.too_large", f"A report has at most {MAX_REPORT_BYTES} bytes.")
    except ClientDisconnect as error:
        raise incomplete() from error
    return bytes(text)


def check_parts(text: bytes) -> None:
    """Refuse what is a small file and fills the memory once it is read.

    Raises:
        Problem: 422, it has more parts than any report has.
    """
    if text.count(b"{") + text.count(b"[") > _MAX_REPORT_PARTS:
        raise Problem(422, "report.invalid", "Not a report: it has more parts than any.")


def _render(text: bytes) -> bytes:
    check_parts(text)
    # matplotlib takes a second to import, and most gateways never draw.
    from lumina_ray.report import from_json, render_html

    try:
        report = from_json(text.decode())
    except (UnicodeDecodeError, UsageError) as error:
        raise Problem(
            422, "report.invalid", "Not a report of this version: send what POST /v1/attributions answered, unchanged."
        ) from error
    _check_drawable(report)
    try:
        return render_html(report).encode()
    except Exception as error:  # whatever numbers that contradict each other lead to; ours do not
        logger.warning("a report of the right format cannot be drawn", exc_info=error)
        raise Problem(422, "report.invalid", "The report contradicts itself and cannot be drawn.") from error


def _check_drawable(report: Report) -> None:
    controls = max(len(channel.noise.control_maxima_similarity) for channel in report.channels.values())
    for value, limit, unit in (
        (len(report.query.chunks), MAX_DRAWN_CHUNKS, "chunks"),
        (controls, MAX_DRAWN_CONTROLS, "controls"),
        (report.query.duration_s, MAX_DRAWN_S, "seconds"),
    ):
        if value > limit:
            raise Problem(422, "report.not_drawable", f"Pages are drawn of up to {limit} {unit}, not {value:g}.")
