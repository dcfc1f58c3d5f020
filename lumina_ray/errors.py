"""Errors that a user can cause. Each message names what is wrong, where, and what to do about it.

`code` is for machines (failed rows, problem+json bodies); `exit_code` is what the command line returns.
"""

from typing import ClassVar


class LuminaError(Exception):
    """Base of every error that is the input's fault and not the software's."""

    code: str = "lumina.error"
    exit_code: int = 1


class UsageError(LuminaError):
    """The call itself makes no sense: an unknown name, an impossible number, a missing folder."""

    code = "usage"
    exit_code = 2


class ManifestError(LuminaError):
    """A manifest that cannot be read or that contradicts itself."""

    code = "manifest.invalid"
    exit_code = 2


class ModelError(LuminaError):
    """A model that is not at hand or that is not a MusicGen."""

    code = "model.unavailable"
    exit_code = 2


class StoreError(LuminaError):
    """A fingerprint store or index snapshot that is missing, incomplete or damaged."""

    code = "store.invalid"
    exit_code = 2


class StorageError(StoreError):
    """A bucket, or a file system with songs, that does not answer; the same command may work later."""

    code = "storage.unavailable"
    exit_code = 1


class StorageRefused(StorageError):
    """A bucket, or an object of it, that may not be read or written."""

    code = "storage.refused"
    exit_code = 2


class StoreBusy(LuminaError):
    """Another job is filling the store; the same command works once it has ended."""

    code = "store.busy"


class SpecificationMismatch(LuminaError):
    """Vectors of two specifications, or of two runs, were about to meet."""

    code = "specification.mismatch"
    exit_code = 2


class ReportMismatch(LuminaError):
    """A report cannot be computed again from what was given: it was made of another file, or from another snapshot."""

    code = "report.mismatch"
    exit_code = 2


class SignatureError(LuminaError):
    """A report's signature that is missing where one is asked for, that does not hold, or that another key made."""

    code = "signature.invalid"
    exit_code = 7


class NumericsError(LuminaError):
    """Numbers that cannot be right: the job that made them leaves no finished store."""

    code = "numerics.spot_check"


class TooManyFailures(LuminaError):
    """A job ended, and more songs failed than its caller allows."""

    code = "job.too_many_failures"
    exit_code = 3


class ClusterError(LuminaError):
    """The Ray cluster cannot run the job as asked."""

    code = "cluster.unfit"
    exit_code = 4


class Interrupted(LuminaError):
    """A job was stopped from outside, by Ctrl-C; the same command goes on with it."""

    code = "job.interrupted"
    exit_code = 130


class Terminated(Interrupted):
    """The same, by SIGTERM."""

    code = "job.terminated"
    exit_code = 143


class AudioError(LuminaError):
    """One song or upload that cannot be used. A job turns it into a failed row, the endpoint into a 4xx.

    On the command line it is an input file like any other, and the exit code that of wrong usage.

    Args:
        kind: the machine-readable cause, one of `AudioError.KINDS`.
        message: names the file, the cause and the fix.
    """

    exit_code = 2
    KINDS: ClassVar[frozenset[str]] = frozenset(
        {
            "audio.missing",
            "audio.not_a_file",
            "audio.empty",
            "audio.undecodable",
            "audio.silent",
            "audio.too_long",
            "audio.too_large",
            "audio.not_finite",
        }
    )

    def __init__(self, kind: str, message: str) -> None:
        if kind not in self.KINDS:
            raise ValueError(f"AudioError kind must be one of {sorted(self.KINDS)}, got {kind!r}")
        super().__init__(message)
        self.kind = kind

    def __reduce__(self) -> tuple[type["AudioError"], tuple[str, str]]:
        # Exceptions with two arguments do not survive pickling between Ray workers by themselves.
        return AudioError, (self.kind, str(self))
