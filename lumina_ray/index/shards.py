"""A catalog in parts that are searched apart, as in processes that hold one each, and answered from together.

Each part gives what is nearest to a query in it. All of that is a small snapshot, to which the query is attributed as
to any other: what is nearest in the whole catalog is nearest among it. s songs selected, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from lumina_ray.calibration.membership import Membership
from lumina_ray.index import shared as shared_evidence
from lumina_ray.index.exact import FlatIndex, flat_index
from lumina_ray.index.shared import SharedVectors
from lumina_ray.index.snapshot import Snapshot, noise_in
from lumina_ray.index.withdrawn import Withdrawals
from lumina_ray.index.worth import Worth, add_up
from lumina_ray.vocabulary import Channel


@dataclass(frozen=True)
class Selected:
    """Songs of one part, in its order.

    Attributes:
        songs: as of `Snapshot`.
        vectors: channel → float32 `[s, D]`.
        membership: membership evidence of the songs, as in `Snapshot`.
        shared: their shared evidence, as in `Snapshot`.
        n_present: songs of the part that could have been found.
        worth: of all of these, as `Snapshot.worth` has it.
    """

    songs: pa.Table
    vectors: dict[Channel, np.ndarray]
    membership: Membership | None
    shared: SharedVectors | None
    n_present: int
    worth: Worth | None


@dataclass(frozen=True)
class Selection(Snapshot):
    """The songs that all parts selected.

    Attributes:
        searched: songs that could have been found.
        weighed: worth of all of these to the query; None where the index has no effects.
    """

    searched: int = 0
    weighed: Worth | None = None

    @property
    def n_present(self) -> int:
        return self.searched

    def worth(self, query: Mapping[Channel, np.ndarray]) -> Worth | None:
        return self.weighed


def select(part: Snapshot, query: Mapping[Channel, np.ndarray], k: int) -> Selected:
    """The songs of a part that are among its k nearest in any channel, and those that are worth most to the query.

    Args:
        query: channel → float32 `[D]`.

    Raises:
        As `Snapshot.search`.
    """
    worth = part.worth(query)
    nearest = [part.search(channel, vector[None], k)[1][0] for channel, vector in query.items()]
    # Reports list these, too, and say what they share with the clip.
    best = part.rows_of(song_id for song_id, _ in worth.best) if worth else {}
    rows = np.unique(np.concatenate([*nearest, np.array(list(best.values()), np.int64)]))
    membership = part.membership and replace(part.membership, songs=part.membership.songs.take(rows))
    shared = part.shared and part.shared.take(rows)
    vectors = {c: part.vectors(c, rows) for c in query}
    return Selected(part.songs.take(rows), vectors, membership, shared, part.n_present, worth)


def together(catalog: Snapshot, selected: Sequence[Selected]) -> Selection:
    """A small snapshot that answers a query as all parts would in one process.

    Of an approximate index, parts find what it finds as a whole, and sometimes more.

    Args:
        catalog: the snapshot that the parts are of, with whichever songs.
        selected: of each part for the same query, in the order of the parts.
    """
    songs = pa.concat_tables([part.songs for part in selected])
    evidence = [part.membership.songs for part in selected if part.membership]
    worth = [part.worth for part in selected if part.worth]
    vectors = {c: np.concatenate([part.vectors[c] for part in selected]) for c in selected[0].vectors}
    return Selection(
        version=catalog.version,
        record=catalog.record,
        songs=songs,
        calibration=catalog.calibration,
        noise={c: noise_in(songs, c) for c in vectors},
        centres=catalog.centres,
        references=catalog.references,
        indexes={c: FlatIndex(flat_index(vectors_sD)) for c, vectors_sD in vectors.items()},
        # The parts have left out what is withdrawn.
        withdrawals=Withdrawals(Path(), songs, generation=None),
        equal_songs=catalog.equal_songs,
        membership=catalog.membership and replace(catalog.membership, songs=pa.concat_tables(evidence)),
        effects=catalog.effects,
        shared=shared_evidence.together([part.shared for part in selected]),
        searched=sum(part.n_present for part in selected),
        weighed=add_up(worth) if worth else None,
    )
