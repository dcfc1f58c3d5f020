"""Whatever the id of a song, the client's question about it arrives as it was meant."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st

import serve
from lumina_ray.answers import Neighbours, Song
from lumina_ray.client import Client
from lumina_ray.report import from_json
from serve.gateway import create_app
from tests.serve.app import Deployment, make_services

EXAMPLE = from_json(Path(serve.__file__).with_name("example_report.json").read_text("utf-8"))
FACTS = EXAMPLE.near_copies["P"].candidates[0].song
# What a manifest takes: no control characters, and not blank. Parts that mean something in a path come often.
PARTS = st.sampled_from(["/", "nearest", "/nearest", ".", "..", "%2F", "%", "?", "#", "//", " ", "a"]) | st.text(
    st.characters(exclude_categories=["Cc", "Cs"]), max_size=10
)
IDS = st.lists(PARTS, min_size=1, max_size=6).map("".join).filter(str.strip)


QUESTIONS: list[tuple] = []


async def song(*arguments: Any) -> Song:
    QUESTIONS.append(("song", *arguments))
    return Song(index_version="v0001", song=FACTS)


async def nearest(*arguments: Any) -> Neighbours:
    QUESTIONS.append(("nearest", *arguments))
    return Neighbours(index_version="v0001", channel="M", neighbours=())


APP = create_app(make_services(searcher=Deployment(song=song, nearest=nearest)))


def hand_on(request: httpx.Request) -> httpx.Response:
    """Not by Starlette's test client, which decodes a path twice."""

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(APP)) as http:
            return await http.request(request.method, str(request.url))

    answer = asyncio.run(ask())
    return httpx.Response(answer.status_code, content=answer.content)


CLIENT = Client("http://localhost", transport=httpx.MockTransport(hand_on))


@settings(max_examples=100, deadline=None)
@given(IDS)
@example("nearest")
@example("a/nearest")
@example("a/nearest/nearest")
@example("/nearest")
@example("a%2Fnearest")
@example("..")
@example("a/../b")
@example("a/")
def test_a_question_about_a_song_arrives_as_it_was_meant(song_id: str) -> None:
    QUESTIONS.clear()
    CLIENT.song(song_id)
    CLIENT.nearest(song_id, "M", 3)
    assert [("song", song_id), ("nearest", song_id, "M", 3)] == QUESTIONS
