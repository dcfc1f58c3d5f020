"""An index too large for one process: deployments that hold a part of it each, and a searcher that asks them."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from lumina_ray.answers import FingerprintQuery, IndexVersions, Neighbours, ReportVerification, Song, SongPage
from lumina_ray.attribution import attribute
from lumina_ray.attribution.partial import as_partial
from lumina_ray.errors import StoreError
from lumina_ray.index import Shard, Snapshot
from lumina_ray.index.shards import select, together
from lumina_ray.report.json import to_json
from lumina_ray.vocabulary import Channel, QueryFingerprint
from serve import catalog
from serve.live import LiveIndex, probe
from serve.problems import Problem
from serve.services import LOST, Response, given
from serve.verification import verify

# Longer than a search takes, and short enough for a client to learn what is missing.
_PATIENCE_S = 5.0


class ShardHolder:
    """Holds a part of the index: the version that answers, and the one before for who does not know yet."""

    def __init__(self, built: str, specification_sha256: str, shard: Shard) -> None:
        self._live = LiveIndex(Path(built), specification_sha256, shard, keep=2)

    async def reconfigure(self, user_config: Any) -> None:
        await self._live.follow(user_config)

    async def ask(self, version: str, function: Callable, *arguments: Any) -> Any:
        """Result of a function on a version of the part, or a `Problem` that it raised; None without that version."""
        snapshot = next((held for held in self._live.held if held.version == version), None)
        if snapshot is None:
            return None
        try:
            return await asyncio.to_thread(function, snapshot, *arguments)
        except Problem as problem:
            return problem

    async def check_health(self) -> None:
        await asyncio.to_thread(probe, self._live.snapshot)

    def describe(self) -> tuple[list[str], str | None]:
        """The versions that it holds, and what is wrong with the one that the config asks for."""
        return [held.version for held in self._live.held], self._live.fault


def _telling(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return a problem instead of raising it, as Serve would log a traceback."""

    @functools.wraps(method)
    async def told(*arguments: Any) -> Any:
        try:
            return await method(*arguments)
        except Problem as problem:
            return problem

    return told


