"""Open access is for this machine, and not for the web pages that are open in its browser.

A page can send a form to http://127.0.0.1:8000 without asking, and a name of its own that suddenly means 127.0.0.1 lets
it read the answers as well. The first has an Origin of another host; the second a Host that is no name of this machine.
"""

import ipaddress
import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from serve.problems import Problem, respond

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?")


def is_loopback_name(name: str) -> bool:
    """Whether a name means this machine for everybody who uses it: localhost, or a loopback address."""
    try:
        return name.lower() == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_origin(hosts: list[str], origins: list[str]) -> None:
    """Check that a request was meant for this machine, and comes from no page of another host.

    Args:
        hosts, origins: the headers of these names, as often as there are.

    Raises:
        Problem: 403.
    """
    host = hosts[0].lower() if len(hosts) == 1 else ""
    found = _HOST.fullmatch(host)
    if not found or not is_loopback_name(found[1].strip("[]")):
        raise Problem(
            403, "access.host", "Without API keys, this endpoint answers only to localhost and loopback addresses."
        )
    if any(origin.lower() not in (f"http://{host}", f"https://{host}") for origin in origins):
        raise Problem(403, "access.origin", "Without API keys, this endpoint takes nothing from pages of other hosts.")


class ThisMachineOnly:
    """ASGI middleware that refuses what `check_origin` does."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            try:
                check_origin(headers.getlist("host"), headers.getlist("origin"))
            except Problem as problem:
                await respond(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)
