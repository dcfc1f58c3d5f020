"""Reads many reports, in several processes where there are many of them, and in bounded memory."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from lumina_ray.errors import LuminaError
from lumina_ray.report.sign import check_bytes, signature_file
from lumina_ray.statement.lines import Clip, read_clip
from lumina_ray.statement.sources import Source, batches, contents

_BATCH, _BATCH_BYTES = 64, 4 << 20
# Fewer are read sooner than another process has started.
_ALONE = 512
_AHEAD = 3


class Read(NamedTuple):
    """A report that was read.

    Attributes:
        fault: why it cannot be used; None where it can.
    """

    name: str
    clip: Clip | None
    fault: str | None


def usable_cpus() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_reports(sources: Iterable[Source], workers: int, public_key: bytes | None = None) -> Iterator[Read]:
    """Read reports.

    Args:
        workers: processes. With one, this process reads.
        public_key: 32 bytes, of the only key whose signatures are accepted; a report's lies beside its file.
    """
    waiting = iter(sources)
    few = list(islice(waiting, _ALONE))
    if workers <= 1 or len(few) < _ALONE:
        for source in chain(few, waiting):
            yield read_source(source, public_key)
        return
    # Forked, a process would share what other threads of this one hold.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"))
    try:
        under_way: deque[Future[list[Read]]] = deque()
        for batch in batches(chain(few, waiting), _BATCH, _BATCH_BYTES):
            under_way.append(pool.submit(_read_batch, batch, public_key))
            if len(under_way) >= _AHEAD * workers:
                yield from under_way.popleft().result()
        while under_way:
            yield from under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read_batch(batch: list[Source], public_key: bytes | None) -> list[Read]:
    return [read_source(source, public_key) for source in batch]


def read_source(source: Source, public_key: bytes | None = None) -> Read:
    """Read one report; see `read_reports`."""
    try:
        data = contents(source)
        clip = read_clip(data, source.name)
        if public_key is not None:
            check_bytes(data, "report", signature_file(Path(source.name)), public_key)
    except LuminaError as error:
        return Read(source.name, None, str(error))
    return Read(source.name, clip, None)
