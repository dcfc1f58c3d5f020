"""A function in a process of its own answers its own call, and no other."""

import errno
import signal

import pytest

from lumina_ray.audio.guard import CallFailed, Guard


def test_a_call_that_was_ended_is_over_even_if_no_process_can_take_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = Guard()
    busy = guard.process

    def refuse() -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    with monkeypatch.context() as patch:
        patch.setattr("lumina_ray.audio.guard._start", refuse)
        with pytest.raises(OSError, match="no more processes"):
            guard.end()
    assert busy.wait(timeout=10) == -signal.SIGKILL
    # The next call finds out, and the one after it has a process again.
    with pytest.raises(CallFailed):
        guard.call(len, "ab", limit_s=60.0)
    assert guard.call(len, "ab", limit_s=60.0) == 2
    guard.end()
