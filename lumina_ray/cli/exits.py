"""Exit codes of the command line, which scripts rely on.

0 done · 1 may work later, or the system refused · 2 wrong usage or input · 3 too many failures · 4 cluster ·
5 report different (`verify`) · 6 report close (`verify`) · 7 signature · 8 a floor is not beaten (`evaluate`) · 70 a
fault of lumina-ray itself · 130 Ctrl-C · 143 SIGTERM.
"""

from lumina_ray.errors import (
    AudioError,
    ClusterError,
    Interrupted,
    LuminaError,
    ManifestError,
    MidiError,
    ModelError,
    ReportMismatch,
    SignatureError,
    SpecificationMismatch,
    StatementError,
    StorageError,
    StorageRefused,
    StoreError,
    Terminated,
    TooManyFailures,
    UnlearningError,
    UsageError,
)

DIFFERENT, CLOSE = 5, 6
"""Answers of `lumina verify` besides 0, identical."""

FLOOR_NOT_BEATEN = 8
"""Answer of `lumina evaluate` where the default method does not beat its floors."""

SYSTEM, BUG = 1, 70
"""Errors that are none of lumina-ray's own: of the operating system, and faults of the software."""

SOME_FAILED = 3
"""Some files of many could not be used."""

EXIT_CODES: dict[type[LuminaError], int] = {
    LuminaError: 1,
    UsageError: 2,
    ManifestError: 2,
    ModelError: 2,
    AudioError: 2,
    MidiError: 2,
    StoreError: 2,
    StorageError: 1,
    StorageRefused: 2,
    SpecificationMismatch: 2,
    ReportMismatch: 2,
    StatementError: 2,
    UnlearningError: 2,
    TooManyFailures: SOME_FAILED,
    ClusterError: 4,
    SignatureError: 7,
    Interrupted: 130,
    Terminated: 143,
}
"""Errors that are not listed have the exit code of their nearest listed ancestor."""


def exit_code(error: LuminaError) -> int:
    """The exit code of the process that an error ends."""
    if type(error) not in EXIT_CODES:
        # The client comes with much that no other command needs.
        from lumina_ray.client.errors import EndpointError

        if isinstance(error, EndpointError):
            return 1 if error.may_work_later or (error.status or 500) >= 500 else 2
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
