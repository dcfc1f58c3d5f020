"""`lumina plan`: predict a job's time and memory. Some seconds of its work are measured, the rest is arithmetic."""

import functools
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa
import ray
import torch
from rich.console import Console

from cluster.decode import decode_guarded
from cluster.preflight import describe_model, size_text
from cluster.progress import say
from cluster.resources import Workers, choose_workers, songs_in_block
from cluster.session import one_line, ray_session, root_cause
from lumina_ray.audio import CHUNK_S
from lumina_ray.catalog.decode import decode_rows, decoded_chunks
from lumina_ray.catalog.durations import song_durations
from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.errors import ClusterError, LuminaError, ManifestError
from lumina_ray.fingerprint import Specification, encode_song
from lumina_ray.fingerprint.batching import predicted_peak
from lumina_ray.model.files import absolute_model
from lumina_ray.storage import AnyPath
from lumina_ray.store import FingerprintWorker
from lumina_ray.store.forecast import (
    Duration,
    Resources,
    Span,
    chunk_songs,
    count_batches,
    decoded_bytes,
    predict_duration,
    store_bytes,
)
from lumina_ray.timing import timed
from lumina_ray.vocabulary import CHANNELS, Channel, Dtype, Kind, SongCodes

# Batches are measured for so many seconds, besides the start of a worker.
_MEASURED_S = 10.0
_DECODED_SONGS = 4
_MIN_BATCHES = 3
# Ray Data uses at most this fraction of the object store.
_OBJECT_STORE_FRACTION = 0.5
_MIN_SPREAD = 0.1


@dataclass(frozen=True)
class Measurement:
    """Times and memory that a worker measured on some of the job's songs.

    Attributes:
        start_s: seconds from asking Ray for the worker until it had its model.
        batch_s: seconds of each full batch.
        encode_s, decode_s: seconds for each second of audio, one value for each song.
        process_bytes: peak memory of the process.
        gpu_bytes: memory of the model, measured, and of a batch, predicted; None on a CPU.
    """

    start_s: float
    batch_s: tuple[float, ...]
    encode_s: tuple[float, ...]
    decode_s: tuple[float, ...]
    process_bytes: int
    gpu_bytes: int | None


@dataclass(frozen=True)
class Plan:
    """Predicted time and memory of a job.

    Attributes:
        durations_from: where the songs' durations come from, for people.
        unusable: songs that are too short, too long, or cannot be opened.
        batch_s, encode_s, decode_s: medians of the measurements; the latter two for each second of audio.
        process_bytes, gpu_bytes: peak memory of each worker; the latter None on CPUs.
        decoded_bytes: most that decoded audio takes of the object store.
    """

    songs: int
    audio_s: float
    chunks: int
    unusable: int
    durations_from: str
    device: str
    workers: int
    decoders: int
    chunks_in_flight: int
    duration: Duration
    batch_s: float
    encode_s: float
    decode_s: float
    process_bytes: int
    gpu_bytes: int | None
    disk_bytes: int
    decoded_bytes: int

    def rows(self) -> list[tuple[str, str, str]]:
        """Rows of a table for people: quantity, prediction, and what the prediction rests on."""
        span, each = self.duration.total, "GPU" if self.device == "cuda" else "CPU"
        songs = f"{self.songs} songs, {self.audio_s / 3600:.2f} h, {self.chunks} chunks"
        found = [
            ("songs", songs, self.durations_from + (f"; {self.unusable} unusable" if self.unusable else "")),
            (
                "time",
                span_text(span),
                f"{self.workers} workers, one for each {each}, {self.decoders} decoders: {self.batch_s:.3f} s a batch "
                f"of {self.chunks_in_flight} chunks, {1000 * self.encode_s:.1f} ms to encode and "
                f"{1000 * self.decode_s:.1f} ms to decode a second of audio, measured here; limited by "
                f"{self.duration.limit}",
            ),
        ]
        if self.gpu_bytes is not None:
            rests_on = "the model's weights, measured, and a batch, predicted; CUDA's own comes on top"
            found.append(("GPU memory", f"{size_text(self.gpu_bytes)} a worker", rests_on))
        return [
            *found,
            ("memory", f"{size_text(self.process_bytes)} a worker", "most that a worker held while this was measured"),
            ("object store", f"up to {size_text(self.decoded_bytes)}", "decoded songs on their way to workers"),
            (
                "disk",
                f"{size_text(self.disk_bytes)} ± 5 %",
                "codes and vectors of all chunks; less where songs are silent",
            ),
        ]

    def to_dict(self) -> dict:
        """For machines."""
        return asdict(self)


