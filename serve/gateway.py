"""HTTP: uploads in, reports and problems out.

This module and what it imports keep clear of the model: a gateway that imported torch would start 4 s later and take
0.5 GiB more.
"""

import asyncio

from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

import lumina_ray
from serve.access import Access
from serve.arrivals import Arrivals
from serve.decoding import Decoders
from serve.keys import KeyRing
from serve.origin import ThisMachineOnly
from serve.page import install_page
from serve.places import Places
from serve.problems import install_handlers, openapi_responses
from serve.reference import install_reference
from serve.requestlog import RequestLog
from serve.routes import attributions, catalog, jobs, reports, statements, status
from serve.schemas import ServeArgs
from serve.services import Services

# Uploads that a gateway decodes at once.
_DECODERS = 2


def create_app(services: Services) -> FastAPI:
    """The HTTP interface of some services."""
    app = FastAPI(
        title="lumina-ray",
        summary="Find the songs of a catalog that generated music resembles beyond chance, and say how sure that is.",
        version=lumina_ray.__version__,
        # Those of FastAPI load scripts from another host, which could read the keys that people type.
        docs_url=None,
        redoc_url=None,
        responses=openapi_responses(403) if services.access is None else None,
    )
    app.state.services = services
    args = services.args
    app.state.places = Places(args.max_requests, args.max_waiting)
    # Where access is open, everybody is one caller. Otherwise one key leaves others an upload and a place.
    others = min(args.max_uploads, args.max_requests) - 1
    most_of_key = args.max_uploads if services.access is None else max(1, min(args.max_uploads_per_key, others))
    app.state.arrivals = Arrivals(args.max_uploads, most_of_key)
    if services.access is None:
        app.add_middleware(ThisMachineOnly)
    # The last one is the outermost: what is refused is logged.
    app.add_middleware(RequestLog)
    install_handlers(app)
    app.include_router(status.router)
    app.include_router(attributions.router)
    app.include_router(catalog.router)
    app.include_router(jobs.router)
    app.include_router(reports.router)
    app.include_router(statements.router)
    install_page(app)
    install_reference(app)
    return app


@serve.ingress()
class Gateway:
    """Takes uploads, refuses bad ones before they cost the model anything, and answers with reports."""

    def __init__(
        self,
        args: ServeArgs,
        fingerprinter: DeploymentHandle,
        searcher: DeploymentHandle,
        jobs: DeploymentHandle | None = None,
        confirmer: DeploymentHandle | None = None,
    ) -> None:
        access = Access(KeyRing(args.keys), args.gateways) if args.keys else None
        decoders = Decoders(_DECODERS, args.decode_timeout_s)
        self._app = create_app(Services(args, access, fingerprinter, searcher, decoders, jobs, confirmer))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    async def drain(self) -> None:
        """Refuse requests from now on, and return once those under way are answered."""
        state = self._app.state
        await asyncio.gather(state.arrivals.close(), state.places.close())

    async def check_health(self) -> None:
        """That it is called is all there is to check; Ray forgets gauges that nobody sets."""
        self._app.state.places.show()
