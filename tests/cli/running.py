"""The command line in this process: what `lumina` prints, and its exit code, in milliseconds."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from lumina_ray.cli.main import run


@dataclass(frozen=True)
class Done:
    """The output of a command, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str


def run_lumina(*arguments: str) -> Done:
    """Run `lumina ARGUMENTS` as its script does. What it raises, and would end in a traceback, is raised here."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
    code = 0
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "argv", ["lumina", *arguments]):
        try:
            run()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
    return Done(code, *texts)
