"""Songs that are gone from search at once, though the snapshots that hold them never change.

`INDEX/withdrawn.json` lists what was taken out of the catalog, and in which generation; a snapshot of an earlier one
leaves those songs out of every answer. It is read again whenever it has changed, so that nothing needs a restart. It
names its catalog: generations of another one are other generations.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lumina_ray.errors import StorageError, StoreError
from lumina_ray.files import atomic_path

WITHDRAWN_FILE = "withdrawn.json"
_LOCK_FILE = "indexes.lock"

Removal = tuple[str, str | None, int]
"""Song id, `codes_sha256`, and the first generation without it."""


class Withdrawals:
    """Which rows of one snapshot are withdrawn now, or were at some generation of the catalog."""

    def __init__(
        self,
        index: Path,
        songs: pa.Table,
        generation: int | None,
        catalog: str | None = None,
        until: int | None = None,
    ) -> None:
        """
        Args:
            index: the index folder.
            songs: the snapshot's.
            generation: that it was built from, if any.
            catalog: that the generation is of, by its `identity`.
            until: the last generation that counts; None for all.
        """
        self._file = index / WITHDRAWN_FILE
        self._songs = songs
        self._generation = generation
        self._catalog = catalog
        self._until = until
        self._seen: tuple[int, int] | None = None
        self._rows = np.empty(0, np.int64)

    def rows(self) -> np.ndarray:
        """Int64, ascending.

        Raises:
            StoreError: the list is missing, damaged, or another catalog's. Answering without it could show what must
                not be shown.
        """
        if self._generation is None:
            return self._rows
        try:
            status = self._file.stat()
        except FileNotFoundError:
            raise StoreError(
                f"{self._file} is missing: without it nobody knows which songs were taken out since; search the "
                "snapshot where it was built, or build the index again"
            ) from None
        if (seen := (status.st_mtime_ns, status.st_size)) != self._seen:
            self._rows, self._seen = self._read(self._generation), seen
        return self._rows

    def of(self, songs: pa.Table) -> "Withdrawals":
        """Apply the list to other songs of the snapshot, or of the catalog that it is a part of."""
        return Withdrawals(self._file.parent, songs, self._generation, self._catalog, self._until)

    def when(self, n_rows: int) -> "Withdrawals | None":
        """The withdrawals at the time when `n_rows` were withdrawn; None if there was no such time.

        There is only one such set: a list that becomes longer at every generation holds all earlier ones.
        """
        if not len(self.rows()):
            return self if n_rows == 0 else None
        generations = {since for _, _, since in json.loads(self._file.read_text(encoding="utf-8"))["songs"]}
        for until in sorted(generations | {0}, reverse=True):
            then = Withdrawals(self._file.parent, self._songs, self._generation, self._catalog, until)
            if len(then.rows()) == n_rows:
                return then
        return None

    def _read(self, generation: int) -> np.ndarray:
        try:
            told = json.loads(self._file.read_text(encoding="utf-8"))
            listed, catalog = told["songs"], told.get("catalog")
            last = float("inf") if self._until is None else self._until
            gone = {(song, codes) for song, codes, since in listed if generation < since <= last}
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self._file} is damaged ({error}); any `lumina catalog remove` writes it again"
            ) from error
        if catalog != self._catalog:
            raise StoreError(f"{self._file} is of another catalog than the snapshot: build the index again elsewhere")
        ids = self._songs["song_id"]
        # Not the ids of the whole catalog as Python's strings: no other thread would run meanwhile.
        rows = np.flatnonzero(pc.is_in(ids, value_set=pa.array([song for song, _ in gone], ids.type))).astype(np.int64)
        found = self._songs.select(["song_id", "codes_sha256"]).take(rows).to_pylist()
        return rows[[(song["song_id"], song["codes_sha256"]) in gone for song in found]]


def withdraw_removed(catalog: Path) -> tuple[list[Path], list[Path]]:
    """Tell every index that was built from a living catalog what is no longer in it.

    Returns:
        The indexes that were told, and those that are not where they were, or are another catalog's now.

    Raises:
        StoreError: all were told, but some know of removals that this catalog does not: a copy, or an older state.
            As `StorageError`: some could not be told, all others were.
        StoreBusy: somebody else does nothing but that, for a minute.
    """
    # Imported here, as stores import torch, which searching does without.
    from lumina_ray.store.lock import in_turn

    with in_turn(catalog / _LOCK_FILE):
        return _tell(catalog)


def follow(catalog: Path, index: Path) -> str:
    """From now on, and for what is gone already, tell an index what is taken out of a living catalog.

    Returns:
        The catalog's `identity`.

    Raises:
        StoreError: the index follows another catalog; or as `withdraw_removed`.
        StoreBusy: as `withdraw_removed`.
    """
    from lumina_ray.store.built_indexes import register_index
    from lumina_ray.store.generations import identity
    from lumina_ray.store.lock import in_turn

    me = identity(catalog)
    if _last_told(index)[0] not in (None, me):
        raise StoreError(f"{index} is the index of another living catalog than {catalog}: choose another --out")
    with in_turn(catalog / _LOCK_FILE):
        register_index(catalog, index)
        _tell(catalog)
    return me


def _tell(catalog: Path) -> tuple[list[Path], list[Path]]:
    from lumina_ray.store.built_indexes import INDEXES_FILE, indexes
    from lumina_ray.store.changes import removals
    from lumina_ray.store.generations import identity

    me = identity(catalog)
    # Read where nobody else writes: what this catalog writes later knows at least as much.
    removed = removals(catalog)
    told, missing, unwritten, faults = [], [], False, []
    for index in indexes(catalog):
        try:
            followed, listed = _last_told(index) if index.is_dir() else ("", [])
            if followed not in (None, me):
                missing.append(index)
                continue
            # A list never becomes shorter: a copy of the catalog, or an older state of it, knows less than it does.
            unknown = _unknown(listed, removed)
            with atomic_path(index / WITHDRAWN_FILE) as temporary:
                temporary.write_text(json.dumps({"catalog": me, "songs": [*removed, *unknown]}), encoding="utf-8")
        except OSError as error:
            # The others are told all the same.
            unwritten = True
            faults.append(
                f"{index / WITHDRAWN_FILE} cannot be read or written ({error.strerror}): the index still finds what "
                f"was removed from {catalog} since it was told last. Mend that, or take the index out of "
                f"{catalog / INDEXES_FILE} if nobody uses it; the next `lumina catalog remove`, even of a song that is "
                "out already, or `lumina index` tells it"
            )
            continue
        told.append(index)
        if unknown:
            faults.append(
                f"{index} lists {len(unknown)} removed songs that {catalog} never removed, such as {unknown[0][0]}: "
                "one of the two knows a copy of the catalog, or an older state. They stay withdrawn there. If this is "
                f"a copy, take the index out of {catalog / INDEXES_FILE}; if not, remove those songs here, too, or, if "
                f"they shall be found, delete {index / WITHDRAWN_FILE} and run the same command again"
            )
    if faults:
        raise (StorageError if unwritten else StoreError)("; ".join(faults))
    return told, missing


def _last_told(index: Path) -> tuple[str | None, list[Removal]]:
    """The catalog whose removals an index was told last, and those; None where nobody knows, as of a damaged list."""
    try:
        told = json.loads((index / WITHDRAWN_FILE).read_text(encoding="utf-8"))
        return told["catalog"], [(song, codes, since) for song, codes, since in told["songs"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None, []


def _unknown(listed: list[Removal], removed: list[Removal]) -> list[Removal]:
    """Removals that an index was told of and the catalog does not know: told by it, the index would find them again."""
    latest: dict[tuple[str, str | None], int] = {}
    for song, codes, since in removed:
        latest[song, codes] = max(since, latest.get((song, codes), 0))
    return [(song, codes, since) for song, codes, since in listed if since > latest.get((song, codes), 0)]
