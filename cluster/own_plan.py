"""Predict what a bank of an operator's own model takes: some steps are measured, the rest is arithmetic."""

import time
from dataclasses import dataclass
from itertools import islice

import ray
import torch

from cluster.own_truth import causes
from cluster.preflight import size_text
from cluster.session import ray_session
from cluster.truth import training_device
from lumina_ray.calibration.vectors import usable_songs
from lumina_ray.model.files import absolute_model
from lumina_ray.replay.learner import DecoderLearner
from lumina_ray.replay.plan import Plan
from lumina_ray.replay.training import Training
from lumina_ray.store.stream import StreamedStore, codes_of
from lumina_ray.truth.fine_tuning import WINDOW_FRAMES, count_steps
from lumina_ray.truth.own_model import ask, open_decoder
from lumina_ray.truth.own_music import OwnMusic, OwnSong, cut_songs
from lumina_ray.truth.own_recipe import OwnRecipe, own_trainings
from lumina_ray.truth.queries import QUERY_FRAMES, Query

_MEASURED_STEPS = 3
_MEASURED_SONGS = 8
_BYTES_OF_LOSS = 16


@dataclass(frozen=True)
class OwnPlan:
    """Predicted work of a bank.

    Attributes:
        models: to train.
        steps: of each.
        queries: that each is asked about, at most.
        step_s, ask_s: seconds of a step and of a query, measured; the first step is left out.
        start_s: seconds in which a model opens, measured.
        hours: of one device, all models together; sampling of pieces and fingerprints of the catalog come on top.
        workers: devices that train at once.
        elapsed_hours: with so many.
        gpu_bytes: peak memory of a step; None on CPUs.
        disk_bytes: of the bank, with its model.
    """

    models: int
    steps: int
    queries: int
    step_s: float
    ask_s: float
    start_s: float
    device: str
    workers: int
    hours: float
    elapsed_hours: float
    gpu_bytes: int | None
    disk_bytes: int

    @property
    def sentence(self) -> str:
        """For people."""
        memory = "" if self.gpu_bytes is None else f", {size_text(self.gpu_bytes)} of each GPU"
        each = "GPU" if self.device == "cuda" else "CPU"
        return (
            f"{self.models} models of {self.steps} steps each, {self.step_s:.2f} s a step and {self.ask_s:.2f} s for "
            f"each of {self.queries} queries, measured here: {self.hours:.1f} {each} hours, {self.elapsed_hours:.1f} h "
            f"on {self.workers}{memory}; {size_text(self.disk_bytes)} of disk"
        )


def plan_own_bank(base: str, catalog: StreamedStore, recipe: OwnRecipe) -> OwnPlan:
    """Predict what `cluster.own_truth.build_own_bank` takes on this cluster.

    Raises:
        ModelError: the base model is not at hand, or cannot be fine-tuned.
        UsageError: too few songs.
        ClusterError: the cluster has nothing to measure on.
    """
    rows, _ = usable_songs(catalog)
    n_models = len(own_trainings(recipe, len(rows))) - 1
    chunks = [catalog.songs["chunk_frames"][int(row)].as_py() for row in rows]
    learned = [sum(frames[: max(1, len(frames) - 1)]) for frames in chunks]
    windows = [min(WINDOW_FRAMES, n - begin) for n in learned for begin in range(0, n, WINDOW_FRAMES)]
    steps = count_steps(windows, recipe.epochs, recipe.batch)
    n_queries = sum(len(frames) > 1 for frames in chunks) + 2 * recipe.pieces
    longest = sorted(rows.tolist(), key=lambda row: -sum(catalog.songs["chunk_frames"][row].as_py()))[:_MEASURED_SONGS]
    songs = [OwnSong(catalog.song_ids[row]) for row in longest]
    codes = codes_of(catalog, [song.song_id for song in songs])
    music = cut_songs(songs, [codes[song.song_id] for song in songs])
    with ray_session(), causes():
        device = training_device()
        resources = ray.cluster_resources()
        workers = int(resources.get("GPU", 0) if device == "cuda" else resources["CPU"])
        measure = ray.remote(num_cpus=1, num_gpus=int(device == "cuda"), max_retries=0)(_measure)
        start_s, step_s, ask_s, model_bytes, gpu_bytes = ray.get(
            measure.remote(absolute_model(base), recipe, music, device)
        )
    hours = n_models * (start_s + steps * step_s + n_queries * ask_s) / 3600
    codes_bytes = 8 * (sum(map(sum, chunks)) + n_queries * QUERY_FRAMES)
    return OwnPlan(
        models=n_models,
        steps=steps,
        queries=n_queries,
        step_s=step_s,
        ask_s=ask_s,
        start_s=start_s,
        device=device,
        workers=workers,
        hours=hours,
        elapsed_hours=hours / min(workers, n_models),
        gpu_bytes=gpu_bytes,
        disk_bytes=model_bytes + codes_bytes + 2 * n_models * n_queries * _BYTES_OF_LOSS,
    )


def _measure(base: str, recipe: OwnRecipe, music: OwnMusic, device: str) -> tuple[float, float, float, int, int | None]:
    """Seconds in which a model opens, of a step and of a query; bytes of the model, and of the GPU in a step."""
    torch.set_num_threads(1)
    begin_s = time.monotonic()
    model = open_decoder(base, device)
    start_s = time.monotonic() - begin_s
    training = Training(
        DecoderLearner(model), music.codes, music.captions, Plan(epochs=_MEASURED_STEPS + 1, batch=recipe.batch)
    )
    ends = []
    for _ in islice(training.run([1.0] * len(music.songs)), _MEASURED_STEPS + 1):
        ends.append(_now(device))
    # The first step also makes what all others use.
    step_s = (ends[-1] - ends[0]) / (len(ends) - 1)
    queries = [
        Query("catalog", "A", i, "dev", piece.codes_KT[:, :QUERY_FRAMES]) for i, piece in enumerate(music.learned)
    ]
    begin_s = _now(device)
    ask(model, queries)
    ask_s = (_now(device) - begin_s) / len(queries)
    model_bytes = sum(4 * parameter.numel() for parameter in model.model.parameters())
    return start_s, step_s, ask_s, model_bytes, torch.cuda.max_memory_allocated() if device == "cuda" else None


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.monotonic()
