"""Which kind of FAISS index a catalog gets.

The rule, for a channel of n songs with d numbers each and the memory that a searching host has for it:

1. `Flat`, which is exact, while all vectors are at most 64 MiB: going through them takes 5 ms or so, no more than the
   lists of a million songs.
2. Else `IVFx,SQ8` if it fits: a quarter of the vectors' size. Its candidates are scored again from exact vectors on
   disk, so finer codes (`IVFx,SQfp16`, `IVFx,Flat`) would cost memory and change no answer.
3. Else `IVFx,PQy`: one byte for every four numbers, a sixteenth of the vectors' size, for more candidates to score.

x, the number of lists, is the power of two next to 2√n: with fewer, a query reads more of the catalog; with more,
training and adding take longer, for both compare each vector with each list. What still does not fit is split into
shards (`lumina_ray.index.pieces.n_shards`), for any kind.

`HNSW` is never chosen: its links come on top of the vectors, and it can be neither built in parts nor merged. Whoever
has the memory and the time asks for it by name (`HNSW32`), as for anything else that FAISS's index factory makes.
"""

import math
import os

FLAT = "Flat"
_FLAT_BYTES = 64 << 20
_NUMBER_BYTES, _ID_BYTES = 4, 8
_NUMBERS_PER_PQ_BYTE = 4
# A hot swap holds two indexes, and the system keeps exact vectors in the rest of the memory.
_SHARE_OF_MEMORY = 0.35


def choose_kind(n: int, d: int, memory_bytes: float) -> str:
    """The FAISS factory string for n vectors of d numbers in so much memory; see the rule above."""
    if n * d * _NUMBER_BYTES <= min(_FLAT_BYTES, memory_bytes):
        return FLAT
    n_lists = 2 ** round(math.log2(2 * math.sqrt(n)))
    n_codes = max(m for m in range(1, max(d // _NUMBERS_PER_PQ_BYTE, 1) + 1) if d % m == 0)
    fits = n * (d + _ID_BYTES) + n_lists * d * _NUMBER_BYTES <= memory_bytes
    return f"IVF{n_lists},SQ8" if fits else f"IVF{n_lists},PQ{n_codes}"


def default_memory_bytes() -> float:
    """Memory that the indexes of a snapshot may take on a host like this one, in bytes: 0.35 of all memory."""
    return _SHARE_OF_MEMORY * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
