"""Errors that a user can cause. Each message names the problem, the place and the fix.

    LuminaError                      base of all: `except LuminaError` catches everything below
    ├── UsageError                   unknown name, impossible number, missing folder
    ├── ManifestError                manifest that cannot be read or contradicts itself
    ├── ModelError                   model that is not at hand, or is not a MusicGen
    ├── AudioError                   one song or upload that cannot be used
    ├── MidiError                    one MIDI file that cannot be used
    ├── StoreError                   store or index that is missing, incomplete or damaged
    │   └── StorageError             bucket or file system that does not answer
    │       └── StorageRefused       bucket or object that may not be read or written
    ├── StoreBusy                    another job is filling the store
    ├── SpecificationMismatch        vectors of two specifications, or of two runs
    ├── ReportMismatch               report made of another file or another snapshot
    ├── StatementError               reports that cannot be added up
    ├── SignatureError               signature that is missing, invalid or made by another key
    ├── NumericsError                numbers that cannot be right
    ├── UnlearningError              music that a model cannot be made to forget
    ├── TooManyFailures              job with more failed songs than its caller allows
    ├── ClusterError                 Ray cluster that cannot run the job
    ├── Interrupted                  job stopped by Ctrl-C
    │   └── Terminated               job stopped by SIGTERM
    └── EndpointError                endpoint that refused, failed or was not reached (in `lumina_ray.client`)

Every error has a `code` for machines: failed rows of a store, bodies of problem+json, `--json` on the command line.
The exit codes of the command line are in `lumina_ray/cli/exits.py`.
"""

from typing import ClassVar


class LuminaError(Exception):
    """Base of every error that is the input's fault and not the software's."""

    code: str = "lumina.error"


class UsageError(LuminaError):
    """The call itself makes no sense: an unknown name, an impossible number, a missing folder."""

    code = "usage"


class ManifestError(LuminaError):
    """A manifest cannot be read, or contradicts itself."""

    code = "manifest.invalid"


class ModelError(LuminaError):
    """A model is not at hand, or is not a MusicGen."""

    code = "model.unavailable"


class MidiError(LuminaError):
    """One MIDI file cannot be used: it is damaged, too large, or has no notes. A table has a failed row for it."""

    code = "midi.unusable"


class StoreError(LuminaError):
    """A fingerprint store or index snapshot is missing, incomplete or damaged."""

    code = "store.invalid"


class StorageError(StoreError):
    """A bucket, or a file system with songs, does not answer; the same command may work later."""

    code = "storage.unavailable"


class StorageRefused(StorageError):
    """A bucket, or an object of it, may not be read or written."""

    code = "storage.refused"


class StoreBusy(LuminaError):
    """Another job is filling the store; the same command works once it has ended."""

    code = "store.busy"


class SpecificationMismatch(LuminaError):
    """Vectors of two specifications, or of two runs, were about to be compared."""

    code = "specification.mismatch"


class ReportMismatch(LuminaError):
    """A report cannot be computed again from the given file and index: it was made of another file or snapshot."""

    code = "report.mismatch"


class StatementError(LuminaError):
    """Reports cannot be added up: one is damaged, or two are of different models, catalogs or settings."""

    code = "statement.invalid"


class SignatureError(LuminaError):
    """A report's signature is missing where one is required, is invalid, or was made by another key."""

    code = "signature.invalid"


class NumericsError(LuminaError):
    """Numbers cannot be right: the job that made them leaves no finished store."""

    code = "numerics.spot_check"


class UnlearningError(LuminaError):
    """A model cannot be made to forget some music: it is silent, or no step has any effect. The model is as before."""

    code = "unlearning.impossible"


class TooManyFailures(LuminaError):
    """A job ended, and more songs failed than its caller allows."""

    code = "job.too_many_failures"


class ClusterError(LuminaError):
    """The Ray cluster cannot run the job as asked."""

    code = "cluster.unfit"


class Interrupted(LuminaError):
    """A job was stopped from outside, by Ctrl-C; the same command goes on with it."""

    code = "job.interrupted"


class Terminated(Interrupted):
    """A job was stopped from outside, by SIGTERM; the same command goes on with it."""

    code = "job.terminated"


class AudioError(LuminaError):
    """One song or upload cannot be used. A job turns it into a failed row, the endpoint into a 4xx answer.

    Attributes:
        code: the cause, one of `AudioError.CODES`.
    """

    CODES: ClassVar[frozenset[str]] = frozenset(
        {
            "audio.missing",
            "audio.not_a_file",
            "audio.empty",
            "audio.undecodable",
            "audio.truncated",
            "audio.silent",
            "audio.too_long",
            "audio.too_large",
            "audio.not_finite",
            "audio.changed",
        }
    )

    def __init__(self, code: str, message: str) -> None:
        """
        Args:
            code: the cause, one of `AudioError.CODES`.
            message: names the file, the cause and the fix.

        Raises:
            ValueError: an unknown code.
        """
        if code not in self.CODES:
            raise ValueError(f"AudioError code must be one of {sorted(self.CODES)}, got {code!r}")
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[type["AudioError"], tuple[str, str]]:
        # Exceptions with two arguments do not survive pickling between Ray workers by themselves.
        return AudioError, (self.code, str(self))
