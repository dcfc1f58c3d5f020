"""How many chunks go through the model at once: what memory allows, where it changes no bit."""

import numpy as np
import torch

from lumina_ray.fingerprint.codes import SongCodes
from lumina_ray.fingerprint.fingerprint import Fingerprinter
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients.memory import chunks_that_fit, predicted_peak_bytes
from lumina_ray.model.interface import MusicModel


def choose_chunks_in_flight(model: MusicModel, specification: Specification) -> int:
    """The batch for a model on its device; 1 on a CPU, which one chunk keeps busy.

    A device on which a chunk's place or neighbours change its bits gets 1 as well.
    """
    if model.device.type != "cuda":
        return 1
    free_bytes, _ = torch.cuda.mem_get_info(model.device)
    chunks = chunks_that_fit(lambda n: predicted_peak(model, specification, n), free_bytes)
    return chunks if keeps_bits(Fingerprinter(model, specification, chunks)) else 1


def predicted_peak(model: MusicModel, specification: Specification, chunks_in_flight: int) -> int:
    """Most bytes that a batch needs at once besides the model itself."""
    fingerprinter = Fingerprinter(model, specification, chunks_in_flight)
    return predicted_peak_bytes(fingerprinter.capture_fillings)


def keeps_bits(fingerprinter: Fingerprinter) -> bool:
    """Whether a song has the same bits first and alone as last and among others."""
    rng = np.random.default_rng(0)
    shape = (fingerprinter.model.n_codebooks, 500)
    songs = [
        SongCodes((rng.integers(0, fingerprinter.model.codebook_size, shape).astype(np.uint16),), (0.0,))
        for _ in range(fingerprinter.chunks_in_flight)
    ]
    alone, last = fingerprinter(songs[-1]), list(fingerprinter.many(songs))[-1]
    return all(np.array_equal(vector, last.vectors[channel]) for channel, vector in alone.vectors.items())
