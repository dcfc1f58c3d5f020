"""The deployment that owns the model: decoded audio in, a fingerprint out."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve

from lumina_ray.audio import ChunkedAudio
from lumina_ray.fingerprint import Fingerprinter as QueryFingerprinter
from lumina_ray.fingerprint import Specification, fingerprint_query
from lumina_ray.model import open_model
from lumina_ray.model.lean import only_run_models
from lumina_ray.vocabulary import STORED_AS, QueryFingerprint, SongCodes
from serve import metrics

# Audio of one batch of the model, in tens of seconds: Ray warns of sizes above `max_ongoing_requests`.
BATCH_TENS = 6


def tens_of_seconds(audios: list[ChunkedAudio]) -> int:
    """The size of a batch. A longer song counts as a whole batch: Ray would refuse an item that is larger."""
    return sum(min(len(audio.chunks), BATCH_TENS) for audio in audios)


class Fingerprinter:
    """Owns one model. A single thread uses it, song after song, so that no song's numbers depend on another's."""

    def __init__(self, model: str, specification: dict, device: str, stalled_after_s: float) -> None:
        self._stalled_after_s = stalled_after_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._busy_since_s: float | None = None
        self._fingerprinter = self._thread.submit(_load, model, specification, device).result()
        self._reference = self._thread.submit(self._probe).result()

    async def fingerprint(self, audio: ChunkedAudio) -> QueryFingerprint:
        """Fingerprint decoded audio."""
        outcome = await self._batch(audio)
        if isinstance(outcome, QueryFingerprint):
            return outcome
        raise outcome

    @serve.batch(max_batch_size=BATCH_TENS, batch_wait_timeout_s=0, batch_size_fn=tens_of_seconds)
    async def _batch(self, audios: list[ChunkedAudio]) -> list[Any]:
        """One outcome per song: what one does to the model is not the others' fault.

        Of songs that came at the same moment: those that come while the model is busy are batches of their own, as Ray
        takes each off its queue at once.
        """
        loop = asyncio.get_running_loop()
        return [await loop.run_in_executor(self._thread, self._fingerprint, audio) for audio in audios]

    def _fingerprint(self, audio: ChunkedAudio) -> QueryFingerprint | Exception:
        self._busy_since_s = time.monotonic()
        try:
            with metrics.working_at("fingerprint"):
                return fingerprint_query(self._fingerprinter, audio)
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
        representation = self._fingerprinter.model.representation
        codes = SongCodes((np.zeros((representation.rows, 50), STORED_AS[representation.name]),), (0.0,))
        vectors = self._fingerprinter(codes).vectors
        return np.concatenate(list(vectors.values()))

    async def describe(self) -> dict[str, str]:
        """The model and the specification that it uses, after a health check."""
        await self.check_health()
        model, specification = self._fingerprinter.model, self._fingerprinter.specification
        return {
            # A local folder's path is the server's own business.
            "model": Path(model.name).name if Path(model.name).is_absolute() else model.name,
            "weights_sha256": model.weights_sha256,
            "fingerprint": specification.kind,
            "specification_sha256": specification.sha256,
        }


def _load(model: str, specification: dict, device: str) -> QueryFingerprinter:
    only_run_models()
    made_with = Specification.from_dict(specification)
    return QueryFingerprinter(open_model(model, device, made_with.torch_dtype), made_with)
