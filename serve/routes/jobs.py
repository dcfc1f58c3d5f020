"""Many files at once, attributed when there is time for them."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from ray.serve.handle import DeploymentHandle

from lumina_ray.answers import Job, ResultsPage
from serve import cursors
from serve.arrivals import Arriving
from serve.places import Place
from serve.problems import Problem, openapi_responses
from serve.schemas import AttributionOptions, ResultsOptions
from serve.services import Caller, Served, Services, answer
from serve.uploads import openapi_uploads, uploads

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=openapi_responses(401, 404, 422, 429, 500, 503, 504))


@router.post(
    "",
    summary="Attribute many audio files",
    status_code=202,
    responses=openapi_responses(400, 408, 413, 415, 507),
    openapi_extra=openapi_uploads(),
)
async def create(
    response: Response,
    options: Annotated[AttributionOptions, Query()],
    services: Served,
    caller: Caller,
    arrival: Arriving,
    idempotency_key: Annotated[
        str | None, Header(max_length=255, description="Sent again with the same request, it gives the same job.")
    ] = None,
) -> Job:
    """Keep the files until each has a result. Results are told apart by the order in which files were sent, from 0."""
    jobs, args = _jobs(services), services.args
    if idempotency_key == "":
        raise Problem(400, "request.malformed", "Idempotency-Key is empty: send a name for this job, or leave it out.")
    policy, top_k = options.policy or args.policy, options.top_k or args.top_k
    async with uploads(arrival, args.max_job_files, args.max_upload_bytes, args.max_job_bytes) as files:
        created = jobs.create.remote(caller, idempotency_key, policy, top_k, files)
        job, _ = await answer(services, created, arrival.deadline_s)
    response.headers["Location"] = f"{router.prefix}/{job.id}"
    return job


@router.get("/{job_id}", summary="Get the state of a job")
async def get(job_id: str, services: Served, caller: Caller, deadline_s: Place) -> Job:
    return await answer(services, _jobs(services).get.remote(caller, job_id), deadline_s)


@router.get("/{job_id}/results", summary="Get the results of a job so far", response_model=ResultsPage)
async def results(
    job_id: str, services: Served, caller: Caller, deadline_s: Place, options: Annotated[ResultsOptions, Query()]
) -> Response:
    """In the order in which files were finished. Asked again with `next_cursor`, it gives those that came since."""
    after = _position(options.cursor) if options.cursor else 0
    page = await answer(services, _jobs(services).results.remote(caller, job_id, after, options.limit), deadline_s)
    return Response(page, media_type="application/json")


@router.delete("/{job_id}", summary="Delete a job", status_code=204)
async def delete(job_id: str, services: Served, caller: Caller, deadline_s: Place) -> None:
    """Delete the job, its audio and its results. The result of a file that is being attributed now is dropped."""
    await answer(services, _jobs(services).delete.remote(caller, job_id), deadline_s)


def _jobs(services: Services) -> DeploymentHandle:
    if services.jobs is None:
        raise Problem(404, "jobs.off", "This endpoint takes no jobs: its operator has set no folder for them.")
    return services.jobs


def _position(cursor: str) -> int:
    position = cursors.decode(cursor)
    # More digits than any position has, and than SQLite takes.
    if not position.isascii() or not position.isdecimal() or len(position) > 18:
        raise Problem(422, "request.invalid", "cursor: not one that an answer gave; start without one.")
    return int(position)
