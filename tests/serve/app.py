"""The gateway's HTTP interface without Ray: deployments that do as they are told, for what real ones do too rarely."""

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from starlette.testclient import TestClient

from lumina_ray.answers import ReportVerification
from serve.access import Access
from serve.decoding import Decoders
from serve.gateway import create_app
from serve.schemas import ServeArgs
from serve.services import Services

MODEL = {"model": "m", "weights_sha256": "a", "fingerprint": "influence", "specification_sha256": "b"}
INDEX = {
    "index_version": "v0001",
    "index_key": "c",
    "index_wanted": "v0001",
    "index_fault": None,
    "songs": 3,
}

VERIFIED = ReportVerification(report_sha256="d" * 64, index_version="v0001", signed_by=None)


class Response:
    """As Ray's: whoever gives up waiting for it does not end the call, and `cancel` does."""

    def __init__(self, call: Awaitable[Any]) -> None:
        self._task = asyncio.ensure_future(call)

    def __await__(self) -> Generator[Any, None, Any]:
        return asyncio.shield(self._task).__await__()

    def cancel(self) -> None:
        self._task.cancel()


@dataclass(frozen=True)
class Method:
    """A deployment's method: an asynchronous function."""

    function: Callable

    def remote(self, *arguments: Any) -> Response:
        return Response(self._call(arguments))

    async def _call(self, arguments: tuple) -> Any:
        # As Serve does with responses among the arguments.
        return await self.function(*[await a if isinstance(a, Response) else a for a in arguments])


class Deployment:
    """Answers as its arguments say: a value, an exception to raise, or an asynchronous function to call."""

    def __init__(self, **methods: Any) -> None:
        for name, outcome in methods.items():
            setattr(self, name, Method(_method(outcome)))


def _method(outcome: Any) -> Callable:
    async def answer(*arguments: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return await outcome(*arguments) if callable(outcome) else outcome

    return answer


def make_services(access: Access | None = None, **changes: Any) -> Services:
    """Services whose fingerprinter and searcher answer at once; `args` and others may be given."""
    given = {
        "args": ServeArgs(index="unused", open_access=True),
        "access": access,
        "fingerprinter": Deployment(fingerprint=b"vectors", describe=MODEL),
        "searcher": Deployment(attribute="{}", describe=INDEX, verify=VERIFIED),
        "decoders": Decoders(1, 60.0),
        "jobs": None,
        "confirmer": None,
    }
    return Services(**(given | changes))


@contextmanager
def asking(services: Services) -> Iterator[httpx.Client]:
    """A client of the interface of some services."""
    with TestClient(create_app(services), "http://localhost", raise_server_exceptions=False) as client:
        yield client
