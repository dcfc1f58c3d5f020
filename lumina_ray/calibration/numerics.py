"""One BLAS thread, so that the command line and a server with other thread settings give the same bits."""

from functools import cache

import scipy.linalg  # noqa: F401  its own BLAS must be loaded before it can be limited
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]


@cache
def use_one_blas_thread() -> None:
    """Limit BLAS to one thread, for this process and for good.

    Matrix products change in their last bits with the number of threads, and Ray gives its workers another number than
    a shell does. Not a context manager: two of them overlapping in a server's threads would undo each other.
    """
    threadpool_limits(limits=1, user_api="blas")
