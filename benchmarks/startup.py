"""Time the start of commands: cold processes, beside what `import torch` alone takes.

    python -m benchmarks.startup --index INDEX AUDIO AUDIO...

Each command runs in a process of its own, several times in turn; files and byte code are in the system's memory from a
first run that does not count. "CPU" is user and system time of the process, the least of all runs: on a machine that
others use too, it tells more than the wall. "Each further file" is what several files take more than one, per file.
Writes results/startup.json.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.environment import describe_machine

RESULTS = Path(__file__).parent / "results"
_FLOOR = "import torch"


@dataclass(frozen=True)
class Start:
    """Cold runs of one command, or a difference of two of them.

    Attributes:
        cpu_s: least processor time of a run, in seconds.
        wall_s: least wall time.
        of_torch: `cpu_s` over that of `import torch`.
    """

    name: str
    cpu_s: float
    wall_s: float
    of_torch: float


def run_cold(command: list[str]) -> tuple[float, float]:
    """Run a command with no output, and give the processor time and the wall time of its process, in seconds."""
    begin_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_utime + used.ru_stime, time.perf_counter() - begin_s


def measure(index: Path, audio: list[Path], repeats: int) -> list[Start]:
    """Run all commands in turn, and compare them."""
    lumina = [sys.executable, "-m", "lumina_ray"]
    with tempfile.TemporaryDirectory() as folder:
        attribute = [*lumina, "attribute", "--index", str(index), "--json"]
        commands = {
            "python": [sys.executable, "-c", "pass"],
            _FLOOR: [sys.executable, "-c", "import torch"],
            "lumina --help": [*lumina, "--help"],
            "lumina attribute, one file": [*attribute, str(audio[0])],
        }
        if len(audio) > 1:
            commands["all files"] = [*attribute, "--csv", f"{folder}/all.csv", *map(str, audio)]
        for command in commands.values():
            run_cold(command)
        runs = [{name: run_cold(command) for name, command in commands.items()} for _ in range(repeats)]
    least = {name: tuple(min(run[name][i] for run in runs) for i in range(2)) for name in commands}
    if len(audio) > 1:
        every, one, more = least.pop("all files"), least["lumina attribute, one file"], len(audio) - 1
        least["each further file"] = ((every[0] - one[0]) / more, (every[1] - one[1]) / more)
    return [Start(name, cpu_s, wall_s, cpu_s / least[_FLOOR][0]) for name, (cpu_s, wall_s) in least.items()]


def main(
    audio: Annotated[list[Path], typer.Argument(exists=True, help="Audio files, of 10 s where figures are compared.")],
    index: Annotated[Path, typer.Option(exists=True, help="An index folder.")],
    repeats: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Measure on this machine and print seconds."""
    machine = describe_machine()
    starts = measure(index, audio, repeats)
    table = Table("", "CPU s", "wall s", f"CPU, of {_FLOOR}", title=f"Least of {repeats} cold runs")
    for start in starts:
        table.add_row(start.name, f"{start.cpu_s:.2f}", f"{start.wall_s:.2f}", f"{start.of_torch:.2f}")
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    summary = {"starts": [asdict(start) for start in starts], "repeats": repeats, "environment": machine}
    (RESULTS / "startup.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
