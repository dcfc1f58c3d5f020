"""API keys at rest.

    {"keys": [{"name": "acme", "sha256": "…", "per_minute": 60}]}

The file holds hashes only. A key is 256 random bits, so nobody guesses it back from a fast hash; a slow one, made for
passwords, would cost every request its time and give nothing.
"""

import hashlib
import hmac
import secrets
from pathlib import Path

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumina_ray.errors import UsageError
from lumina_ray.files import atomic_path, read_file
from serve.schemas import describe_errors

# Lets scanners for leaked secrets find keys in code and logs.
_PREFIX = "lumina_"


class ApiKey(BaseModel):
    """Who a key was given to, and how often it may be used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    per_minute: int | None = Field(None, ge=1)


class _KeysFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[ApiKey, ...]


class KeyRing:
    """The keys of a file, which is read again whenever it has changed: a revoked key is refused at once."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: tuple[int, int, int] | None = None
        self._keys: tuple[ApiKey, ...] = ()

    def holder(self, key: str) -> ApiKey | None:
        """Find the holder of a key, in a time that does not tell how much of the key is right.

        Raises:
            UsageError: the file is missing or damaged. Going on with the keys of before could admit a revoked one.
        """
        sha256 = _hash(key)
        holder = None
        for known in self._current():
            if hmac.compare_digest(known.sha256, sha256):
                holder = known
        return holder

    def _current(self) -> tuple[ApiKey, ...]:
        try:
            status = self._file.stat()
        except OSError as error:
            raise _unreadable(self._file, error) from error
        if (seen := (status.st_ino, status.st_mtime_ns, status.st_size)) != self._seen:
            self._keys, self._seen = read_keys(self._file), seen
        return self._keys


def read_keys(file: Path) -> tuple[ApiKey, ...]:
    """The keys of a file.

    Raises:
        UsageError: missing, damaged, or with a name that occurs twice.
    """
    try:
        keys = _KeysFile.model_validate_json(read_file(file)).keys
    except OSError as error:
        raise _unreadable(file, error) from error
    except ValidationError as error:
        # Not what it holds: somebody may have written a key into it.
        places = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{file} is no file of API keys ({places}); make one with `lumina keys add`") from error
    names = [key.name for key in keys]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{file}: {', '.join(twice)} occurs more than once; revoke it, and add it again")
    return keys


def add_key(file: Path, name: str, per_minute: int | None = None) -> str:
    """Add a key to a file, which is made if missing; the key is returned, and stored nowhere.

    Raises:
        UsageError: the name is taken or impossible, or the file is damaged.
    """
    secret = _PREFIX + secrets.token_urlsafe(32)
    try:
        added = ApiKey(name=name, sha256=_hash(secret), per_minute=per_minute)
    except ValidationError as error:
        raise UsageError(f"API key: {describe_errors(error.errors())}") from error
    with _alone(file):
        keys = read_keys(file) if file.exists() else ()
        if any(key.name == name for key in keys):
            raise UsageError(f"{file} has a key for {name!r} already; revoke that first, or choose another name")
        _write(file, (*keys, added))
    return secret


def revoke_key(file: Path, name: str) -> None:
    """Take a key out of a file. Endpoints that use the file refuse it from their next request on.

    Raises:
        UsageError: there is no such key, or the file is missing or damaged.
    """
    if not file.exists():
        read_keys(file)
    with _alone(file):
        keys = read_keys(file)
        left = tuple(key for key in keys if key.name != name)
        if len(left) == len(keys):
            names = ", ".join(key.name for key in keys) or "nobody"
            raise UsageError(f"{file} has no key for {name!r}, only for {names}")
        _write(file, left)


def _alone(file: Path) -> FileLock:
    """Two commands at once must not undo each other: a revoked key would come back."""
    if not file.name:
        raise UsageError(f"{file} is a folder; name the file of the keys")
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(file.with_name(f".{file.name}.lock"))


def _write(file: Path, keys: tuple[ApiKey, ...]) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text(_KeysFile(keys=keys).model_dump_json(indent=1) + "\n", encoding="utf-8")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _unreadable(file: Path, error: OSError) -> UsageError:
    return UsageError(f"{file} cannot be read ({error.strerror}); make it with `lumina keys add NAME --file {file}`")
