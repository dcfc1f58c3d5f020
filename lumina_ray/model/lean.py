"""Keeps out of a process what transformers imports at once and only compiling, sharding and detecting objects need.

torch's compiler, its tensors over several machines and SciPy's optimisers take as long to import as torch and the rest
of transformers together. transformers also runs where torch has no `distributed` and where there is no SciPy, so it is
told that both are missing; the compiler gets a stand-in for as long as the import takes.

A process that has imported transformers in this way cannot shard a model over several machines through transformers.
So it is done only where `only_run_models` was called: the `lumina` command, workers and replicas, whose processes are
this software's own. Whoever imports `lumina_ray` as a library gets transformers as it is.
"""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"
_MASKS = f"{_COMPILER}._trace_wrapped_higher_order_op"
_MISSING = ("is_torch_distributed_available", "is_scipy_available")
_NOTHING = object()
_own = False


def only_run_models() -> None:
    """Say that this process is the software's own, and runs models without compiling or sharding them."""
    global _own
    _own = True


def import_transformers() -> None:
    """Import the parts of transformers that a MusicGen needs, where `only_run_models` was called; else do nothing."""
    if not _own or _COMPILER in sys.modules or "transformers.modeling_utils" in sys.modules:
        return
    import transformers.utils

    with ExitStack() as replaced:
        for module in (transformers.utils, transformers.utils.import_utils):
            for name in _MISSING:
                replaced.enter_context(_replaced(module, name, _no))
        replaced.enter_context(_without_compiler())
        for part in ("musicgen.modeling_musicgen", "encodec.modeling_encodec", "t5.modeling_t5", "auto"):
            import_module(f"transformers.models.{part}")


@contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """Give a module another value under a name within the block."""
    before = vars(module).get(name, _NOTHING)
    setattr(module, name, value)
    try:
        yield
    finally:
        if before is _NOTHING:
            delattr(module, name)
        else:
            setattr(module, name, before)


@functools.cache
def _no() -> bool:
    return False


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Give a stand-in to whoever imports the compiler within the block, and the compiler itself to whoever does later.

    Functions that are decorated meanwhile are as they would be, unless something compiles them later.
    """
    import torch

    stand_in, masks = ModuleType(_COMPILER), ModuleType(_MASKS)
    stand_in.__path__ = []
    for name in ("disable", "allow_in_graph", "assume_constant_result"):
        setattr(stand_in, name, _unchanged)
    # Only masks that somebody else's code defines need it; the class itself is imported then.
    masks.TransformGetItemToIndex = lambda: import_module(_MASKS).TransformGetItemToIndex()  # type: ignore[attr-defined]
    sys.modules |= {_COMPILER: stand_in, _MASKS: masks}
    try:
        with _replaced(torch, "_dynamo", stand_in), _replaced(torch.compiler, "disable", _unchanged):
            yield
    finally:
        for name, module in ((_COMPILER, stand_in), (_MASKS, masks)):
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _unchanged(function: Callable[..., Any] | None = None, *_args: object, **_options: object) -> Callable[..., Any]:
    """Return a function as it is, also as a decorator with options."""
    return _unchanged if function is None else function
