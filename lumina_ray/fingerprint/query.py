"""Turns audio that is to be attributed into a query fingerprint: everything that attribution needs to know of it."""

import platform
from importlib.metadata import version

import torch

import lumina_ray
from lumina_ray.audio import ChunkedAudio
from lumina_ray.evidence.kept import asking, describe
from lumina_ray.fingerprint.codes import encode_song
from lumina_ray.fingerprint.fingerprint import Fingerprinter
from lumina_ray.model.interface import AttributableModel
from lumina_ray.vocabulary import ChannelQuery, QueryFingerprint


def fingerprint_query(fingerprinter: Fingerprinter, audio: ChunkedAudio) -> QueryFingerprint:
    """Fingerprint audio as a whole and stretch by stretch: its chunks, or their halves where there are few.

    The evidence of what it shares with songs is of half of its chunks, six at most.
    """
    model = fingerprinter.model
    codes = encode_song(model, audio.chunks)
    fingerprint = fingerprinter(codes, per_chunk=True)
    return QueryFingerprint(
        audio_sha256=audio.sha256,
        codes_sha256=codes.sha256,
        duration_s=audio.duration_s,
        specification_sha256=fingerprinter.specification.sha256,
        weights_sha256=model.weights_sha256,
        channels={c: ChannelQuery(fingerprint.vectors[c], fingerprint.chunk_vectors[c]) for c in fingerprint.vectors},
        chunk_starts_s=tuple(codes.starts_s[of.chunk] + of.start / model.frame_rate_hz for of in fingerprint.stretches),
        chunk_durations_s=tuple((of.stop - of.start) / model.frame_rate_hz for of in fingerprint.stretches),
        chunk_weights=fingerprint.stretch_weights,
        environment=describe_environment(model, fingerprinter.chunks_in_flight),
        audio_stream=audio.stream,
        evidence=describe([audio.chunks[i].samples for i in asking(len(audio.chunks))]),
    )


def describe_environment(model: AttributableModel, chunks_in_flight: int = 1) -> dict[str, str]:
    """Adapter, device, versions and batch: everything besides codes, weights and specification that sets last bits.

    An equal environment repeats a vector bit for bit.
    """
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
