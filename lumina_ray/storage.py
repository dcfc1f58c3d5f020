"""Places where files lie: in this machine's file system, or in a bucket (S3, S3-compatible, or Google Cloud Storage).

`RemotePath`, a place in a bucket, has the methods of `pathlib.Path` that are needed here, on top of pyarrow's file
systems. So most of the code need not know which of the two it has. An object in a bucket appears as a whole or not at
all, and there are no folders to make.
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
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from lumina_ray.errors import StorageError, StorageRefused, UsageError

# Most of a command's start would be spent on pyarrow, which `lumina --help` and many others do not need.
if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import fs

# Pauses between attempts double, up to 20 s, with random changes: ten attempts outlast an outage of one to two minutes.
# AWS's own tools read the variable, but pyarrow does not, so it is read here.
_ATTEMPTS, _ATTEMPTS_VARIABLE = 10, "AWS_MAX_ATTEMPTS"
_GCS_RETRIES_S = 120
CONNECT_S = 10.0
REQUEST_S = 60.0
_READ_AT_ONCE = 16

T = TypeVar("T")
U = TypeVar("U")

_OPTIONS = ("endpoint_override", "region", "scheme", "anonymous")
# Any other "?" belongs to the name, because a song may be called "Who are you?.flac".
_OPTIONS_BEGIN = re.compile(rf"\?(?=(?:{'|'.join(_OPTIONS)})=)")


class Stat(NamedTuple):
    """An object's size in bytes, and the time of its last change by the storage's clock, in seconds since the epoch."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, order=True)
class RemotePath:
    """A place in a bucket, with the methods of `pathlib.Path` that are needed here.

    Every method raises `StorageError` where the storage does not answer, or refuses.

    Attributes:
        scheme: "s3" or "gs".
        key: `bucket/prefix/name`; nothing in it is percent-encoded.
        options: where and how the storage is reached (`endpoint_override=…&region=…`); never credentials.
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
    def filesystem(self) -> "fs.FileSystem":
        return _filesystem(self.scheme, self.options)

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> "RemotePath":
        return self

    def resolve(self) -> "RemotePath":
        return self

    def exists(self) -> bool:
        return self._info().type.name != "NotFound"

    def is_file(self) -> bool:
        return self._info().type.name == "File"

    def is_dir(self) -> bool:
        """Whether any object lies under this prefix."""
        return self._info().type.name == "Directory"

    def stat(self) -> Stat:
        info = self._info()
        if info.type.name != "File":
            raise FileNotFoundError(f"{self}: no such object")
        return Stat(info.size, info.mtime_ns / 1e9)

    def iterdir(self) -> Iterator["RemotePath"]:
        """List the places directly under this prefix; the list is empty where the prefix does not exist."""
        from pyarrow import fs

        with answering(self):
            found = self.filesystem.get_file_info(fs.FileSelector(self.key, allow_not_found=True))
        # Some clients mark a folder by an object whose name is the folder's name and a slash.
        return (replace(self, key=info.path) for info in found if info.path.rstrip("/") != self.key)

    def glob(self, pattern: str) -> Iterator["RemotePath"]:
        """List the places directly under this prefix whose names match a pattern; `*` stands for any characters."""
        matches = re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.S)
        return (path for path in self.iterdir() if matches.fullmatch(path.name))

    def read_bytes(self) -> bytes:
        with answering(self), self.filesystem.open_input_file(self.key) as file:
            return file.readall()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        with answering(self):
            # A `with` block would close the stream after an error, and so publish an incomplete object.
            stream = self.filesystem.open_output_stream(self.key)
            stream.write(data)
            stream.close()

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def touch(self) -> None:
        self.write_bytes(b"")

    def upload(self, file: Path) -> None:
        """Write a copy of a local file to this place."""
        from pyarrow import fs

        with answering(self):
            fs.copy_files(str(file), self.key, fs.LocalFileSystem(), self.filesystem)

    def download(self, file: Path) -> None:
        """Write a copy of this object to a local file."""
        from pyarrow import fs

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
        """Do nothing, because a bucket has no folders."""

    def _info(self) -> "fs.FileInfo":
        with answering(self):
            return self.filesystem.get_file_info(self.key)


Location = Path | RemotePath
AnyPath = str | os.PathLike[str] | RemotePath
"""Type of every path that a public function takes; `locate` turns it into a `Location`."""


def locate(text: AnyPath) -> Location:
    """The place that a path or an address stands for. Public functions call it on each path that a user passes.

    Args:
        text: a path, or an address `s3://bucket/…` or `gs://bucket/…`. An address may end in
            `?endpoint_override=HOST:PORT`, `&region=…`, `&scheme=http` and `&anonymous=true`, which say how the
            storage is reached. `Path` and `RemotePath` are returned unchanged.

    Raises:
        UsageError: the text is no path, or an address has another scheme, no bucket, credentials, or an unknown option.
    """
    if isinstance(text, Location):
        return text
    if isinstance(text, os.PathLike):
        text = os.fspath(text)
    if not isinstance(text, str):
        raise UsageError(f"{text!r} is no path; give a str, a pathlib.Path, or an address s3://… or gs://…")
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
    """Join a relative path to a key.

    Keys are plain names, in which "//" is not "/". So "." and ".." are resolved only where a relative path, as a
    manifest may hold, has them.

    Raises:
        UsageError: the relative path leads out of the bucket.
    """
    joined = posixpath.join(key, relative)
    if not {".", ".."} & set(relative.split("/")):
        return joined
    joined = posixpath.normpath(joined)
    if joined.split("/")[0] != key.split("/")[0]:
        raise UsageError(f"{relative}: leads out of the bucket {key.split('/')[0]}; write its whole address")
    return joined


def local(text: AnyPath) -> Path:
    """The path that a text stands for, for places that must be on a file system.

    Raises:
        UsageError: the text is an address in a bucket.
    """
    if isinstance(path := locate(text), RemotePath):
        raise UsageError(f"{text}: must lie on a file system, not in a bucket; give a path")
    return path


def address(path: Location) -> "tuple[str, fs.FileSystem | None]":
    """A place as pyarrow and Ray Data take it: its name and its file system, which is None for this machine's."""
    return (path.key, path.filesystem) if isinstance(path, RemotePath) else (str(path), None)


