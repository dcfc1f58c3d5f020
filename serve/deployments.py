"""The deployments: gateway (HTTP, decoding) → fingerprinter (model) → searcher (index, attribution); and jobs.

Nothing blocks an event loop: decoding, the model and the search run in threads.
"""

import asyncio
import math
import pickle
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve
from ray.serve import Deployment

from lumina_ray import fingerprint
from lumina_ray.attribution import attribute
from lumina_ray.audio import Audio
from lumina_ray.calibration.vectors import Channel
from lumina_ray.errors import AudioError
from lumina_ray.fingerprint import QueryFingerprint, SongCodes, Specification, fingerprint_query
from lumina_ray.index import Snapshot
from lumina_ray.model import open_model
from lumina_ray.report import to_json
from serve import catalog, metrics
from serve.gateway import Gateway
from serve.jobs import Jobs
from serve.live import LiveIndex, probe
from serve.problems import RETRY_AFTER_S, Problem
from serve.schemas import FingerprintQuery, IndexVersions, Neighbours, ReportVerification, Song, SongPage
from serve.shards import Merger, ShardHolder
from serve.verification import verify

# Audio of one batch of the model, in tens of seconds: Ray warns of sizes above `max_ongoing_requests`.
BATCH_TENS = 6


def tens_of_seconds(audios: list[Audio]) -> int:
    """The size of a batch. A longer song counts as a whole batch: Ray would refuse an item that is larger."""
    return math.ceil(sum(min(audio.duration_s / 10, BATCH_TENS) for audio in audios))


class Fingerprinter:
    """Owns one model. A single thread uses it, song after song, so that no song's numbers depend on another's."""

    def __init__(self, model: str, specification: dict, device: str, stalled_after_s: float) -> None:
        self._stalled_after_s = stalled_after_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._busy_since_s: float | None = None
        self._fingerprinter = self._thread.submit(_load, model, specification, device).result()
        self._reference = self._thread.submit(self._probe).result()

    async def fingerprint(self, audio: Audio) -> bytes | AudioError:
        """Fingerprint decoded audio.

        Returns:
            A pickled `QueryFingerprint`, so that the gateway can hand it on without importing what it is made of; or
            what is wrong with the audio, returned and not raised, as Serve would log a traceback for it.
        """
        outcome = await self._batch(audio)
        if isinstance(outcome, QueryFingerprint):
            return pickle.dumps(outcome)
        if isinstance(outcome, AudioError):
            return outcome
        raise outcome

    @serve.batch(max_batch_size=BATCH_TENS, batch_wait_timeout_s=0, batch_size_fn=tens_of_seconds)
    async def _batch(self, audios: list[Audio]) -> list[Any]:
        """One outcome per song: what one does to the model is not the others' fault.

        Of songs that came at the same moment: those that come while the model is busy are batches of their own, as Ray
        takes each off its queue at once.
        """
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._thread, self._fingerprint, audio) for audio in audios]

    def _fingerprint(self, audio: Audio) -> QueryFingerprint | Exception:
        self._busy_since_s = time.monotonic()
        try:
            with metrics.working_at("fingerprint"):
                return fingerprint_query(self._fingerprinter, audio, "upload")
        except Exception as error:  # one song must not fail its batch; `fingerprint` raises it again
            return error
        finally:
            self._busy_since_s = None

    async def check_health(self) -> None:
        """A tiny real fingerprint, bit for bit the one that this replica made when it started.

        A replica in the middle of a song is well unless the song takes longer than anybody waits for it.
        """
        since_s = self._busy_since_s
        if since_s is not None:
            if time.monotonic() - since_s > self._stalled_after_s:
                raise RuntimeError(f"the model has been busy with one song for more than {self._stalled_after_s} s")
            return
        vectors = await asyncio.get_running_loop().run_in_executor(self._thread, self._probe)
        if not np.array_equal(vectors, self._reference):
            raise RuntimeError("the model no longer gives the numbers that it gave at start")

    def _probe(self) -> np.ndarray:
        codes = SongCodes((np.zeros((self._fingerprinter.model.n_codebooks, 50), np.uint16),), (0.0,))
        vectors = self._fingerprinter(codes).vectors
        return np.concatenate(list(vectors.values()))

    async def describe(self) -> dict[str, str]:
        """What it answers with, once it has shown that it can."""
        await self.check_health()
        model, specification = self._fingerprinter.model, self._fingerprinter.specification
        return {
            # A local folder's path is the server's own business.
            "model": Path(model.name).name if Path(model.name).is_absolute() else model.name,
            "weights_sha256": model.weights_sha256,
            "fingerprint": specification.kind,
            "specification_sha256": specification.sha256,
        }


