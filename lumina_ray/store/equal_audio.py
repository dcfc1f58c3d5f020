"""Songs of a store or catalog that are one recording under several ids, as where catalogs were merged."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lumina_ray.storage import AnyPath, locate
from lumina_ray.store.data_files import committed_rows
from lumina_ray.store.segments import current_segments

_LISTED = 20
_NAMED = 3


@dataclass(frozen=True)
class EqualAudio:
    """Recordings that have several ids.

    Attributes:
        recordings: how many there are.
        songs: how many ids these have together.
        groups: the ids of the first of them, sorted.
    """

    recordings: int
    songs: int
    groups: tuple[tuple[str, ...], ...]

    @property
    def sentence(self) -> str:
        """For people; empty where every song is a recording of its own."""
        if not self.recordings:
            return ""
        shown = ", ".join(" = ".join(group[:_NAMED]) + " = …" * (len(group) > _NAMED) for group in self.groups[:_NAMED])
        more = ", …" if self.recordings > _NAMED else ""
        recordings = "recording" if self.recordings == 1 else "recordings"
        return f"{self.songs} songs are only {self.recordings} {recordings}, each under several ids: {shown}{more}"


def equal_audio(path: AnyPath) -> EqualAudio:
    """Find the songs that have the same codes as another, in a store, finished or not, or in a living catalog.

    Raises:
        StoreError: a generation of the catalog is damaged.
        StorageError: a data file is there and cannot be read.
    """
    segments, _ = current_segments(locate(path))
    columns = ["status", "song_id", "codes_sha256"]
    rows = pa.concat_tables(segment.present(committed_rows(segment.folder, columns)) for segment in segments)
    rows = songs_of_equal_audio(rows.filter(pc.equal(rows["status"], "ok")))
    ids: dict[str, list[str]] = {}
    for song in rows.select(["codes_sha256", "song_id"]).to_pylist():
        ids.setdefault(song["codes_sha256"], []).append(song["song_id"])
    groups = sorted(tuple(sorted(group)) for group in ids.values())
    return EqualAudio(len(groups), len(rows), tuple(groups[:_LISTED]))


def songs_of_equal_audio(songs: pa.Table) -> pa.Table:
    """The rows whose `codes_sha256` another row has, too, in their order."""
    # Songs without codes have none in common.
    songs = songs.filter(pc.is_valid(songs["codes_sha256"]))
    counts = pc.value_counts(songs["codes_sha256"])
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    return songs.filter(pc.is_in(songs["codes_sha256"], value_set=repeated))
