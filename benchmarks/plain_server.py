"""A server to compare the endpoint with: the endpoint's functions in plain FastAPI, one process, no Ray, no limits.

python -m benchmarks.plain_server INDEX PORT
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import typer
import uvicorn
from fastapi import FastAPI, Response, UploadFile

from lumina_ray.answers import FingerprintQuery
from lumina_ray.attribution import attribute
from lumina_ray.attribution.fingerprinter import matching_model
from lumina_ray.audio import load_chunks
from lumina_ray.fingerprint import Fingerprinter, Specification, fingerprint_query
from lumina_ray.index import Snapshot, load_snapshot
from lumina_ray.model import open_model
from lumina_ray.report import to_json
from lumina_ray.vocabulary import QueryFingerprint
from serve.catalog import as_query


def create_app(snapshot: Snapshot) -> FastAPI:
    """Make the two routes that are measured, and one that tells when the server is ready."""
    specification = Specification.from_dict(snapshot.record.specification)
    # A single thread runs the model, as in the endpoint.
    thread = ThreadPoolExecutor(1)
    model = open_model(matching_model(snapshot, None), "cpu", specification.torch_dtype)
    fingerprinter = Fingerprinter(model, specification)
    app = FastAPI()

    async def report(query: QueryFingerprint) -> Response:
        text = await asyncio.to_thread(lambda: to_json(attribute(query, snapshot)))
        return Response(text, media_type="application/json")

    @app.post("/v1/attributions")
    async def attribute_file(audio: UploadFile) -> Response:
        decoded = await asyncio.to_thread(load_chunks, await audio.read(), name="upload")
        loop = asyncio.get_running_loop()
        return await report(await loop.run_in_executor(thread, fingerprint_query, fingerprinter, decoded))

    @app.post("/v1/attributions/by-fingerprint")
    async def attribute_fingerprint(query: FingerprintQuery) -> Response:
        return await report(as_query(query, snapshot))

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"index_version": snapshot.version}

    return app


def main(index: Path, port: int) -> None:
    """Serve until the process is ended."""
    uvicorn.run(create_app(load_snapshot(index)), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    typer.run(main)
