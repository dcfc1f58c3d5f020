"""Predicts the peak memory of a computation before it runs: its calls are made on tensors without data."""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# A batch may take this fraction of the free memory. The rest is for the allocator's fragments and libraries' buffers.
_USABLE = 0.8
# Larger batches would save no more time per chunk.
MAX_CHUNKS_IN_FLIGHT = 24


class _PeakBytes(TorchDispatchMode):
    """While active, adds up the bytes of all living storages that were made since it was entered."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive = 0
        self._known = weakref.WeakSet[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if any(result.alias_info for result in func._schema.returns):
            return out  # This is a view, and its storage was there before: it may be a parameter's.
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
    """Most bytes that `run` would hold at once, without the model's parameters and buffers.

    `run` is called on tensors that have shapes and no data, so that nothing is computed. Workspaces of libraries and
    the allocator's fragments come on top.
    """
    # The import is here because it loads a computer algebra system, for seconds, and most workers do not need it.
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True), _PeakBytes() as counter:
        run()
    return counter.peak


def chunks_that_fit(peak_bytes: Callable[[int], int], free_bytes: int) -> int:
    """The largest batch whose predicted peak fits into the usable fraction of the free memory; 1 or more.

    Args:
        peak_bytes: function of a number of chunks; returns the predicted peak, which must grow linearly.
        free_bytes: free memory of the device.
    """
    one, two = peak_bytes(1), peak_bytes(2)
    per_chunk = max(two - one, 1)
    return max(1, min(MAX_CHUNKS_IN_FLIGHT, 1 + int((_USABLE * free_bytes - one) // per_chunk)))
