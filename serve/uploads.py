"""Reading uploads in bounded memory and disk."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serve.problems import Problem

FIELD = "audio"
# Boundaries and part headers around the file.
_ENVELOPE_BYTES = 64 << 10


async def read_upload(request: Request, max_bytes: int) -> bytes:
    """The bytes of the file field `audio` of a multipart/form-data request.

    Raises:
        Problem: as `read_uploads`.
    """
    (upload,) = await read_uploads(request, 1, max_bytes, max_bytes)
    return upload


async def read_uploads(request: Request, max_files: int, max_bytes: int, max_bytes_together: int) -> list[bytes]:
    """The bytes of every file field `audio` of a multipart/form-data request, in order; at least one.

    A body over the limit is refused by its Content-Length, or while it arrives where it has none: the parser would
    spool it to disk without end. The client's file names are ignored.

    Raises:
        Problem: 400 malformed, not in UTF-8 or too many files, 413 too large, 415 not multipart, 422 no such field or
            not a file.
    """
    async with _form(request, FIELD, max_files, max_bytes_together) as form:
        files = form.getlist(FIELD)
        if not files:
            raise Problem(
                422, "request.no_audio", f"The form has no complete field {FIELD!r}; send the audio file in it."
            )
        return [await _read(FIELD, file, max_bytes) for file in files]


async def read_fields(request: Request, max_bytes: dict[str, int]) -> dict[str, bytes]:
    """The files of a multipart/form-data request by field, of those of some fields that it has.

    Args:
        max_bytes: of each field; the first one is what errors ask for.

    Raises:
        Problem: as `read_uploads`.
    """
    async with _form(request, next(iter(max_bytes)), len(max_bytes), sum(max_bytes.values())) as form:
        return {name: await _read(name, form[name], most) for name, most in max_bytes.items() if name in form}


@asynccontextmanager
async def _form(request: Request, wanted: str, max_files: int, max_bytes: int) -> AsyncIterator[FormData]:
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
    _check_declared(request, max_bytes)
    parser = MultiPartParser(request.headers, _bounded(request, max_bytes), max_files=max_files, max_fields=8)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Problem(400, "request.malformed", f"The multipart body cannot be parsed: {error.message}") from error
    except ClientDisconnect as error:
        raise incomplete() from error
    try:
        yield form
    finally:
        await form.close()


async def _read(name: str, file: UploadFile | str, max_bytes: int) -> bytes:
    if not isinstance(file, UploadFile):
        raise Problem(422, f"request.no_{name}", f"The field {name!r} is text; send a file (with a file name).")
    if file.size is not None and file.size > max_bytes:
        raise _too_large(max_bytes)
    return await file.read()


async def read_json(request: Request, max_bytes: int) -> bytes:
    """The body of a request that sends JSON, not parsed.

    Raises:
        Problem: 400 broken off, 413 too large, 415 not JSON.
    """
    media_type = _media_type(request)
    if media_type != "application/json":
        raise Problem(415, "request.not_json", f"Send application/json, not {media_type!r}.")
    _check_declared(request, max_bytes)
    try:
        return b"".join([block async for block in _bounded(request, max_bytes)])
    except ClientDisconnect as error:
        raise incomplete() from error


def openapi_upload() -> dict[str, Any]:
    """The request body of a route that takes one upload."""
    return openapi_form({FIELD: _FILE}, [FIELD])


def openapi_uploads() -> dict[str, Any]:
    """The request body of a route that takes several."""
    return openapi_form({FIELD: {"type": "array", "items": _FILE, "minItems": 1}}, [FIELD])


_FILE = {
    "type": "string",
    "format": "binary",
    "description": "An audio file, such as wav, flac, mp3, ogg, opus or m4a.",
}


def openapi_form(fields: dict[str, dict], required: list[str]) -> dict[str, Any]:
    """The request body of a route that takes a form."""
    form = {"type": "object", "required": required, "properties": fields}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


def _check_declared(request: Request, max_bytes: int) -> None:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes + _ENVELOPE_BYTES:
        raise _too_large(max_bytes)


async def _bounded(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    received = 0
    async for block in request.stream():
        received += len(block)
        if received > max_bytes + _ENVELOPE_BYTES:
            raise _too_large(max_bytes)
        yield block


def incomplete() -> Problem:
    """Of a body that its client did not send to its end."""
    return Problem(400, "request.incomplete", "The upload broke off.")


def _too_large(max_bytes: int) -> Problem:
    return Problem(
        413,
        "audio.too_large",
        f"The upload is larger than {max_bytes} bytes; send an excerpt, or a compressed file.",
    )
