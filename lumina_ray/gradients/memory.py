"""Peak memory of a computation, known before it runs: the same calls on tensors that have shapes and no data."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Of the memory that is free: the rest is for the allocator's fragments and libraries' workspaces.
_USABLE = 0.8
# More chunks than this amortise nothing further.
MAX_CHUNKS_IN_FLIGHT = 24


class _PeakBytes(TorchDispatchMode):
    """Adds up the storages that are alive of those that came into being under it."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive = 0
        self._known = weakref.WeakSet[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(result.alias_info for result in func._schema.returns):
            return out  # a view: what it looks at was there before, a parameter perhaps
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._known:
                self._known.add(storage)
                self._alive += storage.nbytes()
                weakref.finalize(storage, self._forget, storage.nbytes())
        self.peak = max(self.peak, self._alive)
        return out

    def _forget(self, n_bytes: int) -> None:
        self._alive -= n_bytes


def predicted_peak_bytes(run: Callable[[], object]) -> int:
    """Most bytes that `run` would hold at once besides the model's parameters and buffers; it is not executed.

    Workspaces of libraries and the allocator's fragments come on top.
    """
    # Imported here: with it comes a computer algebra system, seconds for every worker that does not need it.
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), _PeakBytes() as counter:
        run()
    return counter.peak


def chunks_that_fit(peak_bytes: Callable[[int], int], free_bytes: int) -> int:
    """The largest batch whose predicted peak fits into the usable part of the free memory, 1 at least.

    Args:
        peak_bytes: predicted peak of a batch of so many chunks; linear in it.
    """
    one, two = peak_bytes(1), peak_bytes(2)
    per_chunk = max(two - one, 1)
    return max(1, min(MAX_CHUNKS_IN_FLIGHT, 1 + int((_USABLE * free_bytes - one) // per_chunk)))
