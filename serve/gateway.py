"""HTTP: uploads in, reports and problems out.

This module keeps clear of the model: a gateway that imported torch would start 4 s later and take 0.5 GiB more.
"""

import asyncio
import json
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

import lumina_ray
from lumina_ray.attribution.schema import Report
from lumina_ray.audio import load_audio
from lumina_ray.errors import AudioError
from serve.page import install_page
from serve.problems import Problem, install_handlers, openapi_responses
from serve.schemas import AttributionOptions, Readiness, ServeArgs
from serve.uploads import FIELD, read_upload

_EXAMPLE_REPORT = Path(__file__).with_name("example_report.json")

app = FastAPI(
    title="lumina-ray",
    summary="Which songs of a catalog a piece of generated music resembles beyond chance, and how sure that is.",
    version=lumina_ray.__version__,
)
install_handlers(app)
install_page(app)


@serve.ingress(app)
class Gateway:
    """HTTP: takes uploads, refuses bad ones before they cost the model anything, and answers with reports."""

    def __init__(self, args: ServeArgs, fingerprinter: DeploymentHandle, searcher: DeploymentHandle) -> None:
        self._args = args
        self._fingerprinter = fingerprinter
        self._searcher = searcher

    @app.post(
        "/v1/attributions",
        summary="Attribute an audio file",
        response_model=Report,
        response_description="The report, byte for byte what `lumina attribute AUDIO --index INDEX --json` prints.",
        responses={
            200: {"content": {"application/json": {"example": json.loads(_EXAMPLE_REPORT.read_text("utf-8"))}}},
            **openapi_responses(400, 408, 413, 415, 422, 429, 500, 503, 504),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "multipart/form-data": {
                        "schema": {
                            "type": "object",
                            "required": [FIELD],
                            "properties": {
                                FIELD: {
                                    "type": "string",
                                    "format": "binary",
                                    "description": "An audio file, such as wav, flac, mp3, ogg, opus or m4a.",
                                }
                            },
                        }
                    }
                },
            }
        },
    )
    async def attribute(self, request: Request, options: Annotated[AttributionOptions, Query()]) -> Response:
        """Decode, fingerprint and compare with the catalog. Nothing of the upload is kept."""
        args = self._args
        deadline_s = asyncio.get_running_loop().time() + args.request_timeout_s
        try:
            async with asyncio.timeout_at(deadline_s):
                body = await read_upload(request, args.max_upload_bytes)
        except TimeoutError as error:
            raise Problem(
                408, "request.timeout", f"The upload did not arrive within {args.request_timeout_s:g} s."
            ) from error
        try:
            async with asyncio.timeout_at(deadline_s):
                report = await self._report(body, options.policy or args.policy, options.top_k or args.top_k)
        except TimeoutError as error:
            raise Problem.retry_later(
                504,
                "server.timeout",
                f"No answer within {args.request_timeout_s:g} s; send shorter audio, or try later.",
            ) from error
        except AudioError as error:
            raise Problem.of_audio(error) from error
        except BackPressureError as error:
            raise Problem.retry_later(429, "server.busy", "All queues are full; try again later.") from error
        except (DeploymentUnavailableError, RayActorError) as error:
            raise Problem.retry_later(503, "server.unavailable", "A worker was lost; try again.") from error
        return Response(report, media_type="application/json")

    async def _report(self, body: bytes, policy: str, top_k: int) -> str:
        audio = await asyncio.to_thread(
            load_audio,
            body,
            name="upload",
            max_duration_s=self._args.max_audio_s,
            max_bytes=self._args.max_upload_bytes,
        )
        query = await self._fingerprinter.fingerprint.remote(audio)
        if isinstance(query, AudioError):
            raise query
        return await self._searcher.attribute.remote(query, policy, top_k)

    @app.get("/healthz", summary="Is the gateway alive?")
    async def healthz(self) -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="Can it answer, and from what?",
        response_model=Readiness,
        responses=openapi_responses(503),
    )
    async def readyz(self) -> Readiness:
        args = self._args
        try:
            async with asyncio.timeout(5):
                model, index = await asyncio.gather(
                    self._fingerprinter.describe.remote(), self._searcher.describe.remote()
                )
        except (TimeoutError, BackPressureError, DeploymentUnavailableError, RayActorError) as error:
            raise Problem.retry_later(503, "server.unavailable", "The model or the index cannot answer now.") from error
        return Readiness(
            **model,
            **index,
            policy=args.policy,
            top_k=args.top_k,
            max_upload_bytes=args.max_upload_bytes,
            max_audio_s=args.max_audio_s,
        )