class Merger:
    """Answers as `Searcher` does, and holds no songs: all shards are asked for the same version."""

    def __init__(self, built: str, specification_sha256: str, shards: list[DeploymentHandle]) -> None:
        self._shards = shards
        self._parts = [Shard(i, i + 1, len(shards)) for i in range(len(shards))]
        self._live = LiveIndex(Path(built), specification_sha256, Shard(0, 0, len(shards)), keep=2)

    async def reconfigure(self, user_config: Any) -> None:
        await self._live.follow(user_config)

    async def check_health(self) -> None:
        self._live.show()

    @_telling
    async def attribute(self, query: QueryFingerprint, policy: str, top_k: int, candidates: int, partial: bool) -> str:
        return await self._report(query, policy, top_k, candidates, partial)

    @_telling
    async def attribute_vectors(
        self, query: FingerprintQuery, policy: str, top_k: int, candidates: int, partial: bool
    ) -> str:
        asked = await asyncio.to_thread(catalog.as_query, query, self._live.snapshot)
        return await self._report(asked, policy, top_k, candidates, partial)

    async def _report(self, query: QueryFingerprint, policy: str, top_k: int, candidates: int, partial: bool) -> str:
        vectors = {c: of_channel.vector for c, of_channel in query.channels.items()}
        snapshot, answers = await self._ask(select, vectors, top_k, partial=partial)
        n_songs = snapshot.record.n_songs
        missing = [part.rows(n_songs) for part, answer in zip(self._parts, answers, strict=True) if answer is None]

        def judge() -> str:
            present = [answer for answer in answers if answer is not None]
            report = attribute(query, together(snapshot, present), policy, top_k, candidates)
            return to_json(as_partial(report, missing, n_songs) if missing else report)

        return await asyncio.to_thread(judge)

    @_telling
    async def versions(self) -> IndexVersions:
        return await asyncio.to_thread(catalog.list_versions, self._live.folder_of(self._live.snapshot))

    @_telling
    async def songs(self, after: str, limit: int) -> SongPage:
        snapshot, pages = await self._ask(catalog.list_songs, after, limit)
        more = sum(len(page.songs) for page in pages) > limit or any(page.next_cursor for page in pages)
        return catalog.song_page(snapshot, [song for page in pages for song in page.songs][:limit], more)

    @_telling
    async def song(self, song_id: str) -> Song:
        _, answers = await self._ask(catalog.find_song, song_id)
        return _found(answers)

    @_telling
    async def nearest(self, song_id: str, channel: Channel, limit: int) -> Neighbours:
        _, answers = await self._ask(catalog.song_vector, song_id, channel)
        vector: np.ndarray = _found(answers)
        snapshot, selected = await self._ask(select, {channel: vector}, limit + 1)
        return await asyncio.to_thread(
            catalog.neighbours, together(snapshot, selected), song_id, channel, vector, limit
        )

    @_telling
    async def verify(
        self, report: bytes, signature: bytes | None, query: QueryFingerprint | None
    ) -> ReportVerification:
        if query is not None:
            raise Problem(
                422, "report.not_recomputed", "This endpoint's index is spread over shards: use `lumina verify`."
            )
        snapshot = self._live.snapshot
        return await asyncio.to_thread(verify, report, signature, None, snapshot, self._live.folder_of(snapshot))

    @_telling
    async def describe(self) -> dict[str, Any]:
        answers = await asyncio.gather(*(self._ask_one(shard.describe.remote) for shard in self._shards))
        if None in answers:
            raise _missing()
        held = set.intersection(*(set(versions) for versions, _ in answers))
        snapshot = next((snapshot for snapshot in self._live.held if snapshot.version in held), None)
        if snapshot is None:
            raise _missing()
        return {
            "index_version": snapshot.version,
            "index_key": snapshot.key,
            "index_wanted": self._live.wanted,
            "index_fault": self._live.fault or next((fault for _, fault in answers if fault), None),
            "songs": snapshot.record.n_songs,
        }

    async def _ask(self, function: Callable, *arguments: Any, partial: bool = False) -> tuple[Snapshot, list[Any]]:
        """Ask all shards about the newest version that all of them hold. Answers are in the order of shards.

        Where some do not answer, or no version is held by all, None stands for those that are missing.

        Raises:
            Problem: 503 some are missing and the answer may not be partial, or all are; 429 their queues are full.
        """
        newest: tuple[Snapshot, list[Any]] | None = None
        for snapshot in self._live.held:
            calls = (
                functools.partial(shard.ask.remote, snapshot.version, function, *arguments) for shard in self._shards
            )
            answers = await asyncio.gather(*(self._ask_one(call) for call in calls))
            newest = newest or (snapshot, answers)
            if not any(answer is None for answer in answers):
                return snapshot, answers
        assert newest
        if not partial or all(answer is None for answer in newest[1]):
            raise _missing()
        return newest

    async def _ask_one(self, call: Callable[[], Response]) -> Any:
        """Answer of one shard; None if it does not answer."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await given(call())
        except BackPressureError as error:
            raise Problem.retry_later(429, "server.busy", "All queues are full; try again later.") from error
        # StoreError: it can read no list of withdrawn songs, without which it must not answer.
        except (TimeoutError, DeploymentUnavailableError, *LOST, StoreError):
            return None


def _found(answers: list[Any]) -> Any:
    """The answer of the shard that has the song; otherwise the most serious problem (404 is the least)."""
    problems = [answer for answer in answers if isinstance(answer, Problem)]
    if len(problems) < len(answers):
        return next(answer for answer in answers if not isinstance(answer, Problem))
    raise next((problem for problem in problems if problem.status != 404), problems[0])


def _missing() -> Problem:
    return Problem.retry_later(
        503,
        "server.shard_missing",
        "A part of the index does not answer now; try again, or allow an answer without it by partial=true.",
    )
