"""Sums of the effects of songs on a clip, which parts of a catalog put together exactly: whole, best songs, parties.

Effects are counted in whole units of 2⁻⁴⁰ nats: such sums depend on no order, and on no way to part the songs.
N = songs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from lumina_ray.vocabulary import Channel

UNIT = 2.0**-40
"""Nats of a unit, and squared nats of a unit of squares."""
N_BEST = 20
"""Songs with the largest effects that are told one by one."""
Party = Literal["creator", "publisher", "master_owner"]
PARTIES: tuple[Party, ...] = ("creator", "publisher", "master_owner")


@dataclass(frozen=True)
class Tally:
    """Sums over a group of songs, in units.

    Attributes:
        channels: of the parts of the songs' effects that each channel tells.
        squares: of the squares of the songs' effects.
        payable: of the effects of songs whose use is not refuted.
        refuted: number of songs whose use is refuted.
    """

    n_songs: int
    channels: Mapping[Channel, int]
    squares: int
    payable: int
    refuted: int

    @property
    def effect(self) -> int:
        """All channels together."""
        return sum(self.channels.values())

    def __add__(self, other: "Tally") -> "Tally":
        channels = {c: units + other.channels[c] for c, units in self.channels.items()}
        return Tally(
            self.n_songs + other.n_songs,
            channels,
            self.squares + other.squares,
            self.payable + other.payable,
            self.refuted + other.refuted,
        )


@dataclass(frozen=True)
class Worth:
    """Effects of songs on a clip, added up.

    Attributes:
        whole: of all songs.
        best: the songs with the largest effects, each with its id; largest first, equal ones in the order of songs.
        parties: by what a party is to a song, and by name.
    """

    whole: Tally
    best: tuple[tuple[str, Tally], ...]
    parties: Mapping[Party, Mapping[str, Tally]]


def weigh(effects: Mapping[Channel, np.ndarray], songs: pa.Table, refuted_N: np.ndarray) -> Worth:
    """Add up the effects of songs.

    Args:
        effects: the parts of each song's effect, in nats, float64 `[N]`.
        songs: song_id and `PARTIES` of each.
        refuted_N: bool, songs whose use is refuted.
    """
    channels = {c: np.rint(part / UNIT).astype(np.int64) for c, part in effects.items()}
    total_N: np.ndarray = np.sum(list(channels.values()), axis=0)
    squares_N = np.rint((total_N * UNIT) ** 2 / UNIT).astype(np.int64)
    columns = [*channels.values(), squares_N, np.where(refuted_N, 0, total_N), refuted_N.astype(np.int64)]

    def tally(n_songs: int, sums: Sequence[int]) -> Tally:
        *of_channels, squares, payable, refuted = map(int, sums)
        return Tally(n_songs, dict(zip(channels, of_channels, strict=True)), squares, payable, refuted)

    ids = songs["song_id"]
    best = np.argsort(-total_N, kind="stable")[:N_BEST].tolist()
    parties: dict[Party, dict[str, Tally]] = {}
    for by in PARTIES:
        coded = songs[by].combine_chunks().dictionary_encode()
        codes_N = coded.indices.fill_null(len(coded.dictionary)).to_numpy()
        names = [*coded.dictionary.to_pylist(), None]
        # Whole numbers: `bincount` would add them up as floats.
        sums = [np.zeros(len(names), np.int64) for _ in (0, *columns)]
        for of_names, values_N in zip(sums, (np.ones_like(total_N), *columns), strict=True):
            np.add.at(of_names, codes_N, values_N)
        of_party = zip(names, *(of_names.tolist() for of_names in sums), strict=True)
        parties[by] = {name: tally(n, totals) for name, n, *totals in of_party if name}
    return Worth(
        tally(len(total_N), [column.sum() for column in columns]),
        tuple((ids[place].as_py(), tally(1, [column[place] for column in columns])) for place in best),
        parties,
    )


def add_up(parts: Iterable[Worth]) -> Worth:
    """Put parts of a catalog together, in their order: what `weigh` would say of all their songs."""
    first, *others = parts
    whole, best, parties = first.whole, list(first.best), {by: dict(of) for by, of in first.parties.items()}
    for part in others:
        whole += part.whole
        best += part.best
        for by, of in part.parties.items():
            for name, tally in of.items():
                parties[by][name] = parties[by][name] + tally if name in parties[by] else tally
    return Worth(whole, tuple(sorted(best, key=lambda song: -song[1].effect)[:N_BEST]), parties)
