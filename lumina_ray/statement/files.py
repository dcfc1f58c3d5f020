"""The folder of a statement: the whole one, its tables, its evidence, and a statement for each rights-holder.

OUT/statement.json, statement.html     everything
   /lines.csv, songs.csv, *.parquet    the same as tables
   /evidence.parquet                   which reports each line rests on
   /holders/00001-NAME.json, .html     what names one rights-holder, and nobody else's lines
"""

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lumina_ray.errors import UsageError
from lumina_ray.files import atomic_path
from lumina_ray.report.sign import read_public_key, sign_bytes
from lumina_ray.statement.html import render_html
from lumina_ray.statement.json import to_json
from lumina_ray.statement.lineage import Lineage
from lumina_ray.statement.make import for_holder, holders, make_statement
from lumina_ray.statement.period import check_period
from lumina_ray.statement.reading import read_reports
from lumina_ray.statement.schema import Statement
from lumina_ray.statement.sources import STANDARD_INPUT, find_reports
from lumina_ray.statement.tables import EvidenceWriter, write_tables
from lumina_ray.statement.words import By
from lumina_ray.storage import AnyPath

STATEMENT_FILE = "statement.json"
HOLDERS_FOLDER = "holders"
# File systems take 255 bytes; a number and an ending come with it.
_NAME_BYTES = 100


@dataclass(frozen=True)
class Made:
    """A statement, and how many rights-holders have one of their own."""

    statement: Statement
    holders: int


def make_files(
    reports: Sequence[str],
    out: Path | None,
    by: By,
    period: str,
    *,
    index: AnyPath | None = None,
    public_key: Path | None = None,
    key: Path | None = None,
    workers: int = 1,
) -> Made:
    """Make a statement of reports, and write its folder.

    Args:
        reports: as `find_reports` takes them.
        out: the folder, which must not hold a statement; None writes nothing.
        index: an index folder; reports of its snapshots may then be added up.
        public_key: the key whose signature each report must have.
        key: the private key that signs the statements.
        workers: processes that read reports.

    Raises:
        UsageError: `out` holds a statement; a period, key or argument that is none; signatures asked for of reports
            that are no files.
        StatementError: as `make_statement`.
    """
    check_period(period)
    accepted = None
    if public_key is not None:
        if lines := [name for name in reports if name == STANDARD_INPUT or name.endswith((".ndjson", ".jsonl"))]:
            raise UsageError(
                f"{lines[0]}: holds reports on lines, which have no signatures beside them; with --public-key, give a "
                "file for each report"
            )
        accepted = read_public_key(public_key)
    if out is not None and (out / STATEMENT_FILE).exists():
        raise UsageError(f"{out}: holds a statement, and none is overwritten; choose another folder")
    reads = read_reports(find_reports(reports), workers, accepted)
    signed_by = accepted.hex() if accepted else None
    if out is None:
        return Made(make_statement(reads, by, period, Lineage(index), signed_by=signed_by), 0)
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        evidence = EvidenceWriter(stack.enter_context(atomic_path(out / "evidence.parquet")))
        try:
            statement = make_statement(reads, by, period, Lineage(index), signed_by=signed_by, row=evidence.add)
        finally:
            evidence.close()
    n_holders = _write_holders(statement, out / HOLDERS_FOLDER, key) if by != "song" else 0
    write_tables(statement, out)
    # The last one: where it is, all of it is.
    _write(statement, out / STATEMENT_FILE, key)
    return Made(statement, n_holders)


def _write_holders(whole: Statement, folder: Path, key: Path | None) -> int:
    names = holders(whole)
    for number, name in enumerate(names, start=1):
        slug = re.sub(r"[^\w.-]+", "_", name).strip("._").encode()[:_NAME_BYTES].decode(errors="ignore")
        _write(for_holder(whole, name), folder / f"{number:05d}-{slug or 'holder'}.json", key)
    return len(names)


def _write(statement: Statement, path: Path, key: Path | None) -> None:
    data = to_json(statement).encode()
    with atomic_path(path.with_suffix(".html")) as temporary:
        temporary.write_text(render_html(statement), encoding="utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    if key is not None:
        sign_bytes(data, "statement", path, key)