def _load(model: str, specification: dict, device: str) -> fingerprint.Fingerprinter:
    made_with = Specification.from_dict(specification)
    return fingerprint.Fingerprinter(open_model(model, device, made_with.torch_dtype), made_with)


class Searcher:
    """Answers from one immutable snapshot, and from another one once a config asks for it."""

    def __init__(self, built: str, specification_sha256: str) -> None:
        self._live = LiveIndex(Path(built), specification_sha256)

    async def reconfigure(self, user_config: Any) -> None:
        """Serve calls it at start, and when a config is deployed whose `user_config` is another one."""
        await self._live.follow(user_config)

    async def attribute(self, query: bytes, policy: str, top_k: int, partial: bool) -> str:
        """The report on a fingerprinter's answer as canonical JSON, which is what the command line prints.

        Args:
            partial: whether an answer from a part of the index will do; this one is always from all of it.
        """
        snapshot = self._live.snapshot
        return await asyncio.to_thread(lambda: _report(pickle.loads(query), snapshot, policy, top_k))

    async def attribute_vectors(self, query: FingerprintQuery, policy: str, top_k: int, partial: bool) -> str | Problem:
        """The same for a fingerprint that a client made; or what is wrong with it."""
        snapshot = self._live.snapshot
        return await self._ask(lambda: _report(catalog.as_query(query, snapshot), snapshot, policy, top_k))

    async def versions(self) -> IndexVersions | Problem:
        return await self._ask(catalog.list_versions, self._live.folder_of(self._live.snapshot))

    async def songs(self, after: str, limit: int) -> SongPage | Problem:
        return await self._ask(catalog.list_songs, self._live.snapshot, after, limit)

    async def song(self, song_id: str) -> Song | Problem:
        return await self._ask(catalog.find_song, self._live.snapshot, song_id)

    async def nearest(self, song_id: str, channel: Channel, limit: int) -> Neighbours | Problem:
        return await self._ask(catalog.nearest_songs, self._live.snapshot, song_id, channel, limit)

    async def verify(self, report: bytes, signature: bytes | None, query: bytes | None) -> ReportVerification | Problem:
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
        """What it answers from, once it has shown that it can."""
        await self.check_health()
        snapshot = self._live.snapshot
        return {
            "index_version": snapshot.version,
            "index_key": snapshot.key,
            "index_wanted": self._live.wanted,
            "index_fault": self._live.fault,
            "songs": len(snapshot),
        }


def _report(query: QueryFingerprint, snapshot: Snapshot, policy: str, top_k: int) -> str:
    with metrics.working_at("search"):
        report = attribute(query, snapshot, policy, top_k)
    with metrics.working_at("report"):
        return to_json(report)


# What Ray Serve leaves open. Queues are bounded: past them, a client is told to come back instead of waiting for ever.
_COMMON: dict[str, Any] = {
    "backpressure_config": {"status_code": 429, "retry_after_s": RETRY_AFTER_S},
    "max_constructor_retry_count": 3,
    "health_check_period_s": 15,
    "health_check_timeout_s": 60,
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 30,
}

# It refuses by itself what is too much: see serve/places.py. Ray's own bound only keeps a flood from it.
GATEWAY: Deployment = serve.deployment(
    max_ongoing_requests=512, max_queued_requests=512, ray_actor_options={"num_cpus": 0.25}, **_COMMON
)(Gateway)

FINGERPRINTER: Deployment = serve.deployment(
    max_ongoing_requests=8, max_queued_requests=32, ray_actor_options={"num_cpus": 1}, **_COMMON
)(Fingerprinter)

# Of those that hold no model.
_LIGHT: dict[str, Any] = _COMMON | {
    "max_ongoing_requests": 8,
    "max_queued_requests": 32,
    "ray_actor_options": {"num_cpus": 0.25},
}

SEARCHER: Deployment = serve.deployment(**_LIGHT)(Searcher)

# Of an index that is spread over shards: the searcher that asks them, and each of them under a name of its own.
MERGER: Deployment = serve.deployment(name="Searcher", **_LIGHT)(Merger)

SHARD: Deployment = serve.deployment(**_LIGHT)(ShardHolder)

# One, as it owns the store of jobs.
JOBS: Deployment = serve.deployment(num_replicas=1, **_LIGHT)(Jobs)
