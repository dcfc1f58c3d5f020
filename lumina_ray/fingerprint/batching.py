"""How many chunks go through the model at once: as many as memory allows, where that changes no bit of a vector."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from lumina_ray.audio import CHUNK_S
from lumina_ray.fingerprint.fingerprint import Fingerprint, Fingerprinter
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients.memory import chunks_that_fit, predicted_peak_bytes
from lumina_ray.model.interface import AttributableModel
from lumina_ray.vocabulary import Representation, SongCodes


def choose_chunks_in_flight(model: AttributableModel, specification: Specification) -> int:
    """The number of chunks per batch for a model on its device.

    It is 1 on a CPU, because one chunk keeps a CPU busy. It is also 1 on a device where a chunk's position or
    neighbours in a batch change its bits.
    """
    if model.device.type != "cuda":
        return 1
    # What it opens, such as a companion, takes memory from here on.
    Fingerprinter(model, specification)
    free_bytes, _ = torch.cuda.mem_get_info(model.device)
    chunks = chunks_that_fit(lambda n: predicted_peak(model, specification, n), free_bytes)
    return chunks if keeps_bits(Fingerprinter(model, specification, chunks)) else 1


def predicted_peak(
    model: AttributableModel, specification: Specification, chunks_in_flight: int, *, long_songs: bool = True
) -> int:
    """Predict the most bytes that fingerprinting holds at once, without running it.

    The model itself, decoding of audio and the codec are not counted.

    Args:
        long_songs: whether some songs have more chunks than are in flight; the gradient of such a song is kept between
            batches.
    """
    fingerprinter = Fingerprinter(model, specification, chunks_in_flight)

    def run() -> None:
        # The first batch leaves things behind, such as remembered hashes, that take memory in every later batch.
        fingerprinter.process_fillings()
        fingerprinter.process_fillings(of_long_song=long_songs)

    return predicted_peak_bytes(run)


def keeps_bits(fingerprinter: Fingerprinter) -> bool:
    """Whether songs get the same bits alone as with others: short songs, and one that needs several batches."""
    songs = _random_songs(fingerprinter.model, (1, 2, fingerprinter.chunks_in_flight + 1, 1))
    return all(
        _same_bits(together, fingerprinter(codes))
        for codes, together in zip(songs, fingerprinter.many(songs), strict=True)
    )


class SmallerBatches:
    """Finds a smaller batch to continue with when a GPU has no memory left for the batch that a run began with.

    Only a batch that makes the same bits will do, because the run's record says which batch made its vectors. The check
    uses songs whose vectors were made while there was memory: a short song, a song that fits into the first batch only,
    and a long song.
    """

    def __init__(self, fingerprinter: Fingerprinter) -> None:
        n = fingerprinter.chunks_in_flight
        self._songs = _random_songs(fingerprinter.model, (1, n // 2 + 1, n + 1)) if n > 1 else []
        self._expected = list(fingerprinter.many(self._songs))

    def below(self, fingerprinter: Fingerprinter) -> Fingerprinter | None:
        """A fingerprinter with half the chunks in flight, or with fewer where half is still too many.

        Returns:
            None where no smaller batch makes the same bits.
        """
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


def _random_songs(model: AttributableModel, n_chunks: Sequence[int]) -> list[SongCodes]:
    rng = np.random.default_rng(0)
    n_frames = math.ceil(CHUNK_S * model.frame_rate_hz)
    return [
        SongCodes(
            tuple(random_chunk(model.representation, n_frames, rng) for _ in range(n)),
            tuple(CHUNK_S * i for i in range(n)),
        )
        for n in n_chunks
    ]


def random_chunk(representation: Representation, n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Codes, each as likely as any other, or normally distributed latents, `[K, n_frames]`, as stores hold them."""
    shape = (representation.rows, n_frames)
    if representation.name == "codes":
        return rng.integers(0, representation.size, shape).astype(np.uint16)
    return rng.standard_normal(shape, np.float32).astype(np.float16)


def _same_bits(one: Fingerprint, other: Fingerprint) -> bool:
    return all(np.array_equal(vector, other.vectors[channel]) for channel, vector in one.vectors.items())
