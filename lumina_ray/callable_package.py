"""Packages that can be called: `lumina_ray.index(…)` is a verb of the front door, and `lumina_ray.index` a package.

Python binds an imported package to its name in the parent package. So a function cannot have the name of a package
beside it: the package itself must answer the call.
"""

import inspect
import sys
from importlib import import_module
from pkgutil import resolve_name
from types import ModuleType
from typing import Any


class _CallablePackage(ModuleType):
    _verb: str

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return resolve_name(self._verb)(*args, **kwargs)

    @property
    def __doc__(self) -> str:  # type: ignore[override]
        return str(resolve_name(self._verb).__doc__)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(resolve_name(self._verb))

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        # Ray sends modules by name, but only those of the very class ModuleType.
        return import_module, (self.__name__,)


def make_callable(package: str, verb: str) -> None:
    """Let calls of an imported package go to a function.

    Args:
        package: name of the package, which calls this from its own `__init__.py`.
        verb: address of the function, as `module:name`; imported by the first call.
    """
    module = sys.modules[package]
    module.__class__ = _CallablePackage
    vars(module)["_verb"] = verb
