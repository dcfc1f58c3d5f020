"""Evidence of use of a catalog's songs, on Ray: log-likelihoods of the codes that are kept in a store, by two models.

lumina use STORE --controls CONTROL_STORE --reference MODEL
"""

from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray.util import ActorPool
from rich.console import Console

from cluster.fingerprint import absolute_model
from cluster.preflight import plan_workers
from cluster.progress import show_steps
from cluster.session import one_line, ray_session, root_cause, stoppable
from lumina_ray.calibration.calibration import check_controls
from lumina_ray.calibration.use import Likelihoods, Use, judge_use
from lumina_ray.errors import ClusterError, LuminaError
from lumina_ray.fingerprint.likelihood import Pair
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.storage import Location
from lumina_ray.store import StreamedStore, part_files
from lumina_ray.store.generations import Segment
from lumina_ray.store.stream import part_codes

_RETRIES = 3
Segments = Sequence[tuple[bool, Segment]]
"""Whether it is of the controls, and a segment."""
Part = tuple[int, Location]
"""Which of the segments, and a data file of it: a segment knows all songs that were ever removed from it."""


def measure_use(
    store: StreamedStore,
    controls: StreamedStore,
    reference: str,
    *,
    model: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    console: Console | None = None,
) -> Use:
    """Compare a store's model with a reference, over every song of the store and of a control store.

    Args:
        reference: name of a model with the same codec that never saw the catalog.
        model: where the store's model lies now, if it has moved.

    Raises:
        SpecificationMismatch: stores of different specifications, other weights than the store's, the same ones or
            another codec in the reference.
        StoreError: damaged, or the same audio in both stores.
        ModelError: a model is not at hand.
        UsageError: too few controls.
        ClusterError: the cluster cannot run it.
    """
    check_controls(store, controls)
    console = console or Console(stderr=True)
    names = absolute_model(model or store.run.model), absolute_model(reference)
    segments = [(False, segment) for segment in store.segments] + [(True, segment) for segment in controls.segments]
    parts = [(number, path) for number, (_, segment) in enumerate(segments) for path in part_files(segment.folder)]
    with ray_session(), stoppable():
        plan = plan_workers(device, workers)
        remote = ray.remote(num_cpus=plan.cpus, num_gpus=plan.gpus, max_restarts=_RETRIES, max_task_retries=_RETRIES)
        worker = remote(Worker)
        shared = ray.put(segments)
        actors = [
            worker.remote(*names, store.specification.to_dict(), plan.device, shared)
            for _ in range(min(plan.count, len(parts)))
        ]
        weights_sha256, of_songs, of_controls = _measure(actors, parts, console)
    return judge_use(store, controls, of_songs, of_controls, (reference, weights_sha256))


class Worker:
    """Owns both models, from the first part on: what is wrong with them is then an error of that part."""

    def __init__(self, audited: str, reference: str, specification: dict, device: str, segments: Segments) -> None:
        """Args: names of models, the store's specification as it travels, where to compute, and what parts are of."""
        self._names, self._device, self._segments = (audited, reference), device, segments
        self._specification = Specification.from_dict(specification)
        self._pair: Pair | None = None

    def reference_sha256(self) -> str:
        """Weights of the reference model."""
        return self._models().reference.weights_sha256

    def measure(self, part: Part) -> tuple[bool, Likelihoods]:
        """Log-likelihoods of a part's songs."""
        number, path = part
        of_controls, segment = self._segments[number]
        pair = self._models()
        return of_controls, {song_id: pair(codes) for song_id, codes in part_codes(segment, path, self._specification)}

    def _models(self) -> Pair:
        if self._pair is None:
            torch.set_num_threads(1)
            self._pair = Pair.open(*self._names, self._specification.weights_sha256, self._device)
        return self._pair


def _ask(actor: Any, part: Part) -> Any:
    return actor.measure.remote(part)


def _measure(actors: list, parts: Sequence[Part], console: Console) -> tuple[str, Likelihoods, Likelihoods]:
    measured: dict[bool, dict[str, tuple[float, float]]] = {False: {}, True: {}}
    try:
        weights_sha256 = ray.get(actors[0].reference_sha256.remote())
        with show_steps("Log-likelihoods", len(parts), console) as step:
            pool = ActorPool(actors)
            for of_controls, found in pool.map_unordered(_ask, list(parts)):
                measured[of_controls] |= found
                step()
    except ray.exceptions.RayError as error:
        cause = root_cause(error)
        if isinstance(cause, LuminaError):
            raise cause from None
        raise ClusterError(f"log-likelihoods could not be computed on the cluster: {one_line(error)}") from error
    return weights_sha256, measured[False], measured[True]
