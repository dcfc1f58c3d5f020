"""Where files lie: in this machine's file system, or in a bucket of S3, of what speaks its protocol, or of Google's.

A place in a bucket has the verbs of `pathlib.Path` that are needed here, over pyarrow's file systems, so that most of
the code need not know which of the two it has. An object appears whole or not at all; there are no folders to make.
"""

import functools
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar
from urllib.parse import parse_qsl

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from lumina_ray.errors import StorageError, StorageRefused, UsageError

# With pauses that double, up to 20 s, and vary: ten attempts get over an outage of one to two minutes. pyarrow does not
# ask the variable by which AWS's own tools are told otherwise.
_ATTEMPTS, _ATTEMPTS_VARIABLE = 10, "AWS_MAX_ATTEMPTS"
_GCS_RETRIES_S = 120
_CONNECT_S = 10.0
_REQUEST_S = 60.0
_READ_AT_ONCE = 16

T = TypeVar("T")
U = TypeVar("U")

_OPTIONS = ("endpoint_override", "region", "scheme", "anonymous")
# Any other "?" is part of the name: songs may be called "Who are you?.flac".
_OPTIONS_BEGIN = re.compile(rf"\?(?=(?:{'|'.join(_OPTIONS)})=)")


class Stat(NamedTuple):
    """Size in bytes, and time of the last change by the storage's clock, in seconds since the epoch."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class RemotePath:
    """A place in a bucket. Every method raises `StorageError` where the storage does not answer, or refuses.

    Attributes:
        scheme: "s3" or "gs".
        key: `bucket/prefix/name`, as it is: nothing in it is percent-encoded.
        options: `endpoint_override=…&region=…`, where and how the storage is reached; never credentials.
    """

    scheme: str
    key: str
    options: str = ""

    def __str__(self) -> str:
        return f"{self.scheme}://{self.key}" + (f"?{self.options}" if self.options else "")

    def __truediv__(self, relative: str) -> "RemotePath":
        return replace(self, key=_joined(self.key, relative))

    @property
    def name(self) -> str:
        return posixpath.basename(self.key)

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> "RemotePath":
        return replace(self, key=posixpath.dirname(self.key) or self.key)

    @property
    def filesystem(self) -> fs.FileSystem:
        return _filesystem(self.scheme, self.options)

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> "RemotePath":
        return self

    def resolve(self) -> "RemotePath":
        return self

    def exists(self) -> bool:
        return self._info().type != fs.FileType.NotFound

    def is_file(self) -> bool:
        return self._info().type == fs.FileType.File

    def is_dir(self) -> bool:
        """Whether anything lies under it."""
        return self._info().type == fs.FileType.Directory

    def stat(self) -> Stat:
        info = self._info()
        if info.type != fs.FileType.File:
            raise FileNotFoundError(f"{self}: no such object")
        return Stat(info.size, info.mtime_ns / 1e9)

    def iterdir(self) -> Iterator["RemotePath"]:
        """What lies directly under it; nothing where there is nothing."""
        with answering(self):
            found = self.filesystem.get_file_info(fs.FileSelector(self.key, allow_not_found=True))
        # Some clients mark a folder by an object of its name and a slash.
        return (replace(self, key=info.path) for info in found if info.path.rstrip("/") != self.key)

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """What lies directly under it, by name; `*` stands for anything."""
        matches = re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.S)
        return (path for path in self.iterdir() if matches.fullmatch(path.name))

    def read_bytes(self) -> bytes:
        with answering(self), self.filesystem.open_input_file(self.key) as file:
            return file.readall()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        with answering(self):
            # Not as a context: that would publish what there is of it when something is raised.
            stream = self.filesystem.open_output_stream(self.key)
            stream.write(data)
            stream.close()

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def touch(self) -> None:
        self.write_bytes(b"")

    def upload(self, file: Path) -> None:
        """Become a copy of a local file."""
        with answering(self):
            fs.copy_files(str(file), self.key, fs.LocalFileSystem(), self.filesystem)

    def download(self, file: Path) -> None:
        """Make a local file that is a copy."""
        with answering(self):
            fs.copy_files(self.key, str(file), self.filesystem, fs.LocalFileSystem())

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with answering(self):
                self.filesystem.delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Nothing: there are no folders."""

    def _info(self) -> fs.FileInfo:
        with answering(self):
            return self.filesystem.get_file_info(self.key)


Location = Path | RemotePath


