"""Fine-tune a model on the songs of a store, and record the training so that it can be replayed (docs/replay.md)."""

from functools import partial
from pathlib import Path

from rich.console import Console

from cluster.own_truth import captions_of
from cluster.replay import record_training, run_jobs
from cluster.session import ray_session, stoppable
from lumina_ray.calibration.vectors import usable_songs
from lumina_ray.model.files import absolute_model
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.record import Report
from lumina_ray.replay.run import MODEL_FOLDER, RunSongs, begin_training, is_finished, keep_songs, write_model
from lumina_ray.store.stream import StreamedStore, codes_of
from lumina_ray.truth.own_model import known_caption, open_maker
from lumina_ray.truth.own_music import whole


def train(base: str, store: StreamedStore, out: Path, plan: Plan, console: Console | None = None) -> Path:
    """Fine-tune a model on all usable songs of a store, or go on where an earlier call was interrupted.

    Args:
        base: name of the model, which made the store's codes.
        out: folder of the run.

    Returns:
        Folder of the finished model.

    Raises:
        ModelError: the model is not at hand, or cannot be fine-tuned.
        SpecificationMismatch: other weights made the store, or `out` was begun with other songs, model or plan.
        StoreError: damaged.
        UsageError: the states of the training take too much disk or memory.
        ClusterError: the cluster cannot run it.
    """
    console, out, name = console or Console(stderr=True), out.resolve(), absolute_model(base)
    keep_songs(songs_to_learn(base, store), out)
    begin = partial(begin_training, name, out, plan)
    steps = len(begin().steps)
    with ray_session(), stoppable():
        run_jobs("Training", record_training, [(begin, out, None)], console=console, steps=steps)
        if not is_finished(out):
            run_jobs("Model", _write_model, [(name, out, plan)], console=console, steps=1)
    return out / MODEL_FOLDER


def songs_to_learn(base: str, store: StreamedStore) -> RunSongs:
    """Read all usable songs of a store, as a run of this model learns them.

    Raises:
        ModelError: the model is not at hand, or cannot be fine-tuned.
        SpecificationMismatch: other weights made the store.
        StoreError: damaged.
    """
    opened = open_maker(base, absolute_model(base), store.specification.weights_sha256, store.path)
    (rows, _), captions = usable_songs(store), captions_of(store)
    ids = tuple(store.song_ids[row] for row in rows)
    codes = codes_of(store, ids)
    return RunSongs(
        ids,
        tuple(known_caption(opened, captions.get(song_id)) or None for song_id in ids),
        tuple(whole(codes[song_id]) for song_id in ids),
    )


def _write_model(base: str, out: Path, plan: Plan, _: Report) -> None:
    write_model(base, out, plan)
