"""Songs of the catalog, and versions of its index."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from serve import cursors
from serve.places import Place
from serve.problems import openapi_responses
from serve.schemas import IndexVersions, NearestOptions, Neighbours, PageOptions, Song, SongPage
from serve.services import Served, Services, answer

router = APIRouter(prefix="/v1", tags=["catalog"], responses=openapi_responses(401, 422, 429, 500, 503, 504))


@router.get("/indexes", summary="Which versions of the index there are, and which one is live")
async def indexes(services: Served, deadline_s: Place) -> IndexVersions:
    return await _ask(services, deadline_s, "versions")


@router.get("/songs", summary="List the catalog")
async def songs(services: Served, deadline_s: Place, options: Annotated[PageOptions, Query()]) -> SongPage:
    """By song id. Withdrawn songs are left out."""
    after = cursors.decode(options.cursor) if options.cursor else ""
    return await _ask(services, deadline_s, "songs", after, options.limit)


# Ids may hold slashes. Before the song itself, whose address it would be otherwise.
@router.get(
    "/songs/{song_id:path}/nearest",
    summary="Songs that resemble a song",
    responses=openapi_responses(404),
)
async def nearest(
    song_id: str, services: Served, deadline_s: Place, options: Annotated[NearestOptions, Query()]
) -> Neighbours:
    """By similarity alone, without any judgement whether it is more than chance."""
    return await _ask(services, deadline_s, "nearest", song_id, options.channel, options.limit)


@router.get("/songs/{song_id:path}", summary="One song", responses=openapi_responses(404))
async def song(song_id: str, services: Served, deadline_s: Place) -> Song:
    return await _ask(services, deadline_s, "song", song_id)


async def _ask(services: Services, deadline_s: float, method: str, *arguments: Any) -> Any:
    return await answer(services, getattr(services.searcher, method).remote(*arguments), deadline_s)
