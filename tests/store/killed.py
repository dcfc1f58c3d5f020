"""A process that is killed at a chosen place, as far as the files can tell: nothing is cleaned up any more."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lumina_ray.files import TEMPORARY_SUFFIX


class Killed(BaseException):
    """Nothing catches it."""


@contextmanager
def killed_before_rename(number: int) -> Iterator[None]:
    """Of the files that are written whole in the block, the `number`-th, from 1, is never put in its place."""
    rename, unlink, left = os.replace, Path.unlink, number

    def die_or_rename(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed
        rename(source, target)

    def unlink_unless_dead(path: Path, missing_ok: bool = False) -> None:
        if left or not path.name.endswith(TEMPORARY_SUFFIX):
            unlink(path, missing_ok)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, "replace", die_or_rename)
        patch.setattr(Path, "unlink", unlink_unless_dead)
        yield
