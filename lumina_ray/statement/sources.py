"""Where reports come from: files, folders, patterns, files with a report on each line, and standard input."""

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from lumina_ray.errors import StatementError, UsageError
from lumina_ray.files import open_file

MAX_REPORT_BYTES = 16 << 20
"""A report with 4096 candidates of 60 chunks in both channels is some 13 MB."""

STANDARD_INPUT = "-"
_LINES = (".ndjson", ".jsonl")
_ENDING = ".json"


class Source(NamedTuple):
    """A report that is to be read.

    Attributes:
        name: what errors call it: a path, or a file and a line.
        data: its bytes; None where `name` is the path of its file.
    """

    name: str
    data: bytes | None


def find_reports(arguments: Sequence[str]) -> Iterator[Source]:
    """Find the reports that some arguments name, one at a time and in no particular order.

    Args:
        arguments: files of a report each; folders, which stand for the files in them that end in `.json`, at any depth;
            patterns such as `reports/2026-*/*.json`; files that end in `.ndjson` or `.jsonl`, with a report on each
            line; `-`, standard input, with a report on each line.

    Raises:
        UsageError: an argument names nothing that is there.
        StatementError: a line is longer than any report.
    """
    for argument in arguments:
        if argument == STANDARD_INPUT:
            yield from split_lines(sys.stdin.buffer, "standard input")
        else:
            yield from _of_path(Path(argument))


def _of_path(path: Path) -> Iterator[Source]:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        if glob.has_magic(str(path)):
            yield from _of_pattern(str(path))
            return
        raise UsageError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); check the path"
        ) from error
    if stat.S_ISDIR(mode):
        yield from _in_folder(path)
    elif path.suffix.lower() in _LINES:
        with _opened(path) as file:
            yield from split_lines(file, str(path))
    else:
        yield Source(str(path), None)


def _of_pattern(pattern: str) -> Iterator[Source]:
    found = False
    for path in glob.iglob(pattern, recursive=True):  # noqa: PTH207  # takes absolute patterns too
        if Path(path).is_file():
            found = True
            yield from _of_path(Path(path))
    if not found:
        raise UsageError(f"{pattern}: no file is called like this; check the pattern")


def _in_folder(folder: Path) -> Iterator[Source]:
    # `Path.rglob` and `os.walk` would hold the names of a whole folder, which may be a million.
    waiting, found = [str(folder)], False
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.name.endswith(_ENDING) and entry.is_file():
                    found = True
                    yield Source(entry.path, None)
    if not found:
        raise UsageError(f"{folder}: holds no file that ends in {_ENDING}; name the folder that holds the reports")


def split_lines(file: BinaryIO, name: str) -> Iterator[Source]:
    """Split a file into reports, one on each line; empty lines are passed over.

    Args:
        name: what errors call the file.

    Raises:
        StatementError: a line is longer than any report.
    """
    number = 0
    while line := file.readline(MAX_REPORT_BYTES + 2):
        number += 1
        data = line.removesuffix(b"\n").removesuffix(b"\r")
        if len(data) > MAX_REPORT_BYTES:
            raise StatementError(f"{name}, line {number}: has more than {MAX_REPORT_BYTES} bytes, and is no report")
        if data:
            yield Source(f"{name}, line {number}", data)


def contents(source: Source) -> bytes:
    """Read the bytes of a report.

    Raises:
        StatementError: its file cannot be read, or is larger than any report.
    """
    if source.data is not None:
        return source.data
    try:
        with open_file(Path(source.name)) as file:
            # As much as it says that it has: a buffer for the largest report would cost more than reading does.
            n_bytes = min(os.fstat(file.fileno()).st_size, MAX_REPORT_BYTES)
            data = file.read(n_bytes + 1)
    except OSError as error:
        raise StatementError(f"{source.name}: cannot be read ({error.strerror}); check its permissions") from error
    if len(data) > MAX_REPORT_BYTES:
        raise StatementError(f"{source.name}: has more than {MAX_REPORT_BYTES} bytes, and is no report")
    return data


def _opened(path: Path) -> BinaryIO:
    try:
        # Read unbuffered, each line would be a system call for each byte.
        import io

        return io.BufferedReader(open_file(path), 1 << 20)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def batches(sources: Iterable[Source], most: int, most_bytes: int) -> Iterator[list[Source]]:
    """Group reports, as many as `most` and about as many bytes as `most_bytes`."""
    batch: list[Source] = []
    n_bytes = 0
    for source in sources:
        batch.append(source)
        n_bytes += len(source.data or b"")
        if len(batch) == most or n_bytes >= most_bytes:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch
