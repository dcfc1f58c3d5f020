"""Measures a model's music statistics on its catalog; `influence` fingerprints are made with them."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from lumina_ray.fingerprint.fingerprint import Fingerprinter
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.model.interface import MusicModel
from lumina_ray.model.statistics import MusicStatistics, code_frequencies, shared_directions
from lumina_ray.vocabulary import Channel, SongCodes

# A larger catalog is sampled for its shared directions: as many songs as a fingerprint has numbers are enough.
_MAX_SONGS = 4096


def measure_music_statistics(
    model: MusicModel,
    songs: Callable[[], Iterable[SongCodes]],
    places: Sequence[int],
    progress: Callable[[int, int, str], None] | None = None,
) -> MusicStatistics:
    """Measure the music statistics of a catalog, and set them as `model.statistics`.

    Args:
        songs: returns the codes of all songs; it is called twice and must keep one order.
        places: the position of each of these songs in the catalog's own order, 0 to N − 1. The numbers depend on the
            catalog's order, and not on the order in which `songs` returns them.
        progress: called with the number of fingerprints that are done, the number of all, and an empty text.

    Returns:
        Frequencies of codes, float32 `[K, C]`, and shared directions, float32 `[D, r]` per channel.

    Raises:
        ModelError: there are no songs, or their codes are those of another codec.
    """
    pieces = (np.concatenate(codes.chunks, axis=1)[:, np.concatenate(codes.heard)] for codes in songs())
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
