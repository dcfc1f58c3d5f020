"""Reading uploads in bounded memory and disk.

While an upload comes, and while it waits for a place, what exceeds a mebibyte of it lies in a temporary file. It is
read into memory once its request has a place: the reading functions hold both for the duration of a block.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from tempfile import SpooledTemporaryFile
from typing import Any, cast

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serve.arrivals import Arrival
from serve.problems import Problem

FIELD = "audio"
NDJSON = "application/x-ndjson"
# Boundaries and part headers around the file.
_ENVELOPE_BYTES = 64 << 10
_IN_MEMORY_BYTES = 1 << 20
_ADVICE = {"audio": "; send an excerpt, or a compressed file"}


@asynccontextmanager
async def uploads(
    arrival: Arrival, max_files: int, max_bytes: int, max_bytes_together: int
) -> AsyncIterator[list[bytes]]:
    """The bytes of every file field `audio` of a multipart/form-data request, in order; at least one.

    A body over the limit is refused by its Content-Length, or while it arrives where it has none: the parser would
    spool it to disk without end. The client's file names are ignored.

    Raises:
        Problem: 400 malformed, not in UTF-8 or too many files, 408 too slow, 413 too large, 415 not multipart, 422 no
            such field or not a file, 429 no place was free in time.
    """
    async with _form(arrival, FIELD, max_files, max_bytes_together, _too_large(FIELD, max_bytes_together)) as form:
        files = form.getlist(FIELD)
        if not files:
            raise Problem(
                422, "request.no_audio", f"The form has no complete field {FIELD!r}; send the audio file in it."
            )
        yield [await _read(FIELD, file, max_bytes) for file in files]


@asynccontextmanager
async def upload(arrival: Arrival, max_bytes: int) -> AsyncIterator[bytes]:
    """The bytes of the only file field `audio` of a multipart/form-data request. Raises: as `uploads`."""
    async with uploads(arrival, 1, max_bytes, max_bytes) as (only,):
        yield only


@asynccontextmanager
async def fields(arrival: Arrival, max_bytes: Mapping[str, int]) -> AsyncIterator[dict[str, bytes]]:
    """The files of a multipart/form-data request by field, of those of some fields that it has.

    Args:
        max_bytes: of each field. The first one must be there.

    Raises:
        Problem: as `uploads`.
    """
    together = sum(max_bytes.values())
    limits = ", ".join(f"{name} {most}" for name, most in max_bytes.items())
    too_large = Problem(
        413, "request.too_large", f"The form is larger than {together} bytes; the limits of its files are: {limits}."
    )
    wanted = next(iter(max_bytes))
    async with _form(arrival, wanted, len(max_bytes), together, too_large) as form:
        if wanted not in form:
            raise Problem(
                422,
                f"request.no_{wanted}",
                f"The form has no complete field {wanted!r}; send its file in it.",
            )
        yield {name: await _read(name, form[name], most) for name, most in max_bytes.items() if name in form}


@asynccontextmanager
async def json_body(arrival: Arrival, name: str, max_bytes: int) -> AsyncIterator[bytes]:
    """The body of a request that sends JSON, not parsed.

    Args:
        name: what the body is, for errors: a fingerprint, or a report.

    Raises:
        Problem: 400 broken off, 408 too slow, 413 too large, 415 not JSON, 429 no place was free in time.
    """
    if (media_type := _media_type(arrival.request)) != "application/json":
        raise Problem(415, "request.not_json", f"Send application/json, not {media_type!r}.")
    async with body(arrival, name, max_bytes) as text:
        yield text


@asynccontextmanager
async def ndjson_body(arrival: Arrival, max_bytes: int) -> AsyncIterator[bytes]:
    """The body of a request that sends JSON on lines, not parsed. Raises: as `json_body`."""
    if (media_type := _media_type(arrival.request)) != NDJSON:
        raise Problem(415, "request.not_ndjson", f"Send {NDJSON}, with a report on each line, not {media_type!r}.")
    async with body(arrival, "request", max_bytes) as text:
        yield text


@asynccontextmanager
async def body(arrival: Arrival, name: str, max_bytes: int) -> AsyncIterator[bytes]:
    """The body of a request, whatever its type. Raises: as `json_body`, without 415."""
    too_large = _too_large(name, max_bytes)
    with SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        # Starlette's class writes to the disk in a thread.
        spooled = UploadFile(cast(Any, file))
        async with arrival.in_time():
            try:
                async for block in _bounded(arrival, max_bytes, too_large):
                    await spooled.write(block)
            except ClientDisconnect as error:
                raise _incomplete() from error
        async with arrival.place():
            await spooled.seek(0)
            yield await spooled.read()


@asynccontextmanager
async def _form(
    arrival: Arrival, wanted: str, max_files: int, max_bytes: int, too_large: Problem
) -> AsyncIterator[FormData]:
    request = arrival.request
    media_type = _media_type(request)
    if media_type != "multipart/form-data":
        raise Problem(
            415,
            "request.not_multipart",
            f"Send multipart/form-data with a file in the field {wanted!r}, not {media_type!r}.",
        )
    _, parameters = parse_options_header(request.headers["content-type"])
    # The parser would look up any other name, and Python keeps each that it was ever asked for.
    if parameters.get(b"charset", b"utf-8").lower() != b"utf-8":
        raise Problem(400, "request.malformed", "The multipart body's charset must be utf-8.")
    blocks = _bounded(arrival, max_bytes + _ENVELOPE_BYTES, too_large)
    parser = MultiPartParser(request.headers, blocks, max_files=max_files, max_fields=8)
    # The bound is Starlette's for each file, and ours for all of an upload. 0 would be none.
    parser.spool_max_size = max(1, _IN_MEMORY_BYTES // max_files)
    try:
        async with arrival.in_time():
            form = await parser.parse()
    except MultiPartException as error:
        raise Problem(400, "request.malformed", f"The multipart body cannot be parsed: {error.message}") from error
    except ClientDisconnect as error:
        raise _incomplete() from error
    try:
        async with arrival.place():
            yield form
    finally:
        await form.close()


async def _read(name: str, file: UploadFile | str, max_bytes: int) -> bytes:
    if not isinstance(file, UploadFile):
        raise Problem(422, f"request.no_{name}", f"The field {name!r} is text; send a file (with a file name).")
    if file.size is not None and file.size > max_bytes:
        raise _too_large(name, max_bytes)
    return await file.read()


def is_form(request: Request) -> bool:
    """Whether a request says that it sends a form."""
    return _media_type(request) == "multipart/form-data"


def openapi_upload() -> dict[str, Any]:
    """The request body of a route that takes one upload."""
    return openapi_form({FIELD: _FILE}, [FIELD])


def openapi_uploads() -> dict[str, Any]:
    """The request body of a route that takes several."""
    return openapi_form({FIELD: {"type": "array", "items": _FILE, "minItems": 1}}, [FIELD])


def openapi_file(description: str) -> dict[str, Any]:
    """A file in a form."""
    return {"type": "string", "format": "binary", "description": description}


_FILE = openapi_file("An audio file, such as wav, flac, mp3, ogg, opus or m4a.")


def openapi_form(fields: dict[str, dict], required: list[str]) -> dict[str, Any]:
    """The request body of a route that takes a form."""
    form = {"type": "object", "required": required, "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()[:100]


async def _bounded(arrival: Arrival, max_bytes: int, too_large: Problem) -> AsyncGenerator[bytes, None]:
    """The blocks of a body that is refused by its Content-Length, or while it arrives where it has none."""
    declared = arrival.request.headers.get("content-length", "")
    # Python refuses to read numbers of thousands of digits.
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > max_bytes):
        raise too_large
    received = 0
    async for block in arrival.blocks():
        received += len(block)
        if received > max_bytes:
            raise too_large
        yield block


def _incomplete() -> Problem:
    return Problem(400, "request.incomplete", "The upload broke off.")


def _too_large(name: str, max_bytes: int) -> Problem:
    what = "upload" if name == FIELD else name
    return Problem(413, f"{name}.too_large", f"The {what} is larger than {max_bytes} bytes{_ADVICE.get(name, '')}.")
