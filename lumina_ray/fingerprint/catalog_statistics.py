"""A model's catalog → the statistics of music that its `influence` fingerprints are made with."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lumina_ray.fingerprint.codes import SongCodes
from lumina_ray.fingerprint.fingerprint import Fingerprinter
from lumina_ray.fingerprint.specification import Channel, Specification
from lumina_ray.model.interface import MusicModel
from lumina_ray.model.statistics import MusicStatistics, code_frequencies, shared_directions

# Directions come from a sample of a larger catalog: as many songs as a fingerprint has numbers.
_MAX_SONGS = 4096


def catalog_statistics(
    model: MusicModel,
    songs: Callable[[], Iterable[SongCodes]],
    places: Sequence[int],
    progress: Callable[[int, int, str], None] | None = None,
) -> MusicStatistics:
    """Measure them, and leave the model with them.

    Args:
        songs: called twice, each time for the codes of all songs in one order.
        places: of each of them in the catalog's own order, which the numbers are to depend on: 0 to N − 1.
        progress: called with the number of fingerprints done, the number of all, and an empty text.

    Raises:
        ModelError: no songs, or codes of another codec.
    """
    pieces = (np.concatenate(codes.chunks, axis=1) for codes in songs())
    model.statistics = MusicStatistics(code_frequencies(pieces, model.n_codebooks, model.codebook_size))
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "influence"))
    every = -(-len(places) // _MAX_SONGS)
    n_sampled = len(range(0, len(places), every))
    sampled: dict[int, Mapping[Channel, np.ndarray]] = {}
    for place, codes in zip(places, songs(), strict=True):
        if place % every == 0:
            sampled[place] = fingerprinter(codes).vectors
            if progress:
                progress(len(sampled), n_sampled, "")
    shared: dict[str, np.ndarray] = {
        channel: shared_directions(np.stack([sampled[place][channel] for place in sorted(sampled)]))
        for channel in fingerprinter.specification.channels
    }
    model.statistics = MusicStatistics(model.statistics.frequencies_KC, shared)
    return model.statistics
