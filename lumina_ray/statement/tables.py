"""A statement as tables: lines, the recordings of lines, and evidence; as CSV, safe for spreadsheets, and Parquet."""

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from lumina_ray.files import atomic_path
from lumina_ray.report.csv import disarmed
from lumina_ray.statement.json import statement_sha256
from lumina_ray.statement.schema import ChannelStatement, Statement
from lumina_ray.statement.totals import PartOfClip
from lumina_ray.vocabulary import Channel

_TEXT, _WHOLE, _NUMBER = pa.string(), pa.int64(), pa.float64()
_OF_STATEMENT = [
    ("period", _TEXT),
    ("by", _TEXT),
    ("channel", _TEXT),
    ("right", _TEXT),
    ("kind", _TEXT),
    ("name", _TEXT),
]

LINES = pa.schema(
    [
        *_OF_STATEMENT,
        ("micro_shares", _WHOLE),
        ("low", _WHOLE),
        ("high", _WHOLE),
        ("payable", _WHOLE),
        ("reports", _WHOLE),
        ("clips", _WHOLE),
        ("evidence_sha256", _TEXT),
        ("statement_sha256", _TEXT),
    ]
)
"""A row for each line, for what is unattributed, for payable influence that is unlisted, and for the lines that a
holder's statement leaves out. The micro-shares of a channel add up to 1 000 000 for each clip, and what is payable to
as much for each clip whose report tells influence."""

SONGS = pa.schema(
    [
        *_OF_STATEMENT,
        ("song_ids", _TEXT),
        ("title", _TEXT),
        ("creator", _TEXT),
        ("code", _TEXT),
        ("split", _TEXT),
        ("micro_shares", _WHOLE),
        ("reports", _WHOLE),
        ("statement_sha256", _TEXT),
    ]
)
"""A row for each recording of each line. They add up to the lines."""

EVIDENCE = pa.schema(
    [
        ("report_sha256", _TEXT),
        ("audio_sha256", _TEXT),
        ("channel", _TEXT),
        ("kind", _TEXT),
        ("name", _TEXT),
        ("song_ids", _TEXT),
        ("split", _TEXT),
        ("share", _NUMBER),
        ("part", _NUMBER),
    ]
)
"""A row for each report, channel, line and recording: the share in the report, and the line's part of it."""

_JOINED = " / "
_ROWS = 50_000


def line_rows(statement: Statement) -> Iterator[dict[str, Any]]:
    """The rows of `LINES`."""
    sha256 = statement_sha256(statement)
    for name, channel in statement.channels.items():
        for line in channel.lines:
            yield _facts(statement, name, channel, line.kind, _JOINED.join(line.names)) | {
                "micro_shares": line.micro_shares,
                "low": line.low,
                "high": line.high,
                "payable": line.payable,
                "reports": line.evidence.reports,
                "clips": channel.clips,
                "evidence_sha256": line.evidence.sha256,
                "statement_sha256": sha256,
            }
        rest = {"clips": channel.clips, "statement_sha256": sha256}
        if statement.holder is not None:
            payable = channel.payable and channel.payable.other_lines
            others = {"micro_shares": channel.other_lines, "payable": payable}
            yield _facts(statement, name, channel, "others", "") | rest | others
        if channel.payable is not None:
            unlisted = {"micro_shares": 0, "payable": channel.payable.unlisted, "clips": channel.payable.clips}
            yield _facts(statement, name, channel, "unlisted", "") | rest | unlisted
        yield (
            _facts(statement, name, channel, "unattributed", "")
            | rest
            | {
                "micro_shares": channel.unattributed,
                "low": channel.unattributed_low,
                "high": channel.unattributed_high,
            }
        )


def song_rows(statement: Statement) -> Iterator[dict[str, Any]]:
    """The rows of `SONGS`."""
    sha256 = statement_sha256(statement)
    for name, channel in statement.channels.items():
        for line in channel.lines:
            facts = _facts(statement, name, channel, line.kind, _JOINED.join(line.names))
            for song in line.songs:
                yield (
                    facts
                    | song.model_dump(exclude={"song_ids"})
                    | {
                        "song_ids": _JOINED.join(song.song_ids),
                        "statement_sha256": sha256,
                    }
                )


def _facts(statement: Statement, name: Channel, channel: ChannelStatement, kind: str, whose: str) -> dict[str, Any]:
    return {
        "period": statement.period,
        "by": statement.by,
        "channel": name,
        "right": channel.right,
        "kind": kind,
        "name": whose,
    }


def write_tables(statement: Statement, folder: Path) -> None:
    """Write `lines` and `songs`, each as `.csv` and `.parquet`, whole or not at all.

    The CSV files are laid out as `lumina_ray.report.csv.write_csv` does: a text that a spreadsheet could take for a
    formula begins with an apostrophe.
    """
    for name, schema, rows in (("lines", LINES, line_rows), ("songs", SONGS, song_rows)):
        with (
            atomic_path(folder / f"{name}.csv") as partial,
            partial.open("w", encoding="utf-8-sig", newline="") as file,
        ):
            write_csv(rows(statement), schema, file)
        with atomic_path(folder / f"{name}.parquet") as partial:
            pq.write_table(pa.Table.from_pylist(list(rows(statement)), schema), partial)


def write_csv(rows: Iterator[dict[str, Any]], schema: pa.Schema, file: TextIO) -> None:
    """Write rows as CSV, safe to open in a spreadsheet."""
    writer = csv.DictWriter(file, schema.names, quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for row in rows:
        writer.writerow({key: disarmed(value) if isinstance(value, str) else value for key, value in row.items()})


class EvidenceWriter:
    """Writes the table of evidence row by row, as Parquet; holds fifty thousand rows."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._writer = pq.ParquetWriter(path, EVIDENCE, compression="zstd")
        self._rows: list[tuple[Any, ...]] = []

    def add(self, row: PartOfClip) -> None:
        self._rows.append(
            (
                row.report_sha256,
                row.audio_sha256,
                row.channel,
                row.party.kind,
                _JOINED.join(row.party.names),
                _JOINED.join(song.song_id for song in row.songs),
                row.split,
                row.share,
                row.part,
            )
        )
        if len(self._rows) == _ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns: list[Any] = list(zip(*self._rows, strict=True)) or [[] for _ in EVIDENCE]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, EVIDENCE, strict=True)]
        self._writer.write_table(pa.table(arrays, schema=EVIDENCE))
        self._rows.clear()
