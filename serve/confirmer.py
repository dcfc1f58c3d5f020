"""The deployment that confirms reports: it owns a model of its own, which forgets one query at a time."""

import asyncio
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from lumina_ray.attribution.confirmer import Confirmer as ReportConfirmer
from lumina_ray.attribution.confirmer import open_confirmer
from lumina_ray.audio import ChunkedAudio
from lumina_ray.errors import NumericsError, SpecificationMismatch, StoreError, UnlearningError, UsageError
from lumina_ray.fingerprint import Specification
from lumina_ray.model import open_model
from lumina_ray.model.lean import only_run_models
from lumina_ray.report.json import from_json
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.vocabulary import STORED_AS, SongCodes
from serve import metrics
from serve.problems import Problem

# A report may list thousands of songs: these of each channel, the first ones, are confirmed.
MAX_CONFIRMED = 20


class GivenUp(Exception):
    """Nobody waits for the confirmation any more, or its time is up."""


class Confirmer:
    """Confirms one report after the other. What nobody waits for any more ends before the next song's loss."""

    def __init__(
        self, model: str, specification: dict, device: str, store: str, fisher: Path | None, limit_s: float
    ) -> None:
        self._limit_s = limit_s
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._busy_since_s: float | None = None
        self._confirmer = self._thread.submit(_load, model, specification, device, store, fisher).result()
        self._reference = self._thread.submit(self._probe).result()

    async def confirm(self, audio: ChunkedAudio, report: str) -> str | Problem:
        """The confirmation of a report as JSON on one line, or the problem with the audio."""
        given_up = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._confirm, audio, report, given_up
            )
        except (UnlearningError, UsageError) as error:
            # Returned, as Serve would log a traceback for one that is raised. Neither names a file.
            return Problem(422, "confirm.impossible", f"The report cannot be confirmed by forgetting: {error}.")
        except (StoreError, SpecificationMismatch, NumericsError):
            # These name files, and asking again would not help.
            told = "the endpoint's store lacks what the report lists, or is of another model; tell its operator"
            return Problem(422, "confirm.impossible", f"The report cannot be confirmed by forgetting: {told}.")
        finally:
            given_up.set()

    def _confirm(self, audio: ChunkedAudio, report: str, given_up: threading.Event) -> str:
        deadline_s = time.monotonic() + self._limit_s

        def go_on() -> None:
            if given_up.is_set() or time.monotonic() > deadline_s:
                raise GivenUp

        go_on()
        self._busy_since_s = time.monotonic()
        try:
            with metrics.working_at("confirm"):
                found = self._confirmer(audio.chunks, from_json(report), MAX_CONFIRMED, go_on)
        finally:
            self._busy_since_s = None
        return json.dumps(found.to_dict(), sort_keys=True)

    async def check_health(self) -> None:
        """The model predicts as it did when this replica started, bit for bit: it has its own weights.

        A replica in the middle of a confirmation is well unless that takes longer than anybody waits for it.
        """
        since_s = self._busy_since_s
        if since_s is not None:
            if time.monotonic() - since_s > 2 * self._limit_s:
                raise RuntimeError(f"the model has been busy with one confirmation for more than {2 * self._limit_s} s")
            return
        losses = await asyncio.get_running_loop().run_in_executor(self._thread, self._probe)
        if not np.array_equal(losses, self._reference):
            raise RuntimeError("the model no longer gives the numbers that it gave when this replica started")

    def _probe(self) -> np.ndarray:
        model = self._confirmer.model
        representation = model.representation
        codes = SongCodes((np.zeros((representation.rows, 50), STORED_AS[representation.name]),), (0.0,))
        losses = code_losses(model, codes)
        return losses[~np.isnan(losses)]


def _load(model: str, specification: dict, device: str, store: str, fisher: Path | None) -> ReportConfirmer:
    only_run_models()
    dtype = Specification.from_dict(specification).torch_dtype
    return open_confirmer(open_model(model, device, dtype), store, fisher)
