"""Reports that may be added up: of one model, one specification, one policy, and one catalog."""

from typing import Any

from lumina_ray.calibration import CALIBRATION_FILE, read_calibration
from lumina_ray.errors import StatementError, UsageError
from lumina_ray.index.files import versions
from lumina_ray.index.record import read_record
from lumina_ray.statement.lines import Clip, SnapshotName
from lumina_ray.storage import AnyPath, Location, locate
from lumina_ray.vocabulary import counted

_SETTINGS = {
    "report_format": "format version",
    "weights_sha256": "model (hash of its weights)",
    "specification_sha256": "specification",
    "policy": "policy",
    "ridge": "λ of the kernel regression",
    "top_k": "number of songs judged (top_k)",
}
_SNAPSHOT = {"index_key": "catalog (index key)", "calibration_sha256": "calibration"}


class Lineage:
    """Compares each report with the first one.

    Without an index, all reports must be of one state of the catalog and one calibration of it. With one, they may be
    of several snapshots of it: those that lie in its folder, which must all be of one living catalog.
    """

    def __init__(self, index: AnyPath | None = None) -> None:
        """
        Raises:
            UsageError: no folder with snapshots.
            StoreError: a snapshot is damaged.
            StatementError: the snapshots are of no living catalog, or of several.
        """
        self.catalog: str | None = None
        self._known: dict[SnapshotName, bool] | None = None
        self._index = index
        if index is not None:
            self.catalog, known = _snapshots(locate(index))
            self._known = dict.fromkeys(known, True)
        self._first: tuple[str, Clip] | None = None

    def check(self, clip: Clip, name: str) -> None:
        """Check that a report, which errors call `name`, may be added to those before.

        Raises:
            StatementError: it may not; names both reports, and what differs.
        """
        if self._known is not None and clip.snapshot not in self._known:
            raise StatementError(
                f"{name}: was made from snapshot {clip.snapshot.index_version}, key {clip.snapshot.index_key}, which "
                f"is not in {self._index}; leave it out, or make a statement of its own"
            )
        if self._first is None:
            self._first = name, clip
            return
        first_name, first = self._first
        _compare(first.settings, clip.settings, _SETTINGS, first_name, name)
        if self._known is None:
            _compare(first.snapshot, clip.snapshot, _SNAPSHOT, first_name, name)
        if [channel for channel, _ in first.channels] != [channel for channel, _ in clip.channels]:
            raise StatementError(_two(first_name, name, "channels", *(list(dict(c.channels)) for c in (first, clip))))


def _compare(first: Any, other: Any, fields: dict[str, str], first_name: str, name: str) -> None:
    if first == other:
        return
    for field, label in fields.items():
        if (one := getattr(first, field)) != (two := getattr(other, field)):
            raise StatementError(_two(first_name, name, label, one, two))


def _two(first_name: str, name: str, label: str, one: object, two: object) -> str:
    advice = "; --index INDEX allows several snapshots of one living catalog" if label in _SNAPSHOT.values() else ""
    return (
        f"{first_name} and {name} cannot be added up: their {label} differs, {one} and {two}; make a statement of each"
        f"{advice}"
    )


def _snapshots(index: Location) -> tuple[str, list[SnapshotName]]:
    found = versions(index) if index.is_dir() else []
    if not found:
        raise UsageError(f"{index}: is no index folder, which holds snapshots such as v0001; check the path")
    catalogs: dict[str | None, str] = {}
    names = []
    for _, folder in found:
        record = read_record(folder)
        catalogs.setdefault(record.catalog, folder.name)
        names.append(SnapshotName(folder.name, record.key, read_calibration(folder / CALIBRATION_FILE).sha256))
    (catalog, *others) = catalogs
    if catalog is None or others:
        raise StatementError(
            f"{index}: its {counted(len(found), 'snapshot')} are not all of one living catalog "
            f"({', '.join(catalogs.values())}), so nothing shows that their songs belong together; make a statement of "
            "the reports of each snapshot, without --index"
        )
    return catalog, names
