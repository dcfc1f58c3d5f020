"""Verify a report: compute it again from its audio and its snapshot, and compare every value."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lumina_ray.attribution import Report, attribute
from lumina_ray.calibration import CALIBRATION_FILE, read_calibration
from lumina_ray.errors import ReportMismatch
from lumina_ray.index import Snapshot, load_snapshot, newest_snapshot
from lumina_ray.index.files import MANIFEST_FILE, versions
from lumina_ray.index.record import read_record
from lumina_ray.report.json import report_sha256
from lumina_ray.report.words import shorten
from lumina_ray.storage import AnyPath, Location, locate
from lumina_ray.vocabulary import QueryFingerprint

# Largest difference of numbers that another device or library computed: absolute, or relative to the larger one.
TOLERANCE = 1e-3
_ENVIRONMENT = ("/basis/environment", "/basis/software")
_SHOWN = 100


@dataclass(frozen=True)
class Difference:
    """One place of a report: where (a JSON pointer, RFC 6901), what the report has there, and what was computed."""

    path: str
    report: Any
    recomputed: Any

    @property
    def sentence(self) -> str:
        return f"{self.path} is {_shown(self.report)} in the report, {_shown(self.recomputed)} computed again"


@dataclass(frozen=True)
class Verification:
    """The result of computing a report again.

    Attributes:
        result: "identical": every byte is the same. "close": computed in another environment, of which nobody
            promises the same bits, and the same within `TOLERANCE`. "different": neither.
        report_sha256: of the report that was verified.
        difference: the first one that made it "different": of the query, which all else follows from, and then in the
            order of the report's JSON.
        environment: in what the environments differ.
        withdrawn_since: songs that were withdrawn after the report was made, and for once were searched again.
    """

    result: Literal["identical", "close", "different"]
    report_sha256: str
    difference: Difference | None
    environment: tuple[Difference, ...]
    withdrawn_since: int

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def sentence(self) -> str:
        if self.difference is None and not self.environment:
            told = f"identical: every byte of report {self.report_sha256} was computed again."
        elif self.difference is None:
            told = f"close, and not identical: numbers agree to {TOLERANCE:g}."
        else:
            told = f"different: {self.difference.sentence}."
            if self.environment:
                told += " That proves no change: only the report's environment can tell."
        for difference in self.environment:
            told += f"\nAnother environment, in which bits are not promised: {difference.sentence}."
        if self.withdrawn_since:
            told += f"\nSongs that were withdrawn since, and were searched again for this: {self.withdrawn_since}."
        return told


def verify_report(
    report: Report, audio: AnyPath, index: AnyPath, *, model: str | None = None, device: str = "cpu"
) -> Verification:
    """Compute a report again.

    Args:
        index: the index folder, or the snapshot itself, that the report names.
        model: the model that made the index, where it does not lie where it lay then.

    Raises:
        ReportMismatch: the audio is another file, that snapshot is not there, or the report is about a part of it.
        AudioError: the file cannot be used.
        UsageError: `audio` or `index` is no path.
        StoreError: a damaged snapshot, or one of another software version.
        ModelError: the index's model is not at hand.
        SpecificationMismatch: `model` is another one.
    """
    # Here, as torch comes with them, and an endpoint verifies with fingerprints that it has.
    from lumina_ray.attribution.fingerprinter import open_fingerprinter
    from lumina_ray.audio import load_chunks
    from lumina_ray.fingerprint import fingerprint_query

    audio = locate(audio)
    decoded = load_chunks(audio)
    if decoded.sha256 != report.query.audio_sha256:
        raise ReportMismatch(
            f"{audio}: has sha256 {decoded.sha256}, the report is about {report.query.audio_sha256}: another file, or "
            "another encoding of it"
        )
    snapshot = load_snapshot(reported_folder(locate(index), report))
    query = fingerprint_query(open_fingerprinter(snapshot, model, device), decoded)
    return verify_query(report, query, snapshot)


def verify_query(report: Report, query: QueryFingerprint, snapshot: Snapshot) -> Verification:
    """Compute a report again from its audio, fingerprinted once more, and the snapshot that it names.

    Raises:
        ReportMismatch: the report is about a part of the catalog.
        SpecificationMismatch: the fingerprint was made with another model.
        UsageError: it asks for fewer than one candidate.
    """
    if report.unsearched:
        raise ReportMismatch(
            "the report is about a part of the catalog, as the rest did not answer (see `unsearched`), and cannot be "
            "computed again: ask for one about all of it"
        )
    then = as_searched(snapshot, report)
    if report.shared is None:
        # It was made of a fingerprint without audio.
        query = replace(query, evidence=None)
    recomputed = attribute(query, then, report.policy.name, report.policy.top_k, report.policy.candidates)
    return compare(report, recomputed, then.n_present - snapshot.n_present)


def reported_folder(index: Location, report: Report) -> Path:
    """The snapshot that a report names, by its folder; nothing that is as large as the catalog is read.

    Raises:
        ReportMismatch: it is not there, or another one has its name.
        StoreError: it is damaged.
    """
    named = report.basis
    folder: Location | None = index
    if not (index / MANIFEST_FILE).is_file():
        # The report is somebody else's: what it calls the snapshot is looked up among names, and never made a path.
        held = {path.name: path for _, path in versions(index)} if index.is_dir() else {}
        folder = held.get(named.index_version)
    if folder is None:
        raise ReportMismatch(
            f"{index}: does not hold snapshot {named.index_version}, which the report was made from; is it another "
            "index, or was the snapshot deleted?"
        )
    here = newest_snapshot(folder)
    found = (here.resolve().name, read_record(here).key, read_calibration(here / CALIBRATION_FILE).sha256)
    if found != (named.index_version, named.index_key, named.calibration_sha256):
        raise ReportMismatch(
            f"snapshot {found[0]}, key {found[1]}, calibration {found[2]}, is not what the report was made from: "
            f"{named.index_version}, key {named.index_key}, calibration {named.calibration_sha256}"
        )
    return here


def as_searched(snapshot: Snapshot, report: Report) -> Snapshot:
    """The snapshot as it was when the report was made: songs withdrawn since are searched again."""
    searched = min(channel.searched for channel in report.near_copies.values())
    then = snapshot.withdrawals.when(len(snapshot) - searched)
    # Never so many: then the report is wrong, and the comparison shows where.
    return snapshot if then is None else snapshot.withdrawn_as(then)


def compare(report: Report, recomputed: Report, withdrawn_since: int = 0) -> Verification:
    """Compare two reports: bit for bit if their environments are equal, and within `TOLERANCE` if they are not."""
    found = list(differences(report.model_dump(mode="json"), recomputed.model_dump(mode="json")))
    environment = tuple(d for d in found if d.path.startswith(_ENVIRONMENT))
    rest = [d for d in found if d not in environment and not (environment and _close(d))]
    rest.sort(key=lambda d: not d.path.startswith("/query/"))
    result: Literal["identical", "close", "different"] = "close" if environment else "identical"
    return Verification(
        result="different" if rest else result,
        report_sha256=report_sha256(report),
        difference=rest[0] if rest else None,
        environment=environment,
        withdrawn_since=withdrawn_since,
    )


def differences(report: Any, recomputed: Any, path: str = "") -> Iterator[Difference]:
    """Where two JSON values differ, in its order; none exactly where their canonical JSON is equal."""
    if isinstance(report, dict) and isinstance(recomputed, dict):
        for key in sorted(report.keys() & recomputed.keys()):
            yield from differences(report[key], recomputed[key], f"{path}/{key.replace('~', '~0').replace('/', '~1')}")
        if report.keys() != recomputed.keys():
            yield Difference(path, sorted(report), sorted(recomputed))
    elif isinstance(report, list) and isinstance(recomputed, list):
        for i, (left, right) in enumerate(zip(report, recomputed, strict=False)):
            yield from differences(left, right, f"{path}/{i}")
        if len(report) != len(recomputed):
            yield Difference(path, f"a list of {len(report)}", f"a list of {len(recomputed)}")
    elif json.dumps(report, sort_keys=True) != json.dumps(recomputed, sort_keys=True):
        # Not `!=`: True is 1, and 0.0 is −0.0, in Python but not in the file.
        yield Difference(path, report, recomputed)


def _close(difference: Difference) -> bool:
    match difference.report, difference.recomputed:
        case float(a), float(b):
            return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return False


def _shown(value: Any) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), _SHOWN)
