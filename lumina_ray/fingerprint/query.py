"""Audio to be attributed → everything that attribution needs to know of it."""

import platform
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np
import torch

import lumina_ray
from lumina_ray.audio import Audio
from lumina_ray.fingerprint.codes import encode_song
from lumina_ray.fingerprint.fingerprint import Fingerprinter
from lumina_ray.fingerprint.specification import Channel
from lumina_ray.model.interface import MusicModel


@dataclass(frozen=True)
class ChannelQuery:
    """A query in one channel: unit vectors, float32, of the whole `[D]` and of each chunk `[n, D]`."""

    vector: np.ndarray
    chunk_vectors: np.ndarray


@dataclass(frozen=True)
class QueryFingerprint:
    """A fingerprinted query.

    Attributes:
        audio_sha256: of the encoded file as it was handed in.
        codes_sha256: of its codes, which the vectors follow from.
        chunk_starts_s, chunk_durations_s, chunk_weights: `n` each; weights add up to 1.
        environment: adapter, device and versions that made the numbers; the same environment repeats them bit for bit.
    """

    audio_sha256: str
    codes_sha256: str
    duration_s: float
    specification_sha256: str
    weights_sha256: str
    channels: dict[Channel, ChannelQuery]
    chunk_starts_s: tuple[float, ...]
    chunk_durations_s: tuple[float, ...]
    chunk_weights: tuple[float, ...]
    environment: dict[str, str]


def fingerprint_query(fingerprinter: Fingerprinter, audio: Audio, name: str) -> QueryFingerprint:
    """Fingerprint audio with per-chunk evidence.

    Raises:
        AudioError: too short, or silent throughout.
    """
    model = fingerprinter.model
    codes = encode_song(model, audio.samples, name)
    fingerprint = fingerprinter(codes, per_chunk=True)
    return QueryFingerprint(
        audio_sha256=audio.sha256,
        codes_sha256=codes.sha256,
        duration_s=audio.duration_s,
        specification_sha256=fingerprinter.specification.sha256,
        weights_sha256=model.weights_sha256,
        channels={c: ChannelQuery(fingerprint.vectors[c], fingerprint.chunk_vectors[c]) for c in fingerprint.vectors},
        chunk_starts_s=codes.starts_s,
        chunk_durations_s=tuple(frames / model.frame_rate_hz for frames in codes.frames),
        chunk_weights=tuple(fingerprint.chunk_weights.tolist()),
        environment=describe_environment(model, fingerprinter.chunks_in_flight),
    )


def describe_environment(model: MusicModel, chunks_in_flight: int = 1) -> dict[str, str]:
    """What the last bits of a vector depend on besides codes, weights and specification."""
    device = (
        torch.cuda.get_device_name(model.device)
        if model.device.type == "cuda"
        else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} thread"
    )
    return {
        "lumina_ray": lumina_ray.__version__,
        "adapter": model.adapter,
        "adapter_version": version(model.adapter),
        "torch": torch.__version__,
        "device": device,
        "chunks_in_flight": str(chunks_in_flight),
    }
