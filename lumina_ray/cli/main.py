"""The `lumina` command: assembles the commands, each of which is a module of this package.

Every command is a thin shell over a function of the library, `cluster/` or `serve/`.
"""

import io
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import lumina_ray
from lumina_ray.cli.attribute import attribute
from lumina_ray.cli.calibrate import calibrate
from lumina_ray.cli.catalog import catalog
from lumina_ray.cli.demo import demo
from lumina_ray.cli.diagnose import diagnose
from lumina_ray.cli.effects import effects
from lumina_ray.cli.evaluate import evaluate
from lumina_ray.cli.evidence import evidence
from lumina_ray.cli.exits import BUG, SYSTEM, exit_code
from lumina_ray.cli.export import export
from lumina_ray.cli.fingerprint import fingerprint
from lumina_ray.cli.fisher import fisher
from lumina_ray.cli.forget import forget
from lumina_ray.cli.generate import generate
from lumina_ray.cli.index import index
from lumina_ray.cli.keys import keys
from lumina_ray.cli.methods import methods
from lumina_ray.cli.plan import plan
from lumina_ray.cli.scores import scores
from lumina_ray.cli.serve import serve
from lumina_ray.cli.statement import statement
from lumina_ray.cli.statistics import statistics
from lumina_ray.cli.status import failed, status
from lumina_ray.cli.symbolic import symbolic
from lumina_ray.cli.train import train
from lumina_ray.cli.train_nano import train_nano
from lumina_ray.cli.truth import truth
from lumina_ray.cli.use import use
from lumina_ray.cli.verify import keygen, sign, verify
from lumina_ray.errors import LuminaError, UsageError
from lumina_ray.model.lean import only_run_models

PANELS: dict[str, dict[str, Callable[..., Any]]] = {
    "Catalog": {"catalog": catalog},
    "Fingerprint": {
        "plan": plan,
        "fingerprint": fingerprint,
        "status": status,
        "failed": failed,
        "export": export,
        "statistics": statistics,
        "fisher": fisher,
    },
    "Trust": {"calibrate": calibrate, "use": use},
    "Index": {"index": index},
    "Attribute": {
        "attribute": attribute,
        "methods": methods,
        "scores": scores,
        "evidence": evidence,
        "diagnose": diagnose,
    },
    "Serve": {"serve": serve, "keys": keys},
    "Ground truth": {"evaluate": evaluate, "truth": truth, "effects": effects, "symbolic": symbolic},
    "Reports": {"statement": statement, "keygen": keygen, "sign": sign, "verify": verify},
    "Tools": {"demo": demo, "generate": generate, "forget": forget, "train": train, "train-nano": train_nano},
}
"""All commands in the order of the work, as `lumina --help` shows them."""


class _InOrder(TyperGroup):
    """Lists commands in the order of the panels; typer would put groups of commands last."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [name for commands in PANELS.values() for name in commands]


app = typer.Typer(
    cls=_InOrder,
    help="Which training songs shaped a piece of generated music, by how much, and how sure we are.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)


_CAUSE_CHARACTERS = 300


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lumina-ray {lumina_ray.__version__}")
        raise typer.Exit


@app.callback()
def lumina(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Take the options that come before a command."""


def run() -> None:
    """Run the command line: errors are one line, and exit codes are those of `lumina_ray/cli/exits.py`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names of files need not be text, nor can every terminal show all text.
            stream.reconfigure(errors="backslashreplace")
    only_run_models()
    try:
        app()
    except LuminaError as error:
        _fail(error.code, str(error), exit_code(error))
    except BrokenPipeError:
        # The reader of a pipe has seen enough; Python would complain when it flushes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        name = f"{error.filename}: " if error.filename is not None else ""
        _fail("system", f"{name}{error.strerror or error}; check the path, and the room on its disk", SYSTEM)
    except UnicodeError as error:
        _fail("usage", f"a name is not UTF-8 ({error}); rename the file or folder", exit_code(UsageError()))
    except Exception as error:
        # A fault of the software, and no fault of who typed the command: a traceback would only hide the line.
        with tempfile.NamedTemporaryFile("w", prefix="lumina-", suffix=".txt", delete=False, errors="replace") as file:
            file.write(traceback.format_exc())
        cause = f"{type(error).__name__}: {error}".splitlines()[0][:_CAUSE_CHARACTERS]
        _fail("lumina.bug", f"this should not happen: {cause}. Please report it with {file.name}", BUG)


def _fail(code: str, message: str, exit_code: int) -> NoReturn:
    if "--json" in sys.argv:
        print(json.dumps({"error": {"code": code, "message": message}}))
    # A name in it may hold a line break, or what steers a terminal.
    message = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], message)
    typer.secho(f"lumina: {message}", fg="red", err=True)
    sys.exit(exit_code)


if __name__ == "__main__":
    run()
