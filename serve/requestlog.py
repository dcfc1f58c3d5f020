"""One line in the log for each request, and its place in the metrics.

With `logging_config: {encoding: JSON}` a line is JSON, to which Serve adds the request's id; what is said here is under
`request`. It names the route by its template and a key by its holder: no address, no file name and no key is written.
"""

import logging
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve import metrics

logger = logging.getLogger("ray.serve")

# The longest name of a method that is written down; a client may make up any.
_METHOD_CHARACTERS = 16
_TRACEBACK_CHARACTERS = 8000

# nginx uses this status for a client that closed the connection before its answer.
CLIENT_GONE = 499


@dataclass
class Line:
    """Facts about one request.

    Attributes:
        status: of the answer; 499 where the client went away before it.
        code: of the problem, or ok.
        key: the name of the API key's holder.
        bytes: of the body, as far as it was read.
        audio_s: duration of the upload, once it is decoded.
        seconds: until the answer was complete.
        waited_s: the part of it that each stage took, queues included.
    """

    method: str
    route: str = "none"
    status: int = CLIENT_GONE
    code: str = "client.gone"
    key: str | None = None
    bytes: int = 0
    audio_s: float | None = None
    seconds: float = 0.0
    waited_s: dict[str, float] = field(default_factory=dict)


_LINE: ContextVar[Line | None] = ContextVar("line", default=None)


def note(**known: str | float) -> None:
    """Set attributes of the line about the request under way, if there is one: a job's file has none."""
    line = _LINE.get()
    for name, value in known.items() if line else ():
        setattr(line, name, value)


@contextmanager
def waiting_for(stage: str) -> Iterator[None]:
    """Around a stage that the request under way waits for: upload, decode, fingerprint, search or confirm."""
    begin_s = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - begin_s
        metrics.observe_waited(stage, seconds)
        if line := _LINE.get():
            line.waited_s[stage] = round(seconds, 6)


def route_of(scope: Scope) -> str:
    """The template that a request's path matched, such as /v1/songs/{song_id}, once it has; none if it matched none."""
    return getattr(scope.get("route"), "path", "none")


def method_of(scope: Scope) -> str:
    """The method of a request, as far as it is written down."""
    return scope["method"][:_METHOD_CHARACTERS]


def traceback_of(error: BaseException) -> str:
    """The end of a traceback: what an error says may have come from a client, and be as long as it likes."""
    return "".join(traceback.format_exception(error))[-_TRACEBACK_CHARACTERS:]


class RequestLog:
    """ASGI middleware that writes the lines."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        line = Line(method_of(scope))
        before = _LINE.set(line)
        begin_s = time.perf_counter()

        async def receive_counted() -> Message:
            message = await receive()
            line.bytes += len(message.get("body", b""))
            return message

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                line.status = message["status"]
                if line.status < 400:
                    line.code = "ok"
            await send(message)

        try:
            await self._app(scope, receive_counted, send_noted)
        except Exception:
            # The server's outermost handler answers it, and writes down what it was.
            line.status, line.code = 500, "internal"
            raise
        finally:
            _LINE.reset(before)
            line.route = route_of(scope)
            line.seconds = round(time.perf_counter() - begin_s, 6)
            metrics.count_answer(line.route, line.status, line.code)
            logger.info("%s %s %d %s", line.method, line.route, line.status, line.code, extra={"request": asdict(line)})
