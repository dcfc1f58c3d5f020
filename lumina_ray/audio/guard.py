"""Calling functions in a process of its own, as a file may crash the decoder or keep it busy for ever.

Libraries were tried in its place. A worker of pebble 5.2 that is killed while it sends its result keeps the pool's
lock, and the next call waits for ever. One that hangs in C lives on when its parent is killed. anyio's `to_process`
does not say which signal ended a worker, so that a lack of memory looks like a file that crashes the decoder. Both run
the caller's main module again in the child.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from lumina_ray.errors import LuminaError


class CallFailed(Exception):
    """A function ended its process, or raised what it should not.

    Attributes:
        signal: what ended the process: SIGALRM where time was up, SIGKILL where the system did it, `Guard.end`, or a
            lack of memory; 0 where it ended by itself, or only the function failed.
        raised: the function failed, and the process lives.
    """

    def __init__(self, how: str, signal: int = 0, raised: bool = False) -> None:
        super().__init__(how, signal, raised)
        self.signal = signal
        self.raised = raised

    def __str__(self) -> str:
        return str(self.args[0])


class Guard:
    """One child process, which calls functions one at a time and ends with this process."""

    def __init__(self) -> None:
        self.process = _start()

    def call(
        self, function: Callable, *arguments: Any, limit_s: float, process: subprocess.Popen[bytes] | None = None
    ) -> Any:
        """Call a function that the child can import, and return its result.

        Args:
            process: call it only in this process of the guard, and not if `end` has replaced it since.

        Raises:
            LuminaError: the function did.
            CallFailed: it crashed, hung for `limit_s`, or raised anything else. The next call has another process.
        """
        process = process or self.process
        assert process.stdin
        assert process.stdout
        try:
            pickle.dump((function, arguments, limit_s), process.stdin)
            process.stdin.flush()
            made = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            ended_by = -process.wait()
            if self.process is process:
                self.process = _start()
            how = signal.Signals(ended_by).name if ended_by > 0 else f"exit code {-ended_by}"
            raise CallFailed(how, max(ended_by, 0)) from None
        if isinstance(made, LuminaError | CallFailed):
            raise made
        return made

    def end(self) -> None:
        """End the call under way, which another thread waits for."""
        process = self.process
        try:
            self.process = _start()
        finally:
            # Also where no other can be started: its answer would be taken for that of the next call.
            process.kill()

    def close(self) -> None:
        """End the process, once no call is under way and none will be."""
        with self.process:
            self.process.kill()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # Not as a script: what it pickles would belong to its `__main__`, which nobody else has.
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Songs have megabytes: by default they would come through in pieces of 64 KiB.
        pipesize=1 << 20,
        # A terminal's Ctrl-C is for the parent: the child would print where it was.
        process_group=0,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def main() -> None:
    """Call what comes on standard input, until it ends."""
    try:
        _answer()
    except MemoryError:
        # As the system does it: neither way says anything of the arguments.
        os.kill(os.getpid(), signal.SIGKILL)


def _answer() -> None:
    with open(0, "rb") as requests, open(os.dup(1), "wb") as answers:
        # A library that prints shall not write into an answer.
        os.dup2(2, 1)
        while requests.peek(1):
            function, arguments, limit_s = pickle.load(requests)
            # Nobody handles it: it ends the process wherever that is, in C code too, and even without a parent.
            signal.setitimer(signal.ITIMER_REAL, limit_s)
            try:
                made = function(*arguments)
            except LuminaError as error:
                made = error
            except MemoryError:
                raise
            except Exception as error:
                made = CallFailed(f"{type(error).__name__}: {error}", raised=True)
            signal.setitimer(signal.ITIMER_REAL, 0)
            pickle.dump(made, answers)
            answers.flush()
