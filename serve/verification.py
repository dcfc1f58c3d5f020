"""Reports that are handed in: are they whole, whose are they, and do they come out the same?"""

import threading
from dataclasses import asdict
from pathlib import Path

from lumina_ray.answers import ReportVerification
from lumina_ray.attribution import Report
from lumina_ray.errors import ReportMismatch, SignatureError, SpecificationMismatch, StoreError, UsageError
from lumina_ray.index import Snapshot, load_snapshot
from lumina_ray.report.json import parse_report, report_sha256
from lumina_ray.report.sign import signer
from lumina_ray.report.verify import reported_folder, verify_query
from lumina_ray.vocabulary import QueryFingerprint
from serve.problems import Problem
from serve.schemas import MAX_TOP_K

# A snapshot that is loaded for one report may be as large as the one that answers.
_OTHER_VERSION = threading.Lock()


def verify(
    text: bytes, signature: bytes | None, query: QueryFingerprint | None, live: Snapshot, folder: Path
) -> ReportVerification:
    """Check a report, and compute it again where its audio is there.

    Args:
        text: the report's file.
        signature: its signature's file.
        query: the fingerprint of the audio; without it, nothing is computed again.
        live: the snapshot that answers, and `folder` where it lies, beside others.

    Raises:
        Problem: 422 no report, a signature that does not hold, another file, a snapshot that is not there; 429 another
            report on a snapshot that is not the live one is being verified.
    """
    report = _parsed(text)
    signed_by = _signed_by(report, signature)
    named = _named(report, folder)
    facts = {"report_sha256": report_sha256(report), "signed_by": signed_by, "index_version": named.name}
    if query is None:
        return ReportVerification(**facts)
    if query.audio_sha256 != report.query.audio_sha256:
        raise Problem(
            422,
            "report.mismatch",
            f"The audio has sha256 {query.audio_sha256}, and the report is about {report.query.audio_sha256}.",
        )
    try:
        if named == folder:
            found = verify_query(report, query, live)
        elif _OTHER_VERSION.acquire(blocking=False):
            try:
                found = verify_query(report, query, load_snapshot(named))
            finally:
                _OTHER_VERSION.release()
        else:
            raise Problem.retry_later(429, "server.busy", "Another report on an older index is being verified.")
    except SpecificationMismatch as error:
        raise Problem(
            422, "report.mismatch", f"{named.name} was made with another model or fingerprint than is served here."
        ) from error
    except (ReportMismatch, UsageError) as error:
        raise Problem(422, "report.mismatch", str(error)) from error
    except StoreError as error:
        raise _no_snapshot() from error
    return ReportVerification(**facts, **{k: v for k, v in asdict(found).items() if k != "report_sha256"})


def _parsed(text: bytes) -> Report:
    try:
        report = parse_report(text, "report")
    except UsageError as error:
        raise Problem(422, "report.invalid", str(error)) from error
    if max(report.policy.top_k, report.policy.candidates) > MAX_TOP_K:
        raise Problem(422, "report.invalid", f"report: asks for more than {MAX_TOP_K} candidates.")
    return report


def _signed_by(report: Report, signature: bytes | None) -> str | None:
    try:
        return None if signature is None else signer(report, signature, "signature")
    except SignatureError as error:
        raise Problem(422, "signature.invalid", str(error)) from error


def _named(report: Report, live: Path) -> Path:
    """The folder of the snapshot that a report names."""
    try:
        return reported_folder(live if live.name == report.basis.index_version else live.parent, report)
    except (ReportMismatch, StoreError) as error:
        raise _no_snapshot() from error


def _no_snapshot() -> Problem:
    # The errors behind it name folders.
    return Problem(
        422, "report.mismatch", "The snapshot that the report names is not here, or not the one that it was made from."
    )
