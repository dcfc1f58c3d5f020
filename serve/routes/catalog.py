"""Songs of the catalog, and versions of its index."""

from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Query
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from lumina_ray.answers import IndexVersions, Neighbours, Song, SongPage
from serve import cursors
from serve.places import Place
from serve.problems import openapi_responses
from serve.schemas import NearestOptions, PageOptions
from serve.services import Served, Services, answer

router = APIRouter(prefix="/v1", tags=["catalog"], responses=openapi_responses(401, 422, 429, 500, 503, 504))


@router.get("/indexes", summary="List the versions of the index")
async def indexes(services: Served, deadline_s: Place) -> IndexVersions:
    return await _ask(services, deadline_s, "versions")


@router.get("/songs", summary="List the catalog")
async def songs(services: Served, deadline_s: Place, options: Annotated[PageOptions, Query()]) -> SongPage:
    """By song id. Withdrawn songs are left out."""
    after = cursors.decode(options.cursor) if options.cursor else ""
    return await _ask(services, deadline_s, "songs", after, options.limit)


class _NearestRoute(APIRoute):
    """Leaves to the song's own route what ends in `%2Fnearest`: that is the end of an id, and `/nearest` is none."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, found = super().matches(scope)
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        last = path.partition(b"?")[0].rpartition(b"/")[2]
        return (match, found) if unquote_to_bytes(last) == b"nearest" else (Match.NONE, {})


# Ids may hold slashes, which a client writes as %2F. Before the song itself, whose address it would be otherwise.
async def nearest(
    song_id: str, services: Served, deadline_s: Place, options: Annotated[NearestOptions, Query()]
) -> Neighbours:
    """By similarity alone, without any judgement whether it is more than chance."""
    return await _ask(services, deadline_s, "nearest", song_id, options.channel, options.limit)


router.add_api_route(
    "/songs/{song_id:path}/nearest",
    nearest,
    summary="List the songs that are most similar to a song",
    responses=openapi_responses(404),
    route_class_override=_NearestRoute,
)


@router.get("/songs/{song_id:path}", summary="Get one song", responses=openapi_responses(404))
async def song(song_id: str, services: Served, deadline_s: Place) -> Song:
    return await _ask(services, deadline_s, "song", song_id)


async def _ask(services: Services, deadline_s: float, method: str, *arguments: Any) -> Any:
    return await answer(services, getattr(services.searcher, method).remote(*arguments), deadline_s)