def locate(text: str | Location) -> Location:
    """The place that a path or an address stands for.

    Args:
        text: a path, `s3://bucket/…` or `gs://bucket/…`. Behind an address, `?endpoint_override=HOST:PORT`,
            `&region=…`, `&scheme=http` and `&anonymous=true` say how to reach it.

    Raises:
        UsageError: another scheme, no bucket, credentials in an address, or another option.
    """
    if not isinstance(text, str):
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        return Path(text)
    key, *options = _OPTIONS_BEGIN.split(rest, maxsplit=1)
    bucket = key.split("/")[0]
    if scheme not in ("s3", "gs") or not bucket:
        raise UsageError(f"{text} is neither a path nor an address in a bucket; write s3://BUCKET/NAME or gs://…")
    if "@" in bucket:
        raise UsageError(f"{scheme}://…@{bucket.rpartition('@')[2]}: credentials come from the environment; drop them")
    if unknown := sorted({name for name, _ in parse_qsl("".join(options))} - set(_OPTIONS)):
        raise UsageError(f"{scheme}://{key}: has no option {unknown[0]}; there are {', '.join(_OPTIONS)}")
    return RemotePath(scheme, key.rstrip("/"), "".join(options))


def _joined(key: str, relative: str) -> str:
    """Keys are names, where "//" is no "/"; only a manifest's relative paths have steps up, and none out of its bucket.

    Raises:
        UsageError: it leads out of the bucket.
    """
    joined = posixpath.join(key, relative)
    if not {".", ".."} & set(relative.split("/")):
        return joined
    joined = posixpath.normpath(joined)
    if joined.split("/")[0] != key.split("/")[0]:
        raise UsageError(f"{relative}: leads out of the bucket {key.split('/')[0]}; write its whole address")
    return joined


def local(text: str | Path) -> Path:
    """A path, where only a file system will do.

    Raises:
        UsageError: the address of a bucket.
    """
    if isinstance(path := locate(text), RemotePath):
        raise UsageError(f"{text}: must lie on a file system, not in a bucket; give a path")
    return path


def address(path: Location) -> tuple[str, fs.FileSystem | None]:
    """What pyarrow and Ray Data ask for: a name, and the file system of it, or None for this machine's."""
    return (path.key, path.filesystem) if isinstance(path, RemotePath) else (str(path), None)


def read_parquet(path: Location, columns: list[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
    """A Parquet file, or some columns of it.

    Raises:
        FileNotFoundError: it is not there.
        pa.ArrowInvalid: it is damaged.
        OSError: the same, of a local file, or it cannot be read.
        StorageError: its bucket does not answer.
    """
    name, filesystem = address(path)
    with answering(path):
        return pq.read_table(name, columns=columns, schema=schema, partitioning=None, filesystem=filesystem)


def for_each(function: Callable[[T], U], things: Iterable[T]) -> list[U]:
    """What a function that reads makes of many things, in their order. Several at a time, as it mostly waits."""
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return list(pool.map(function, things))


@contextmanager
def answering(path: Location) -> Iterator[None]:
    """Raise what goes wrong with a bucket in the block as an error that names it. Local errors stay what they are.

    Raises:
        StorageError: it does not answer, or does not do what was asked. As `StorageRefused` where it forbids it.
        FileNotFoundError: the object is not there.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if not isinstance(path, RemotePath):
            raise
        cause = str(error).splitlines()[0]
        if "ACCESS_DENIED" in cause or "PERMISSION_DENIED" in cause:
            raise StorageRefused(f"{path}: access denied ({cause}); check the credentials and their rights") from error
        raise StorageError(f"{path}: the storage does not do it ({cause}); try again, or check the address") from error


def _attempts() -> int:
    given = os.environ.get(_ATTEMPTS_VARIABLE, str(_ATTEMPTS))
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"{_ATTEMPTS_VARIABLE} must be a number from 1 on, got {given!r}")
    return int(given)


@functools.cache
def _filesystem(scheme: Literal["s3", "gs"], options: str) -> fs.FileSystem:
    # Not made at import, and never sent to other processes: pyarrow loses the attempts on the way.
    given = dict(parse_qsl(options))
    anonymous = given.pop("anonymous", "") == "true"
    try:
        if scheme == "gs":
            return fs.GcsFileSystem(**given, anonymous=anonymous, retry_time_limit=timedelta(seconds=_GCS_RETRIES_S))
        return fs.S3FileSystem(
            **given,
            anonymous=anonymous,
            connect_timeout=_CONNECT_S,
            request_timeout=_REQUEST_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_attempts()),
            # One request for a small object, not three, and no upload begun that a killed process leaves behind.
            allow_delayed_open=True,
        )
    except (TypeError, ValueError, OSError) as error:
        raise UsageError(f"{scheme}://…?{options}: {error}; the options are {', '.join(_OPTIONS)}") from error
