"""The deployment that holds the index: a fingerprint in, a report out. It loads no torch."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lumina_ray.answers import FingerprintQuery, IndexVersions, Neighbours, ReportVerification, Song, SongPage
from lumina_ray.attribution import attribute
from lumina_ray.index import Snapshot
from lumina_ray.report.json import to_json
from lumina_ray.vocabulary import Channel, QueryFingerprint
from serve import catalog, metrics
from serve.live import LiveIndex, probe
from serve.problems import Problem
from serve.verification import verify


class Searcher:
    """Answers from one immutable snapshot, and from another one once a config asks for it."""

    def __init__(self, built: str, specification_sha256: str) -> None:
        self._live = LiveIndex(Path(built), specification_sha256)

    async def reconfigure(self, user_config: Any) -> None:
        """Serve calls it at start, and when a config is deployed whose `user_config` is another one."""
        await self._live.follow(user_config)

    async def attribute(self, query: QueryFingerprint, policy: str, top_k: int, candidates: int, partial: bool) -> str:
        """The report on a query as canonical JSON, which is what the command line prints.

        Args:
            candidates: songs per channel that the report lists besides all that qualify or have a share.
            partial: whether an answer from a part of the index is enough. This one always comes from all of it.
        """
        snapshot = self._live.snapshot
        return await asyncio.to_thread(_report, query, snapshot, policy, top_k, candidates)

    async def attribute_vectors(
        self, query: FingerprintQuery, policy: str, top_k: int, candidates: int, partial: bool
    ) -> str | Problem:
        """The report on a fingerprint that a client made, or the problem with it."""
        snapshot = self._live.snapshot
        return await self._ask(lambda: _report(catalog.as_query(query, snapshot), snapshot, policy, top_k, candidates))

    async def versions(self) -> IndexVersions | Problem:
        return await self._ask(catalog.list_versions, self._live.folder_of(self._live.snapshot))

    async def songs(self, after: str, limit: int) -> SongPage | Problem:
        return await self._ask(catalog.list_songs, self._live.snapshot, after, limit)

    async def song(self, song_id: str) -> Song | Problem:
        return await self._ask(catalog.find_song, self._live.snapshot, song_id)

    async def nearest(self, song_id: str, channel: Channel, limit: int) -> Neighbours | Problem:
        return await self._ask(catalog.nearest_songs, self._live.snapshot, song_id, channel, limit)

    async def verify(
        self, report: bytes, signature: bytes | None, query: QueryFingerprint | None
    ) -> ReportVerification | Problem:
        # Once: another thread may exchange it at any time.
        snapshot = self._live.snapshot
        return await self._ask(verify, report, signature, query, snapshot, self._live.folder_of(snapshot))

    async def _ask(self, function: Callable, *arguments: Any) -> Any:
        """In a thread; a problem is returned and not raised, as Serve would log a traceback for it."""
        try:
            return await asyncio.to_thread(function, *arguments)
        except Problem as problem:
            return problem

    async def check_health(self) -> None:
        """The first song must find itself."""
        self._live.show()
        await asyncio.to_thread(probe, self._live.snapshot)

    async def describe(self) -> dict[str, Any]:
        """The index that it answers from, after a health check."""
        await self.check_health()
        snapshot = self._live.snapshot
        return {
            "index_version": snapshot.version,
            "index_key": snapshot.key,
            "index_wanted": self._live.wanted,
            "index_fault": self._live.fault,
            "songs": len(snapshot),
        }


def _report(query: QueryFingerprint, snapshot: Snapshot, policy: str, top_k: int, candidates: int) -> str:
    with metrics.working_at("search"):
        report = attribute(query, snapshot, policy, top_k, candidates)
    with metrics.working_at("report"):
        return to_json(report)
