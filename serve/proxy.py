"""A guard of Ray's HTTP proxy, which believes clients' headers, writes them into its log and sends them back.

Ray's proxy is in front of the application and reads headers of its own before the application is asked, from whoever
sends them. Its environment names `middlewares` (`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`), which it then puts around
itself. This module is imported there, and needs nothing but Starlette.
"""

import re
from uuid import uuid4

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.proxy:middlewares"}

_REQUEST_ID = b"x-request-id"
_FIT = re.compile(rb"[A-Za-z0-9._-]{1,128}")
# They change the proxy's timeout, keep it from noticing that a client is gone, or choose a replica.
_OF_RAY = {
    b"x-request-timeout-seconds",
    b"x-request-disconnect-disabled",
    b"serve-multiplexed-model-id",
    b"x-session-id",
}

Headers = list[tuple[bytes, bytes]]


def safe_headers(headers: Headers) -> Headers:
    """A request's headers without those that steer Ray, and with one request id, which is safe to write down.

    The request's own id is kept if it is the only one and has 1 to 128 letters, digits, `.`, `_` and `-`.
    """
    named = [(name.lower().replace(b"_", b"-"), name, value) for name, value in headers]
    ids = [value for normal, _, value in named if normal == _REQUEST_ID]
    kept = ids[0] if len(ids) == 1 and _FIT.fullmatch(ids[0]) else str(uuid4()).encode()
    others = [(name, value) for normal, name, value in named if normal != _REQUEST_ID and normal not in _OF_RAY]
    return [*others, (_REQUEST_ID, kept)]


class SafeHeaders:
    """ASGI middleware: the application sees `safe_headers`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = {**scope, "headers": safe_headers(scope["headers"])}
        await self._app(scope, receive, send)


def middlewares() -> list[Middleware]:
    """Ray's proxy calls it when it starts."""
    return [Middleware(SafeHeaders)]
