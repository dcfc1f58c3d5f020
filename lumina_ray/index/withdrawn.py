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

from lumina_ray.catalog.files import atomic_path
from lumina_ray.errors import StoreError

WITHDRAWN_FILE = "withdrawn.json"
_LOCK_FILE = "indexes.lock"


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

    def when(self, n_rows: int) -> "Withdrawals | None":
        """As it was when so many rows were withdrawn; None where there never were.

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
        StoreError: the index follows another catalog.
        StoreBusy: as `withdraw_removed`.
    """
    from lumina_ray.store.generations import identity, register_index
    from lumina_ray.store.lock import in_turn

    me = identity(catalog)
    if _followed(index) not in (None, me):
        raise StoreError(f"{index} is the index of another living catalog than {catalog}: choose another --out")
    with in_turn(catalog / _LOCK_FILE):
        register_index(catalog, index)
        _tell(catalog)
    return me


def _tell(catalog: Path) -> tuple[list[Path], list[Path]]:
    from lumina_ray.store.generations import identity, indexes, removals

    me = identity(catalog)
    # Read where nobody else writes: what is written later knows at least as much.
    text = json.dumps({"catalog": me, "songs": removals(catalog)})
    told, missing = [], []
    for index in indexes(catalog):
        if not index.is_dir() or _followed(index) not in (None, me):
            missing.append(index)
            continue
        with atomic_path(index / WITHDRAWN_FILE) as temporary:
            temporary.write_text(text, encoding="utf-8")
        told.append(index)
    return told, missing


def _followed(index: Path) -> str | None:
    """The catalog whose removals an index was told last; None where nobody knows, as when its list is damaged."""
    try:
        return json.loads((index / WITHDRAWN_FILE).read_text(encoding="utf-8"))["catalog"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
