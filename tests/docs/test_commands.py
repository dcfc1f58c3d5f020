"""Every command that a document names exists, with the options that it is given."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from lumina_ray.cli.main import app
from tests.docs.pages import PAGES, code, name

# They say how the command line was, too.
HISTORY = {"CHANGELOG.md"}
_COMMAND = re.compile(r"(?:^|[\s$(|])(?:lumina|python -m lumina_ray) (?P<words>[^|;&#)]*)")


def fault(words: list[str]) -> str | None:
    """The mistake in the words after `lumina`, if there is one; words in capitals and dots stand for others."""
    command = typer.main.get_command(app)
    path = "lumina"
    while words and hasattr(command, "commands"):
        word = words[0]
        if word.startswith("…") or word.isupper():
            # Any command is meant.
            return None
        if word.startswith("-"):
            break
        if word not in command.commands:
            return f"{path} has no command {word!r}"
        command, path, words = command.commands[word], f"{path} {word}", words[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
    for word in words:
        option = word.partition("=")[0].rstrip("…,.")
        if re.match(r"--?[a-z]", option) and not set(option.split("|")) <= options:
            return f"{path} has no option {option}"
    return None


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=name)
def test_commands_exist_with_their_options(page: Path) -> None:
    faults = []
    for line in code(page):
        for command in _COMMAND.finditer(line):
            try:
                words = shlex.split(command["words"])
            except ValueError:
                words = command["words"].split()
            if found := fault(words):
                faults.append((line.strip(), found))
    assert faults == []


def test_what_does_not_exist_is_found() -> None:
    assert fault(["fingerprint", "songs.csv", "--out", "store"]) is None
    assert fault(["fingerprint", "--uot", "store"]) == "lumina fingerprint has no option --uot"
    assert fault(["catalog", "scna", "music"]) == "lumina catalog has no command 'scna'"
    assert fault(["fingreprint"]) == "lumina has no command 'fingreprint'"
