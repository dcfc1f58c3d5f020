"""The public command line, frozen: names and options that scripts rely on, errors and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer

from lumina_ray.audio import load_audio
from lumina_ray.cli.main import app, fingerprint, run
from lumina_ray.cli.options import KindName
from lumina_ray.fingerprint import KINDS
from lumina_ray.methods import METHODS

COMMANDS = {
    "attribute": {"--index", "--url", "--key", "--policy", "--top-k", "--model", "--device", "--html", "--json"},
    "calibrate": {"--controls", "--json"},
    "catalog add": {
        "--model",
        "--fingerprint",
        "--channels",
        "--dtype",
        "--device",
        "--workers",
        "--max-failed-fraction",
        "--json",
    },
    "catalog log": {"--json"},
    "catalog purge": {"--json"},
    "catalog remove": {"--json"},
    "catalog replace": {"--model", "--device", "--workers", "--max-failed-fraction", "--json"},
    "catalog demo": {"--out", "--json"},
    "catalog games": {"--out", "--json"},
    "catalog scan": {"--out", "--json"},
    "demo": {"--out", "--port"},
    "evaluate": {"--method", "--split", "--out", "--json"},
    "export": {"--out", "--json"},
    "failed": {"--json"},
    "fingerprint": {
        "--out",
        "--model",
        "--fingerprint",
        "--channels",
        "--dtype",
        "--device",
        "--workers",
        "--decoders",
        "--max-failed-fraction",
        "--json",
    },
    "statistics": {"--device", "--json"},
    "generate": {"--out", "--model", "--seconds", "--seed", "--device", "--json"},
    "index": {"--out", "--kind", "--memory-gib", "--recall", "--parallel", "--json"},
    "keys add": {"--file", "--per-minute", "--json"},
    "keys list": {"--file", "--json"},
    "keys revoke": {"--file", "--json"},
    "methods": {"--json"},
    "plan": {"--model", "--fingerprint", "--channels", "--dtype", "--gpus", "--decoders", "--json"},
    "scores": {"--catalog", "--queries", "--learning-rate", "--top", "--out", "--json"},
    "status": {"--json"},
    "serve": {"--index", "--model", "--port", "--host", "--device", "--keys", "--open"},
    "truth build": {"--out", "--size", "--json"},
    "truth ablate": {"--out", "--method", "--top", "--queries", "--lots", "--json"},
    "use": {"--controls", "--reference", "--model", "--device", "--workers", "--json"},
    "keygen": {"--out", "--json"},
    "sign": {"--key", "--json"},
    "verify": {"--audio", "--index", "--model", "--device", "--public-key", "--json"},
}


def test_kinds_are_those_of_the_library() -> None:
    assert get_args(KindName) == KINDS


def test_commands_and_options_are_the_published_ones() -> None:
    found = {}
    root = typer.main.get_command(app)
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for full, leaf in (
            [(f"{name} {sub}", c) for sub, c in command.commands.items()]
            if hasattr(command, "commands")
            else [(name, command)]
        ):
            found[full] = {o for p in leaf.params for o in p.opts if o.startswith("--")} - {"--help"}
            assert leaf.help, f"{full} has no help"
    assert found == COMMANDS


def test_every_kind_of_fingerprint_can_be_asked_for() -> None:
    assert get_args(get_type_hints(fingerprint)["fingerprint"]) == KINDS


def test_methods_are_listed_for_people_and_machines() -> None:
    listed = lumina("methods").stdout
    assert all(method in listed for method in METHODS)
    assert [row["method"] for row in json.loads(lumina("methods", "--json").stdout)] == list(METHODS)


def lumina(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lumina_ray.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attribute", "nothing.wav", "--index", "nowhere"), "nowhere"),
        (("attribute", "nothing.wav", "--index", "x", "--url", "http://x"), "either --index"),
        (("attribute", "nothing.wav", "--url", "x"), "no URL of an endpoint"),
        (("index", "nowhere", "--out", "x"), "no fingerprint store"),
        (("status", "nowhere"), "no fingerprint store"),
        (("failed", "nowhere"), "no fingerprint store"),
        (("calibrate", "nowhere", "--controls", "x"), "no fingerprint store"),
        (("use", "nowhere", "--controls", "x", "--reference", "nano-early"), "no fingerprint store"),
        (("catalog", "scan", "nowhere", "--out", "x.parquet"), "nowhere"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    done = lumina(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_missing_audio_file_is_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(sys, "argv", ["lumina", "attribute", "nothing.wav", "--index", "x", "--device", "cpu"])
    monkeypatch.setattr("lumina_ray.attribution.audio.attribute_audio", lambda audio, *_, **__: load_audio(audio))
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "lumina: nothing.wav: no such file; check the path\n"


def test_json_errors_are_json() -> None:
    done = lumina("index", "nowhere", "--out", "x", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "store.invalid"