def plan_job(
    source: AnyPath,
    *,
    model: str,
    kind: Kind,
    channels: tuple[Channel, ...] = CHANNELS,
    dtype: Dtype = "float32",
    gpus: int | None = None,
    decoders: int | None = None,
    console: Console | None = None,
) -> Plan:
    """Predict time and memory of `run_fingerprint_job` on this cluster.

    Args:
        source: a manifest (.parquet or .csv).
        model, kind, channels, dtype: see `run_fingerprint_job`.
        gpus: plan for so many GPUs in place of those that are there, each with as many processors as there are for each
            GPU now.
        decoders: songs decoded at once, see `choose_workers`.
        console: for progress; by default standard error.

    Raises:
        ManifestError: the manifest is unusable, or none of its files that were tried can be decoded.
        ModelError: the model is not at hand or unsuitable.
        ClusterError: the cluster has nothing to measure on.
    """
    announce = functools.partial(say, console or Console(stderr=True))
    model = absolute_model(model)
    songs = read_manifest(source)
    durations_s, durations_from = song_durations(songs)
    begin_s = time.monotonic()
    with ray_session(announce):
        on = choose_workers("cuda", 1, decoders) if gpus else choose_workers("auto", None, decoders)
        announce(f"Opening the model {model}.")
        specification, environment = describe_model(model, on, kind, channels, dtype)
        started_s = time.monotonic() - begin_s
        chunks_in_flight = int(environment["chunks_in_flight"])
        announce(f"Loading the model, and measuring it for {_MEASURED_S:.0f} s.")
        measured = _measure_workers(model, specification, on, chunks_in_flight, songs)
        present = ray.cluster_resources()
    scale = 1.0
    if gpus:
        on = replace(on, count=gpus, decoders=decoders or gpus * on.decoders)
        scale = gpus / present["GPU"]
    chunked = chunk_songs(durations_s)
    per_block = songs_in_block(len(songs), on)
    batch_s, encode_s, decode_s = (
        statistics.median(value for of_worker in measured for value in getattr(of_worker, name))
        for name in ("batch_s", "encode_s", "decode_s")
    )
    firsts = range(0, len(songs), per_block)
    at_once = min(chunks_in_flight, per_block)
    batches = [count_batches(chunked.chunks[i : i + per_block].tolist(), chunks_in_flight, at_once) for i in firsts]
    decoded_s = np.add.reduceat(durations_s, list(firsts))
    duration = predict_duration(
        compute_s=np.array(batches) * batch_s + np.add.reduceat(chunked.kept_s, list(firsts)) * encode_s,
        decode_s=decoded_s * decode_s,
        resources=Resources(on.count, on.decoders, scale * present["CPU"], shared=on.device == "cpu"),
        start_s=started_s + statistics.median(of_worker.start_s for of_worker in measured),
        spread=spread_of([value for of_worker in measured for value in of_worker.batch_s]),
    )
    return Plan(
        songs=len(songs),
        audio_s=float(durations_s.sum()),
        chunks=int(chunked.chunks.sum()),
        unusable=int(np.count_nonzero(chunked.chunks == 0)),
        durations_from=durations_from,
        device=on.device,
        workers=on.count,
        decoders=on.decoders,
        chunks_in_flight=chunks_in_flight,
        duration=duration,
        batch_s=batch_s,
        encode_s=encode_s,
        decode_s=decode_s,
        process_bytes=max(of_worker.process_bytes for of_worker in measured),
        gpu_bytes=measured[0].gpu_bytes,
        disk_bytes=store_bytes(chunked.kept_s, specification, per_block),
        decoded_bytes=min(
            decoded_bytes(float(durations_s.sum())),
            int(_OBJECT_STORE_FRACTION * scale * present["object_store_memory"]),
        ),
    )


