"""A model's catalog → the statistics of music that its `influence` fingerprints are made with."""

from collections.abc import Callable, Iterable

import numpy as np

from lumina_ray.fingerprint.codes import SongCodes
from lumina_ray.fingerprint.fingerprint import Fingerprinter
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.model.interface import MusicModel
from lumina_ray.model.statistics import MusicStatistics, code_frequencies, shared_directions

# Directions come from a sample of a larger catalog: as many songs as a fingerprint has numbers.
_MAX_SONGS = 4096


def catalog_statistics(
    model: MusicModel,
    songs: Callable[[], Iterable[SongCodes]],
    n_songs: int,
    progress: Callable[[int, int, str], None] | None = None,
) -> MusicStatistics:
    """Measure them, and leave the model with them.

    Args:
        songs: called twice, each time for the codes of all songs in one order.
        progress: called with the number of fingerprints done, the number of all, and an empty text.

    Raises:
        ModelError: no songs, or codes of another codec.
    """
    pieces = (np.concatenate(codes.chunks, axis=1) for codes in songs())
    model.statistics = MusicStatistics(code_frequencies(pieces, model.n_codebooks, model.codebook_size))
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "influence"))
    every = -(-n_songs // _MAX_SONGS)
    n_sampled = len(range(0, n_songs, every))
    vectors: dict[str, list[np.ndarray]] = {channel: [] for channel in fingerprinter.specification.channels}
    for number, codes in enumerate(songs()):
        if number % every == 0:
            for channel, vector_D in fingerprinter(codes).vectors.items():
                vectors[channel].append(vector_D)
            if progress:
                progress(number // every + 1, n_sampled, "")
    shared = {channel: shared_directions(np.stack(of_channel)) for channel, of_channel in vectors.items()}
    model.statistics = MusicStatistics(model.statistics.frequencies_KC, shared)
    return model.statistics