def read_parquet(path: Location, columns: list[str] | None = None, schema: "pa.Schema | None" = None) -> "pa.Table":
    """Read a Parquet file, or some of its columns.

    Raises:
        FileNotFoundError: there is no such file.
        pa.ArrowInvalid: the file is damaged.
        OSError: a local file is damaged, or cannot be read.
        StorageError: the file's bucket does not answer.
    """
    import pyarrow.parquet as pq

    name, filesystem = address(path)
    with answering(path):
        return pq.read_table(name, columns=columns, schema=schema, partitioning=None, filesystem=filesystem)


def for_each(function: Callable[[T], U], things: Iterable[T]) -> list[U]:
    """Call a function on many things in parallel threads, and return the results in order.

    It is meant for functions that read, because reading mostly waits.
    """
    with ThreadPoolExecutor(_READ_AT_ONCE) as pool:
        return list(pool.map(function, things))


@contextmanager
def answering(path: Location) -> Iterator[None]:
    """Turn a bucket's errors within the block into errors that name the place. Local errors are not changed.

    Raises:
        StorageError: the bucket does not answer, or does not do what was asked.
        StorageRefused: the bucket denies access; this is a kind of `StorageError`.
        FileNotFoundError: there is no such object.
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


def attempts() -> int:
    """How often a request to S3 is tried.

    Raises:
        UsageError: `AWS_MAX_ATTEMPTS` is no number from 1 on.
    """
    given = os.environ.get(_ATTEMPTS_VARIABLE, str(_ATTEMPTS))
    if not given.isdecimal() or int(given) < 1:
        raise UsageError(f"{_ATTEMPTS_VARIABLE} must be a number from 1 on, got {given!r}")
    return int(given)


@functools.cache
def _filesystem(scheme: Literal["s3", "gs"], options: str) -> "fs.FileSystem":
    from pyarrow import fs

    # File systems are made on first use and never sent to other processes, because pickling loses the retry settings.
    given = dict(parse_qsl(options))
    anonymous = given.pop("anonymous", "") == "true"
    try:
        if scheme == "gs":
            return fs.GcsFileSystem(**given, anonymous=anonymous, retry_time_limit=timedelta(seconds=_GCS_RETRIES_S))
        return fs.S3FileSystem(
            **given,
            anonymous=anonymous,
            connect_timeout=CONNECT_S,
            request_timeout=REQUEST_S,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts()),
            # A small object then takes one request instead of three, and a killed process leaves no unfinished upload.
            allow_delayed_open=True,
        )
    except (TypeError, ValueError, OSError) as error:
        raise UsageError(f"{scheme}://…?{options}: {error}; the options are {', '.join(_OPTIONS)}") from error
