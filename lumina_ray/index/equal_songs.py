"""Songs of a snapshot that are one recording under several ids, wherever a search ranks them.

`equal_songs.parquet` lists those of the whole catalog. Each process reads all of it, also one that holds a part of the
index or none: equal audio may lie in another part.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumina_ray.index.withdrawn import Withdrawals


@dataclass(frozen=True)
class EqualSongs:
    """The songs of a catalog whose audio another song of it has, too.

    Attributes:
        songs: a row for each, with the manifest's facts; sorted by id, as those of the snapshot are.
        withdrawals: which of these rows are withdrawn now.
    """

    songs: pa.Table
    withdrawals: Withdrawals

    def present(self, codes_sha256: Sequence[str]) -> pa.Table:
        """The rows of `songs` that have one of these codes and are not withdrawn, in their order.

        Raises:
            StoreError: the list of withdrawn songs cannot be read.
        """
        if not len(self.songs):
            return self.songs
        column = self.songs["codes_sha256"]
        rows = np.flatnonzero(pc.is_in(column, value_set=pa.array(codes_sha256, column.type)))
        return self.songs.take(np.setdiff1d(rows, self.withdrawals.rows()))
