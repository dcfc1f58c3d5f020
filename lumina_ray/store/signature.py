"""One object in a bucket that a job signs, so that others see that the job lives.

S3 writes it only if nobody else has written it since it was read (`If-None-Match`, `If-Match`): of any number of jobs
that sign at once, exactly one succeeds. pyarrow cannot ask for that, and drops such headers without a word, so this is
the one place where `obstore` is used. Google's storage can do it, too, but no emulator of it answers `obstore`: there
the object is read and then written, and `lease` looks again later.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from lumina_ray.errors import StorageError, StorageRefused, UsageError
from lumina_ray.storage import CONNECT_S, REQUEST_S, RemotePath, attempts

if TYPE_CHECKING:
    from obstore.store import S3Store

_MAX_BACKOFF_S = 20


@dataclass(frozen=True)
class Signed:
    """Contents of the object, as they were read.

    Attributes:
        version: entity tag of S3; empty where the storage's conditions are not used.
    """

    text: str
    version: str = ""


class PlainSignature:
    """An object that is read and then written: two jobs may do so at once."""

    def __init__(self, path: RemotePath) -> None:
        self._path = path

    def read(self) -> Signed | None:
        """Read the signature; None where nobody has signed."""
        try:
            return Signed(self._path.read_text())
        except FileNotFoundError:
            return None

    def write(self, text: str, before: Signed | None) -> Signed | None:
        """Sign, if the object is still what it was before; None if not."""
        if self.read() != before:
            return None
        self._path.write_text(text)
        return Signed(text)


class ConditionalSignature:
    """An object that S3 writes only if it is still what it was.

    Credentials, endpoint and attempts are those of `RemotePath`. Every method raises `StorageError` where S3 does not
    answer, and `StorageRefused` where it forbids.
    """

    def __init__(self, path: RemotePath) -> None:
        self._path = path
        self._bucket, _, self._key = path.key.partition("/")
        if "//" in self._key:
            # obstore knows no such keys, although S3 has them.
            raise UsageError(f"{path}: the key of a store has an empty part; write the address without //")

    def read(self) -> Signed | None:
        """Read the signature; None where nobody has signed."""
        import obstore

        try:
            found = obstore.get(self._store, self._key)
            return Signed(bytes(found.bytes()).decode(), found.meta["e_tag"] or "")
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            return None
        except obstore.exceptions.BaseError as error:
            raise self._error(error) from error

    def write(self, text: str, before: Signed | None) -> Signed | None:
        """Sign, if the object is still what it was before; None if not.

        Args:
            text: one that nobody has written before.
            before: what was read or written last; None where the object was not there.
        """
        import obstore

        mode: Any = {"e_tag": before.version} if before else "create"
        refused = (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError)
        gone = (FileNotFoundError, obstore.exceptions.NotFoundError)
        try:
            result = obstore.put(self._store, self._key, text.encode(), mode=mode)
        except (*refused, *gone, obstore.exceptions.BaseError) as error:
            # Where nothing was before, it is the bucket that is not there.
            if not isinstance(error, refused if before is None else (*refused, *gone)):
                raise self._error(error) from error
            # An attempt may have succeeded and its answer been lost; the next attempt is refused for it.
            now = self.read()
            return now if now and now.text == text else None
        return Signed(text, result["e_tag"] or "")

    @cached_property
    def _store(self) -> "S3Store":
        from obstore.store import S3Store

        given = dict(parse_qsl(self._path.options))
        config: dict[str, Any] = {}
        if endpoint := given.get("endpoint_override"):
            config["endpoint"] = endpoint if "://" in endpoint else f"{given.get('scheme', 'https')}://{endpoint}"
        if region := given.get("region"):
            config["region"] = region
        if given.get("anonymous") == "true":
            config["skip_signature"] = True
        else:
            config["credential_provider"] = self._credentials()
        return S3Store(
            self._bucket,
            **config,
            client_options={
                "allow_http": config.get("endpoint", "http://").startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_S),
                "timeout": timedelta(seconds=REQUEST_S),
            },
            retry_config={
                "max_retries": attempts() - 1,
                "backoff": {"max_backoff": timedelta(seconds=_MAX_BACKOFF_S)},
            },
        )

    def _credentials(self) -> Any:
        """All that AWS's own tools find, as pyarrow does: `obstore` itself does not read `~/.aws`."""
        from obstore.auth.boto3 import Boto3CredentialProvider

        try:
            return Boto3CredentialProvider()
        except ValueError as error:
            raise StorageRefused(
                f"{self._path}: no credentials were found; set AWS_ACCESS_KEY_ID, or give anonymous=true"
            ) from error

    def _error(self, error: Exception) -> StorageError:
        import obstore

        cause = str(error).splitlines()[0]
        if isinstance(error, obstore.exceptions.PermissionDeniedError | obstore.exceptions.UnauthenticatedError):
            return StorageRefused(f"{self._path}: access denied ({cause}); check the credentials and their rights")
        return StorageError(f"{self._path}: the storage does not do it ({cause}); try again, or check the address")


def signature(path: RemotePath) -> PlainSignature | ConditionalSignature:
    return ConditionalSignature(path) if path.scheme == "s3" else PlainSignature(path)
