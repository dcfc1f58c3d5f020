"""How many chunks go through the model at once: what memory allows, where it changes no bit."""

from collections.abc import Sequence

import numpy as np
import torch

from lumina_ray.fingerprint.codes import SongCodes
from lumina_ray.fingerprint.fingerprint import Fingerprint, Fingerprinter
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
    songs = _random_songs(fingerprinter.model, (1, 2, fingerprinter.chunks_in_flight + 1, 1))
    return all(
        _same_bits(together, fingerprinter(codes))
        for codes, together in zip(songs, fingerprinter.many(songs), strict=True)
    )


class SmallerBatches:
    """Finds the batch to go on with when a GPU has no memory left for the one that a run began with.

    Only one that makes the same bits: the run's record says which batch made its vectors. That is tried on songs whose
    vectors were made while there was memory: short ones, ones that fit into the first batch only, and a long one.
    """

    def __init__(self, fingerprinter: Fingerprinter) -> None:
        n = fingerprinter.chunks_in_flight
        self._songs = _random_songs(fingerprinter.model, (1, n // 2 + 1, n + 1)) if n > 1 else []
        self._expected = list(fingerprinter.many(self._songs))

    def below(self, fingerprinter: Fingerprinter) -> Fingerprinter | None:
        """One with half the chunks in flight, or fewer where that is still too many; None where there is none."""
        chunks_in_flight = fingerprinter.chunks_in_flight // 2
        while chunks_in_flight:
            smaller = Fingerprinter(fingerprinter.model, fingerprinter.specification, chunks_in_flight)
            try:
                made = list(smaller.many(self._songs))
            except torch.cuda.OutOfMemoryError:
                chunks_in_flight //= 2
                continue
            return smaller if all(map(_same_bits, made, self._expected)) else None
        return None


def _random_songs(model: MusicModel, n_chunks: Sequence[int]) -> list[SongCodes]:
    rng = np.random.default_rng(0)
    shape = (model.n_codebooks, 500)
    return [
        SongCodes(
            tuple(rng.integers(0, model.codebook_size, shape).astype(np.uint16) for _ in range(n)),
            tuple(10.0 * i for i in range(n)),
        )
        for n in n_chunks
    ]


def _same_bits(one: Fingerprint, other: Fingerprint) -> bool:
    return all(np.array_equal(vector, other.vectors[channel]) for channel, vector in one.vectors.items())
