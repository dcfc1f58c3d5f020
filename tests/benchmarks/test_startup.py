"""Cold runs of commands: their own processor time, and no figure of a command that failed."""

import subprocess
import sys

import pytest

from benchmarks.startup import run_cold


def test_the_processor_time_is_that_of_the_process() -> None:
    # It stops itself at a processor time, which no other program on the machine can change.
    code = "import time\nwhile time.process_time() < 0.3: pass"
    cpu_s, wall_s = run_cold([sys.executable, "-c", code])
    assert cpu_s >= 0.3
    assert wall_s > 0.29


def test_a_command_that_fails_has_no_figure() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_cold([sys.executable, "-c", "raise SystemExit(3)"])
