"""Errors as RFC 9457 problem details (`application/problem+json`).

A body says what was wrong with the request and never where in the server: no traceback, no path, no file name.
"""

import errno
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match, Mount
from starlette.types import Scope

from lumina_ray.errors import AudioError
from serve.requestlog import method_of, note, route_of, traceback_of
from serve.schemas import describe_errors

logger = logging.getLogger("ray.serve")

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
TITLES = {
    400: "Malformed request",
    401: "Not authorised",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Upload took too long",
    413: "Upload too large",
    415: "Not the right type of content",
    422: "Unusable request",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available now",
    504: "Took too long",
    507: "No room",
}


class ProblemDetails(BaseModel):
    """Body of every error."""

    type: str = Field(description="Names the kind of problem: `urn:lumina:` and the code.")
    title: str
    status: int
    detail: str = Field(description="Cause, and what the client can do about it.")
    code: str = Field(description="For machines, such as `audio.silent`.")


class Problem(Exception):
    """An answer that is not a report."""

    def __init__(self, status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers

    def __reduce__(self) -> tuple:
        # Replicas hand them to one another.
        return Problem, (self.status, self.code, self.detail, self.headers)

    @property
    def body(self) -> ProblemDetails:
        return ProblemDetails(
            type=f"urn:lumina:{self.code}",
            title=TITLES.get(self.status, "Error"),
            status=self.status,
            detail=self.detail,
            code=self.code,
        )

    @classmethod
    def retry_later(cls, status: int, code: str, detail: str) -> "Problem":
        """A refusal that is the server's state and not the request's fault."""
        return cls(status, code, detail, {"Retry-After": str(RETRY_AFTER_S)})

    @classmethod
    def disk_full(cls) -> "Problem":
        return cls.retry_later(507, "server.disk_full", "The server has no room for this now; try again later.")

    @classmethod
    def internal(cls) -> "Problem":
        """A fault of the server, which its log explains and the answer does not."""
        return cls(500, "internal", "The server failed; its log has the cause under this request's id.")

    @classmethod
    def of_audio(cls, error: AudioError) -> "Problem":
        """The problem with an upload: 413 for its size, 422 for its contents."""
        return cls(413 if error.code == "audio.too_large" else 422, error.code, str(error))


def install_handlers(app: FastAPI) -> None:
    """Make every error of an application a problem+json answer."""

    @app.exception_handler(Problem)
    async def problem(_: Request, error: Problem) -> JSONResponse:
        return respond(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return respond(Problem(422, "request.invalid", describe_errors(list(error.errors()))))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        if error.status_code == 405 and (methods := _methods(app, request.scope)):
            # Starlette names those of the first route alone that has the path.
            headers = {"Allow": ", ".join(methods)}
        return respond(Problem(error.status_code, f"http.{error.status_code}", str(error.detail), headers))

    @app.exception_handler(OSError)
    async def system(request: Request, error: OSError) -> JSONResponse:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            logger.error("%s %s: the disk is full", method_of(request.scope), route_of(request.scope))
            return respond(Problem.disk_full())
        return await unexpected(request, error)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed: %s", method_of(request.scope), route_of(request.scope), traceback_of(error))
        return respond(Problem.internal())


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """All methods that a path has, in whichever routes; none if it is one of a mounted application, as of the files."""
    if isinstance(scope.get("route"), Mount):
        return []
    asked = {name: scope[name] for name in ("type", "path", "raw_path", "root_path", "headers") if name in scope}

    def has(method: str) -> bool:
        return any(route.matches(asked | {"method": method})[0] == Match.FULL for route in app.router.routes)

    return [method for method in _METHODS if has(method)]


def openapi_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers these statuses with problems."""
    schema = ProblemDetails.model_json_schema()
    return {status: {"description": TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses}


def respond(problem: Problem) -> JSONResponse:
    """The answer, whose code the log is told."""
    note(code=problem.code)
    return JSONResponse(problem.body.model_dump(), problem.status, problem.headers, MEDIA_TYPE)