def _measure_workers(
    model: str, specification: Specification, workers: Workers, chunks_in_flight: int, songs: pa.Table
) -> list[Measurement]:
    """Measure where the workers will run: on CPUs, with as many of them busy at once as a node has."""
    node_cpus = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    n = min(workers.count, int(node_cpus)) if workers.device == "cpu" else 1
    sample = songs.take(np.linspace(0, len(songs) - 1, min(len(songs), _DECODED_SONGS)).round().astype(int))
    measure = _measure.options(num_cpus=workers.cpus, num_gpus=workers.gpus)
    arguments = (model, specification.to_dict(), workers.device, chunks_in_flight, sample)
    with measuring():
        return ray.get([measure.remote(*arguments, _MEASURED_S, time.time()) for _ in range(n)])


@contextmanager
def measuring() -> Iterator[None]:
    """Raise what stopped a measuring task as one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = root_cause(error)
        if isinstance(cause, LuminaError):
            raise cause from None
        raise ClusterError(f"cannot be measured on the cluster: {one_line(error)}") from error


@ray.remote(max_retries=0)
def _measure(
    model: str,
    specification: dict,
    device: str,
    chunks_in_flight: int,
    songs: pa.Table,
    batches_s: float,
    asked_s: float,
) -> Measurement:
    """Decode, encode and fingerprint some songs as a job does."""
    worker = FingerprintWorker(model, specification, device, chunks_in_flight)
    start_s = time.time() - asked_s
    # The first call also starts the process that decodes.
    decode_guarded(songs.slice(0, 1), decode_rows)
    encode_s: list[float] = []
    decode_s: list[float] = []
    chunks: list[np.ndarray] = []
    for i in range(len(songs)):
        took_s, decoded = timed(decode_guarded, songs.slice(i, 1), decode_rows)
        row = decoded.to_pylist()[0]
        reason = row["error"]
        if reason is None:
            # A minute of audio tells as much as an hour.
            tried = decoded_chunks(row)[: round(60 / CHUNK_S)]
            decode_s.append(took_s / row["duration_s"])
            took_s, codes = timed(encode_song, worker.model, tried)
            encode_s.append(took_s / (sum(codes.frames) / worker.model.frame_rate_hz))
            chunks += codes.chunks
    if not chunks:
        raise ManifestError(f"none of {len(songs)} songs that were tried has audio, such as: {reason}")
    batch = [chunks[i % len(chunks)] for i in range(chunks_in_flight)]
    song = SongCodes(tuple(batch), tuple(CHUNK_S * i for i in range(chunks_in_flight)))
    batch_s: list[float] = []
    end_s = time.monotonic() + batches_s
    while len(batch_s) < _MIN_BATCHES or time.monotonic() < end_s:
        batch_s.append(timed(worker.fingerprinter, song)[0])
    gpu_bytes = None
    if device == "cuda":
        gpu_bytes = torch.cuda.memory_allocated() + predicted_peak(worker.model, worker.specification, chunks_in_flight)
    return Measurement(
        start_s=start_s,
        batch_s=tuple(batch_s),
        encode_s=tuple(encode_s),
        decode_s=tuple(decode_s),
        process_bytes=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        gpu_bytes=gpu_bytes,
    )


def spread_of(values: Sequence[float]) -> float:
    """Relative error of a measurement: half of what lies between its 10th and 90th percentile, and 0.1 at least."""
    low, middle, high = np.percentile(values, [10, 50, 90])
    return max(_MIN_SPREAD, float((high - low) / 2 / middle))


def span_text(span: Span) -> str:
    """A predicted time for people."""
    return f"{_time(span.expected)} ({_time(span.low)} to {_time(span.high)})"


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"
