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


def predicted_peak(
    model: MusicModel, specification: Specification, chunks_in_flight: int, *, long_songs: bool = True
) -> int:
    """Most bytes that fingerprinting needs at once besides the model itself, reading of audio and codec aside.

    Args:
        long_songs: whether there are songs with more chunks than are in flight, whose gradient so far is kept.
    """
    fingerprinter = Fingerprinter(model, specification, chunks_in_flight)

    def run() -> None:
        # What the first batch leaves behind, such as remembered hashes, is there in every later one.
        fingerprinter.process_fillings()
        fingerprinter.process_fillings(of_long_song=long_songs)

    return predicted_peak_bytes(run)


def keeps_bits(fingerprinter: Fingerprinter) -> bool:
    """Whether songs have the same bits alone as among others: short ones, and one that needs several batches."""
    rng = np.random.default_rng(0)
    shape = (fingerprinter.model.n_codebooks, 500)
    songs = []
    for n in (1, 2, fingerprinter.chunks_in_flight + 1, 1):
        chunks = tuple(rng.integers(0, fingerprinter.model.codebook_size, shape).astype(np.uint16) for _ in range(n))
        songs.append(SongCodes(chunks, tuple(10.0 * i for i in range(n))))
    return all(
        np.array_equal(vector, together.vectors[channel])
        for codes, together in zip(songs, fingerprinter.many(songs), strict=True)
        for channel, vector in fingerprinter(codes).vectors.items()
    )
