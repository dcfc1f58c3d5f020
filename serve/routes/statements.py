"""Many reports, added up for each rights-holder."""

import asyncio
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

from fastapi import APIRouter, Query, Response

from lumina_ray.errors import StatementError
from lumina_ray.statement.schema import Statement
from serve.arrivals import Arriving
from serve.page import check_parts
from serve.problems import Problem, openapi_responses
from serve.schemas import StatementOptions
from serve.services import Served, answered_by
from serve.uploads import NDJSON, ndjson_body

MAX_STATEMENT_REPORTS = 10_000

# A statement of ten thousand reports takes a core for ten seconds and more: one at a time.
_ADDER = ThreadPoolExecutor(1, thread_name_prefix="statement")
_TYPES = {"json": "application/json", "csv": "text/csv; charset=utf-8", "html": "text/html; charset=utf-8"}

router = APIRouter(prefix="/v1/statements", tags=["statements"])


@router.post(
    "",
    summary="Add reports up to a statement",
    response_model=Statement,
    response_description="The statement, byte for byte what `lumina statement --json` prints for the same reports; or "
    "its lines as CSV, or its page.",
    responses={
        200: {"content": {"text/csv": {}, "text/html": {}}},
        **openapi_responses(400, 401, 408, 413, 415, 422, 429, 500, 503, 504, 507),
    },
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                NDJSON: {"schema": {"type": "string", "description": "Reports, one on each line, byte for byte."}}
            },
        }
    },
)
async def statement(options: Annotated[StatementOptions, Query()], services: Served, arrival: Arriving) -> Response:
    """Say what each owner, creator or song gets of all clips together. No report is kept, or computed again."""
    loop, stopped = asyncio.get_running_loop(), threading.Event()
    async with (
        ndjson_body(arrival, services.args.max_upload_bytes) as text,
        answered_by(arrival.deadline_s, services.args.request_timeout_s),
    ):
        try:
            content = await loop.run_in_executor(_ADDER, _add_up, text, options, stopped)
        finally:
            # Nobody waits for it any more.
            stopped.set()
    headers = (
        {}
        if options.format == "json"
        else {"Content-Disposition": f'attachment; filename="statement.{options.format}"'}
    )
    return Response(content, media_type=_TYPES[options.format], headers=headers)


def _add_up(text: bytes, options: StatementOptions, stopped: threading.Event) -> bytes:
    # scipy and others come with them, and most gateways never add up.
    from lumina_ray.statement.html import render_html
    from lumina_ray.statement.json import to_json
    from lumina_ray.statement.lineage import Lineage
    from lumina_ray.statement.make import make_statement
    from lumina_ray.statement.reading import Read, read_source
    from lumina_ray.statement.sources import split_lines
    from lumina_ray.statement.tables import LINES, line_rows, write_csv

    def reads() -> Iterator[Read]:
        for number, source in enumerate(split_lines(io.BytesIO(text), "the request"), start=1):
            if stopped.is_set():
                raise asyncio.CancelledError
            if number > MAX_STATEMENT_REPORTS:
                raise Problem(
                    413,
                    "statement.too_many",
                    f"More than {MAX_STATEMENT_REPORTS} reports; `lumina statement` takes any number of them.",
                )
            check_parts(source.data or b"")
            yield read_source(source)

    try:
        made = make_statement(reads(), options.by, options.period, Lineage())
    except StatementError as error:
        raise Problem(422, error.code, str(error)) from error
    match options.format:
        case "html":
            return render_html(made).encode()
        case "csv":
            file = io.StringIO(newline="")
            write_csv(line_rows(made), LINES, file)
            return file.getvalue().encode("utf-8-sig")
        case _:
            return to_json(made).encode()
