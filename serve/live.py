"""The version of the index that a searcher answers from, and how another one takes its place."""

import asyncio
import gc
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lumina_ray.answers import FingerprintQuery
from lumina_ray.attribution import attribute
from lumina_ray.errors import LuminaError, SpecificationMismatch, StoreError
from lumina_ray.index import Shard, Snapshot, load_snapshot
from lumina_ray.index.files import versions
from lumina_ray.vocabulary import DEFAULT_TOP_K
from serve import catalog, metrics
from serve.schemas import IndexChoice, describe_errors

logger = logging.getLogger("ray.serve")


class LiveIndex:
    """One snapshot at a time, exchanged as a whole: a request keeps the one that it began with.

    Another version is loaded beside it, in a thread of its own, and takes its place once it has answered a query. Both
    are in memory until then, and for as long as requests on the old one last. A version that cannot be served leaves
    everything as it was.

    Attributes:
        held: snapshots in memory, the one that answers first.
        wanted: the version that the config asks for; None for a config that cannot be read.
        fault: why another one answers, for machines; None where it does not, or is being loaded.
    """

    def __init__(self, built: Path, specification_sha256: str, shard: Shard | None = None, keep: int = 1) -> None:
        """
        Args:
            built: the snapshot that the application was built with, which answers where a searcher starts while the
                config asks for one that cannot be served.
            specification_sha256: of the fingerprints that are searched for.
            shard: the part that is held; None for all.
            keep: versions that are held once another one has taken its place.
        """
        self._built = built
        self._specification_sha256 = specification_sha256
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._shard = shard
        self._keep = keep
        self.held: tuple[Snapshot, ...] = ()
        self.wanted: str | None = None
        self.fault: str | None = None

    @property
    def snapshot(self) -> Snapshot:
        assert self.held, "a searcher without a user_config has no index"
        return self.held[0]

    def folder_of(self, snapshot: Snapshot) -> Path:
        """Where a snapshot lies that is or was held."""
        return self._built.parent / snapshot.version

    async def follow(self, user_config: Any) -> None:
        """Change to the version that a config names: the first time before anything else, later in the background.

        Serve keeps a replica from its requests while it is reconfigured, and restarts one that fails to.

        Raises:
            LuminaError: the first time, where the version that the application was built with cannot be served.
        """
        exchange = asyncio.get_running_loop().run_in_executor(self._thread, self._exchange, user_config)
        if not self.held:
            await exchange

    def _exchange(self, user_config: Any) -> None:
        self.wanted = self.fault = None
        try:
            self.wanted = IndexChoice.model_validate(user_config).index_version
            again = tuple(snapshot for snapshot in self.held if snapshot.version == self.wanted)
            others = tuple(snapshot for snapshot in self.held if snapshot.version != self.wanted)
            if not again:
                # No more than two at once.
                self.held = others = others[:1]
            self.held = (again or (self._load(self.wanted),)) + others[: self._keep - 1]
        except Exception as error:  # MemoryError as well: whatever a version does must not end a replica that answers
            self.fault = _fault(error)
            if not self.held:
                self.held = (self._load(self._built.name),)
            logger.error(
                "%s still answers: %s",
                self.snapshot.version,
                describe_errors(list(error.errors())) if isinstance(error, ValidationError) else error,
                exc_info=None if isinstance(error, LuminaError | ValidationError) else error,
            )
        else:
            # Garbage collections, which run in the middle of answers, then skip the objects that stay.
            gc.freeze()
            logger.info("%s answers", self.wanted)
        self.show()

    def show(self) -> None:
        """Say in the metrics what answers."""
        metrics.show_index(self.snapshot.version, refused=self.fault is not None)

    def _load(self, version: str) -> Snapshot:
        held = {folder.name: folder for _, folder in versions(self._built.parent)} | {self._built.name: self._built}
        if version not in held:
            raise StoreError(f"{self._built.parent} holds no snapshot {version}; it has {', '.join(sorted(held))}")
        snapshot = load_snapshot(held[version], self._shard)
        if snapshot.specification_sha256 != self._specification_sha256:
            raise SpecificationMismatch(
                f"{held[version]} has specification {snapshot.specification_sha256}, the fingerprinters have "
                f"{self._specification_sha256}: deploy it with its model, by another `index` in the arguments"
            )
        probe(snapshot)
        return snapshot


def probe(snapshot: Snapshot) -> None:
    """Answer a query from a snapshot: the first song must find itself. Also reads in what a search reads.

    Raises:
        RuntimeError: it does not.
    """
    present = catalog.present_rows(snapshot, 0, 1)
    if not len(present):
        return
    vectors = {channel: snapshot.vectors(channel, present)[0] for channel in snapshot.indexes}
    query = FingerprintQuery(
        specification_sha256=snapshot.specification_sha256,
        audio_sha256="0" * 64,
        codes_sha256="0" * 64,
        duration_s=1,
        channels={channel: vector.tolist() for channel, vector in vectors.items()},
    )
    report = attribute(catalog.as_query(query, snapshot), snapshot, candidates=DEFAULT_TOP_K)
    for channel, answer in report.near_copies.items():
        # Not its row: a duplicate of the song is as close.
        best = max(candidate.similarity for candidate in answer.candidates)
        if not abs(best - 1) < 1e-3:
            raise RuntimeError(f"channel {channel}: the first song finds itself with similarity {best}")


def _fault(error: Exception) -> str:
    """Code of a fault, which anybody may see. Paths are in the log only."""
    match error:
        case ValidationError():
            return "index.config"
        case SpecificationMismatch():
            return "index.specification"
        case StoreError():
            return "index.unusable"
        case _:
            return "index.failed"
