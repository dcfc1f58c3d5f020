"""Measure membership evidence on Ray: the log-likelihoods, under several models, of the codes that a store keeps.

lumina use STORE --controls CONTROL_STORE --reference MODEL [--reference MODEL …]
"""

from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray.util import ActorPool
from rich.console import Console

from cluster.progress import show_steps
from cluster.resources import choose_workers
from cluster.session import one_line, ray_session, root_cause, stoppable
from lumina_ray.calibration.calibration import check_controls
from lumina_ray.calibration.membership import Likelihoods, Membership, check_references, judge_membership
from lumina_ray.errors import ClusterError, LuminaError
from lumina_ray.fingerprint.likelihood import Panel
from lumina_ray.fingerprint.observed import Observed
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.model.files import absolute_model
from lumina_ray.storage import Location
from lumina_ray.store import StreamedStore, list_data_files
from lumina_ray.store.segments import Segment
from lumina_ray.store.stream import data_file_codes

_RETRIES = 3
Segments = Sequence[tuple[bool, Segment]]
"""Pairs: whether a segment belongs to the controls, and the segment."""
DataFile = tuple[int, Location]
"""Number of a segment, and a data file of it. The segment knows all songs that were ever removed from it."""


def measure_membership(
    store: StreamedStore,
    controls: StreamedStore,
    references: Sequence[str],
    *,
    model: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    console: Console | None = None,
) -> Membership:
    """Compare a store's model with references, over every song of the store and of a control store.

    Args:
        references: names of models with the same codec that never saw the catalog.
        model: where the store's model lies now, if it has moved.

    Raises:
        SpecificationMismatch: stores of different specifications, other weights than the store's, the same ones or
            another codec in a reference, or two references that are one model.
        StoreError: damaged, or the same audio in both stores.
        ModelError: a model is not at hand.
        UsageError: no reference or too many, too few controls, or controls of another kind than the catalog.
        ClusterError: the cluster cannot run it.
    """
    check_references(references)
    check_controls(store, controls)
    console = console or Console(stderr=True)
    names = absolute_model(model or store.run.model), [absolute_model(reference) for reference in references]
    segments = [(False, segment) for segment in store.segments] + [(True, segment) for segment in controls.segments]
    files = [(number, path) for number, (_, segment) in enumerate(segments) for path in list_data_files(segment.folder)]
    with ray_session(), stoppable():
        found = choose_workers(device, workers)
        remote = ray.remote(num_cpus=found.cpus, num_gpus=found.gpus, max_restarts=_RETRIES, max_task_retries=_RETRIES)
        worker = remote(Worker)
        shared = ray.put(segments)
        actors = [
            worker.remote(*names, store.specification.to_dict(), found.device, shared)
            for _ in range(min(found.count, len(files)))
        ]
        weights_sha256, of_songs, of_controls = _measure(actors, files, console)
    return judge_membership(store, controls, of_songs, of_controls, list(zip(references, weights_sha256, strict=True)))


class Worker:
    """Owns all models. It loads them for its first file, so that a fault of a model is an error of that file."""

    def __init__(
        self, audited: str, references: list[str], specification: dict, device: str, segments: Segments
    ) -> None:
        """Args: names of all models, the specification as a dict, the device, and the segments of the files."""
        self._audited, self._references, self._device, self._segments = audited, references, device, segments
        self._specification = Specification.from_dict(specification)
        self._panel: Panel | None = None

    def references_sha256(self) -> list[str]:
        """Weights of the reference models."""
        return [model.weights_sha256 for model in self._models().references]

    def measure(self, file: DataFile) -> tuple[bool, Likelihoods]:
        """Log-likelihoods of the songs of a data file, and whether they are controls."""
        number, path = file
        of_controls, segment = self._segments[number]
        panel = self._models()
        songs = data_file_codes(segment, path, self._specification)
        return of_controls, {song_id: panel(codes) for song_id, codes in songs}

    def _models(self) -> Panel:
        if self._panel is None:
            torch.set_num_threads(1)
            self._panel = Panel.open(self._audited, self._references, self._specification.weights_sha256, self._device)
        return self._panel


def _ask(actor: Any, file: DataFile) -> Any:
    return actor.measure.remote(file)


def _measure(actors: list, files: Sequence[DataFile], console: Console) -> tuple[list[str], Likelihoods, Likelihoods]:
    measured: dict[bool, dict[str, Observed]] = {False: {}, True: {}}
    try:
        weights_sha256 = ray.get(actors[0].references_sha256.remote())
        with show_steps("Log-likelihoods", len(files), console) as step:
            pool = ActorPool(actors)
            for of_controls, found in pool.map_unordered(_ask, list(files)):
                measured[of_controls] |= found
                step()
    except ray.exceptions.RayError as error:
        cause = root_cause(error)
        if isinstance(cause, LuminaError):
            raise cause from None
        raise ClusterError(f"log-likelihoods could not be computed on the cluster: {one_line(error)}") from error
    return weights_sha256, measured[False], measured[True]
