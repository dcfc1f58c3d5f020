"""Fisher information and scores by forgetting, on Ray over the data files of a store.

lumina fisher STORE MODEL
lumina scores unlearning --catalog STORE --queries STORE
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from rich.console import Console

from cluster.progress import show_steps
from cluster.resources import choose_workers
from cluster.session import one_line, ray_session, root_cause, stoppable
from lumina_ray.errors import ClusterError, LuminaError, SpecificationMismatch
from lumina_ray.files import atomic_path
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.methods.table import top_table
from lumina_ray.model import AttributableModel, open_model
from lumina_ray.model.files import absolute_model
from lumina_ray.model.fisher import Fisher, fisher_of, load_fisher, save_fisher
from lumina_ray.storage import Location
from lumina_ray.store import StreamedStore, list_data_files
from lumina_ray.store.segments import Segment
from lumina_ray.store.stream import data_file_codes, stored_songs
from lumina_ray.unlearning.fisher import FisherSum
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import Rises, Score, collect, rises
from lumina_ray.unlearning.select import select_parts
from lumina_ray.unlearning.unlearn import Forgetting
from lumina_ray.vocabulary import CHANNELS, SongCodes

_RETRIES = 3
# Partial sums of squared gradients, each 16 bytes a weight. They are exact, so that their number changes no bit.
_SUMS = 8
# Data files whose songs are scored at once; on CPUs each holds up to 4 songs.
_FILES_IN_SHARD = 16
DataFile = tuple[Segment, Location]


def measure_fisher(
    store: StreamedStore,
    model: str,
    out: Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    console: Console | None = None,
) -> Fisher:
    """Measure a model's Fisher information over the songs of a store, and write it to a file.

    Partial sums are kept beside the file until it is there: the same call goes on with them.

    Raises:
        SpecificationMismatch: the store was made with other weights.
        ModelError: the model is not at hand.
        UnlearningError: the store holds no songs.
        ClusterError: the cluster cannot run it.
    """
    console, name, files = console or Console(stderr=True), absolute_model(model), _files(store)
    specification = store.specification.to_dict()
    groups = [files[i::_SUMS] for i in range(min(_SUMS, len(files)))]
    parts = out.with_name(f".{out.name}.parts")
    with ray_session(), stoppable():
        found = choose_workers(device, workers)
        remote = ray.remote(num_cpus=found.cpus, num_gpus=found.gpus, max_retries=_RETRIES)
        add, merge = remote(_sum), ray.remote(num_cpus=1, max_retries=_RETRIES)(_merged)
        paths = [parts / f"{_identity(name, specification, _names(group))}.npz" for group in groups]
        sums = [
            add.remote(name, specification, found.device, group, path)
            for group, path in zip(groups, paths, strict=True)
        ]
        _wait("Squared gradients", sums, console)
        while len(sums) > 1:
            sums = [merge.remote(*sums[i : i + 2]) if i + 1 < len(sums) else sums[i] for i in range(0, len(sums), 2)]
        opened = open_model(name, "cpu")
        _check_weights(store.specification, opened, str(store.path))
        total = FisherSum.empty(opened)
        if sums:
            total.add_arrays(_get(sums[0]))
    fisher = total.finish()
    save_fisher(fisher, out)
    for path in paths:
        path.unlink(missing_ok=True)
    if parts.exists() and not any(parts.iterdir()):
        parts.rmdir()
    return fisher


def unlearning_scores(
    catalog: StreamedStore,
    queries: StreamedStore,
    parts: Path,
    *,
    model: str | None = None,
    fisher: Path | None = None,
    how: Forgetting = Forgetting(),
    device: str = "auto",
    workers: int | None = None,
    console: Console | None = None,
) -> dict[str, tuple[list[str], Rises]]:
    """Let the catalog's model forget each query, and compare the losses of all songs before and after.

    Args:
        parts: folder for what is finished, a file for each query and shard of songs: the same call goes on there.
        model: where the store's model lies now, if it has moved.
        fisher: a file of Fisher information; by default the one in the model's folder.

    Returns:
        For each query, in the order of its store: the songs' ids and what became of their losses, in one order.

    Raises:
        SpecificationMismatch: the stores, the model and the Fisher information do not belong together.
        UnlearningError: a query cannot be forgotten; names it. What is finished is kept.
        ModelError: the model or its Fisher information is not at hand.
        ClusterError: the cluster cannot run it.
    """
    console, name = console or Console(stderr=True), absolute_model(model or catalog.run.model)
    if queries.specification.weights_sha256 != catalog.specification.weights_sha256:
        raise SpecificationMismatch(
            f"{queries.path} and {catalog.path} were made with models of other weights; fingerprint both with one model"
        )
    asked = dict(stored_songs(queries))
    opened = open_model(name, "cpu")
    _check_weights(catalog.specification, opened, str(catalog.path))
    fisher_sha256 = _fisher(opened, fisher).sha256
    files = _files(catalog)
    shards = [files[i : i + _FILES_IN_SHARD] for i in range(0, len(files), _FILES_IN_SHARD)]
    with ray_session(), stoppable():
        found = choose_workers(device, workers)
        task = ray.remote(num_cpus=found.cpus, num_gpus=found.gpus, max_retries=_RETRIES)(_scores)
        paths = {
            (query_id, i): parts / f"{_identity(query_id, codes.sha256, fisher_sha256, asdict(how), _names(shard))}.npz"
            for query_id, codes in asked.items()
            for i, shard in enumerate(shards)
        }
        running = []
        for i, shard in enumerate(shards):
            missing = {q: (codes, paths[q, i]) for q, codes in asked.items() if not paths[q, i].exists()}
            if missing:
                running.append(
                    task.remote(name, catalog.specification.to_dict(), found.device, fisher, how, shard, missing)
                )
        _wait("Shards of songs", running, console)
    out = {}
    for query_id in sorted(asked):
        ids: list[str] = []
        values: list[dict[Score, np.ndarray]] = []
        for i in range(len(shards)):
            with np.load(paths[query_id, i]) as arrays:
                ids += arrays["song_ids"].tolist()
                columns = {score: arrays[score] for score in arrays.files if score != "song_ids"}
                values += [
                    {score: column[n] for score, column in columns.items()} for n in range(len(arrays["song_ids"]))
                ]
        out[query_id] = ids, collect(values, catalog.specification.representation)
    return out


def unlearning_table(found: dict[str, tuple[list[str], Rises]], score: Score = "plain", top: int = 10) -> pa.Table:
    """Table of the songs with the largest scores for each query, as `lumina_ray.methods.table.score_table` has it."""
    ids = sorted(next(iter(found.values()))[0]) if found else []
    scores = {}
    for channel in CHANNELS:
        rows = []
        for song_ids, of_query in found.values():
            by_id = dict(zip(song_ids, of_query.of(score, channel), strict=True))
            rows.append([by_id[song_id] for song_id in ids])
        scores[channel] = np.array(rows).reshape(len(found), len(ids))
    return top_table("unlearning", list(found), ids, scores, top)


def _sum(name: str, specification: dict, device: str, files: Sequence[DataFile], path: Path) -> dict[str, np.ndarray]:
    """Add up the squared gradients of the songs of some data files, or read the sum that is there."""
    if path.exists():
        with np.load(path) as arrays:
            return {key: arrays[key] for key in arrays.files}
    opened, of_store = _opened(name, specification, device)
    total, parts = FisherSum.empty(opened), select_parts(opened, "all")
    for _, codes in _songs(files, of_store):
        total.add(opened, codes, parts)
    arrays = total.to_arrays()
    _save(path, arrays)
    return arrays


def _merged(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return FisherSum.merged_arrays(one, other)


def _scores(
    name: str,
    specification: dict,
    device: str,
    fisher: Path | None,
    how: Forgetting,
    files: Sequence[DataFile],
    asked: dict[str, tuple[SongCodes, Path]],
) -> None:
    """Forget each query, and write what became of the losses of the songs of some data files."""
    opened, of_store = _opened(name, specification, device)
    of_model = _fisher(opened, fisher)
    songs = dict(_songs(files, of_store))
    before = [code_losses(opened, codes) for codes in songs.values()]
    for query_id, (codes, path) in asked.items():
        try:
            found, _ = rises(opened, codes, list(songs.values()), before, of_model, how)
        except LuminaError as error:
            raise type(error)(f"query {query_id}: {error}") from error
        _save(path, {"song_ids": np.array(list(songs))} | {str(name): v for name, v in found.values.items()})


def _opened(name: str, specification: dict, device: str) -> tuple[AttributableModel, Specification]:
    torch.set_num_threads(1)
    opened, of_store = open_model(name, device), Specification.from_dict(specification)
    _check_weights(of_store, opened, "the store")
    return opened, of_store


def _check_weights(specification: Specification, model: AttributableModel, store: str) -> None:
    if specification.weights_sha256 != model.weights_sha256:
        raise SpecificationMismatch(
            f"{store} was made with weights {specification.weights_sha256[:12]}, model {model.name!r} has "
            f"{model.weights_sha256[:12]}; codes mean nothing to another codec: fingerprint it with this model"
        )


def _fisher(model: AttributableModel, path: Path | None) -> Fisher:
    if path is not None:
        model.fisher = load_fisher(path)
    return fisher_of(model)


def _songs(files: Sequence[DataFile], specification: Specification) -> Iterator[tuple[str, SongCodes]]:
    return (song for segment, path in files for song in data_file_codes(segment, path, specification))


def _files(store: StreamedStore) -> list[DataFile]:
    return [(segment, path) for segment in store.segments for path in list_data_files(segment.folder)]


def _names(files: Sequence[DataFile]) -> list:
    return [(str(path), sorted(segment.removed)) for segment, path in files]


def _identity(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:24]


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def _wait(what: str, tasks: Sequence[ray.ObjectRef], console: Console) -> None:
    """Wait for tasks; the first error ends all of them."""
    waiting = list(tasks)
    with show_steps(what, len(waiting), console) as step:
        while waiting:
            done, waiting = ray.wait(waiting)
            _get(done)
            step()


def _get(tasks: Any) -> Any:
    try:
        return ray.get(tasks)
    except ray.exceptions.RayError as error:
        cause = root_cause(error)
        if isinstance(cause, LuminaError):
            raise cause from None
        raise ClusterError(f"the model could not be run on the cluster: {one_line(error)}") from error
