"""The public command line, frozen: names and options that scripts rely on, errors and exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import typer

import lumina_ray
from lumina_ray.audio import load_audio
from lumina_ray.cli.main import app, fingerprint, run
from lumina_ray.fingerprint.kinds import KIND_NAMES
from lumina_ray.methods import METHODS

COMMANDS = {
    "attribute": {
        "--index",
        "--url",
        "--key",
        "--policy",
        "--model",
        "--top-k",
        "--candidates",
        "--device",
        "--out",
        "--html",
        "--csv",
        "--confirm",
        "--store",
        "--fisher",
        "--replay",
        "--wide",
        "--json",
    },
    "calibrate": {"--controls", "--guarantee", "--queries", "--pieces", "--other-pieces", "--json"},
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
    "catalog purge": {"--reason", "--json"},
    "catalog remove": {"--reason", "--json"},
    "catalog replace": {"--model", "--device", "--workers", "--max-failed-fraction", "--json"},
    "catalog demo": {"--out", "--json"},
    "catalog games": {"--out", "--json"},
    "catalog scan": {"--out", "--json"},
    "demo": {"--out", "--port", "--model"},
    "diagnose": {
        "--features",
        "--genres",
        "--size",
        "--random",
        "--seed",
        "--normalisation",
        "--likeness",
        "--channels",
        "--out",
        "--json",
    },
    "effects fit": {"--out", "--method", "--device", "--json"},
    "evaluate": {"--method", "--split", "--out", "--wide", "--json"},
    "evidence build": {"--out", "--controls", "--json"},
    "evidence features": {"--out", "--json"},
    "evidence search": {"--catalog", "--controls", "--top", "--json"},
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
    "statistics": {"--companion", "--device", "--json"},
    "fisher": {"--out", "--device", "--workers", "--json"},
    "forget": {
        "--songs",
        "--store",
        "--out",
        "--controls",
        "--fisher",
        "--nats",
        "--layers",
        "--device",
        "--json",
    },
    "generate": {
        "--out",
        "--model",
        "--seconds",
        "--text",
        "--continue",
        "--guidance",
        "--seed",
        "--device",
        "--json",
    },
    "index": {
        "--out",
        "--kind",
        "--memory-gib",
        "--recall",
        "--parallel",
        "--effects",
        "--effects-kind",
        "--json",
    },
    "keys add": {"--file", "--per-minute", "--json"},
    "keys list": {"--file", "--json"},
    "keys revoke": {"--file", "--json"},
    "methods": {"--json"},
    "plan": {"--model", "--fingerprint", "--channels", "--dtype", "--gpus", "--decoders", "--replay", "--json"},
    "scores": {
        "--catalog",
        "--queries",
        "--learning-rate",
        "--top",
        "--out",
        "--model",
        "--fisher",
        "--score",
        "--layers",
        "--json",
    },
    "statement": {"--by", "--period", "--out", "--index", "--public-key", "--key", "--workers", "--json"},
    "status": {"--json"},
    "serve": {"--index", "--model", "--port", "--host", "--device", "--keys", "--open", "--store", "--fisher"},
    "train": {"--base", "--catalog", "--out", "--epochs", "--batch", "--rate", "--seed", "--plan", "--json"},
    "train-nano": {
        "--catalog",
        "--controls",
        "--out",
        "--stage",
        "--codec",
        "--codec-steps",
        "--lm-steps",
        "--dit-steps",
        "--report-every",
        "--seed",
        "--threads",
        "--json",
    },
    "truth build": {
        "--out",
        "--size",
        "--family",
        "--base",
        "--catalog",
        "--controls",
        "--halves",
        "--removals",
        "--singles",
        "--repeats",
        "--pieces",
        "--epochs",
        "--plan",
        "--json",
    },
    "truth ablate": {"--out", "--method", "--top", "--queries", "--random-removals", "--json"},
    "truth factorial": {"--out", "--method", "--split", "--model", "--wide", "--json"},
    "symbolic build": {"--out", "--size", "--json"},
    "symbolic card": {"--recipe", "--device", "--out", "--json"},
    "symbolic features": {"--out", "--json"},
    "use": {"--controls", "--reference", "--model", "--device", "--workers", "--json"},
    "keygen": {"--out", "--json"},
    "sign": {"--key", "--json"},
    "verify": {"--audio", "--index", "--model", "--device", "--reports", "--public-key", "--json"},
}


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
            first = leaf.help.split()[0]
            assert first.istitle(), f"{full}: {first} is no verb"
            assert first not in ("A", "How", "The", "What", "Who"), f"{full}: {first} is no verb"
    assert found == COMMANDS


def test_panels_follow_the_work() -> None:
    root = typer.main.get_command(app)
    listed: dict[str, list[str]] = {}
    for name in root.list_commands(None):  # type: ignore[attr-defined, arg-type]
        listed.setdefault(root.commands[name].rich_help_panel, []).append(name)  # type: ignore[attr-defined]
    assert listed == {
        "Catalog": ["catalog"],
        "Fingerprint": ["plan", "fingerprint", "status", "failed", "export", "statistics", "fisher"],
        "Trust": ["calibrate", "use"],
        "Index": ["index"],
        "Attribute": ["attribute", "methods", "scores", "evidence", "diagnose"],
        "Serve": ["serve", "keys"],
        "Ground truth": ["evaluate", "truth", "effects", "symbolic"],
        "Reports": ["statement", "keygen", "sign", "verify"],
        "Tools": ["demo", "generate", "forget", "train", "train-nano"],
    }
    assert set(root.commands) == {name for names in listed.values() for name in names}  # type: ignore[attr-defined]


def test_version() -> None:
    assert lumina("--version").stdout == f"lumina-ray {lumina_ray.__version__}\n"


def test_public_call_of_the_job_is_frozen() -> None:
    """`ray job submit` scripts and the `lumina` command rely on these names."""
    assert list(fingerprint.__annotations__) == [
        "manifest",
        "out",
        "model",
        "fingerprint",
        "channels",
        "dtype",
        "device",
        "workers",
        "decoders",
        "max_failed_fraction",
        "as_json",
        "return",
    ]


def test_every_kind_of_fingerprint_can_be_asked_for() -> None:
    hints = get_type_hints(fingerprint, include_extras=True)["fingerprint"]
    named = get_args(hints)[0]
    assert get_args(get_args(named)[0]) == KIND_NAMES


def test_methods_are_listed_for_people_and_machines() -> None:
    listed = lumina("methods").stdout
    assert all(method in listed for method in METHODS)
    assert [row["method"] for row in json.loads(lumina("methods", "--json").stdout)] == list(METHODS)


def lumina(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lumina_ray", *arguments],
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
        (("attribute", "a.wav", "b.wav", "--url", "http://x"), "--out FOLDER"),
        (("attribute", "nothing.csv", "--url", "http://x", "--out", "x"), "no such file"),
        (("attribute", "nothing.wav", "--index", "x", "--device", "gpu"), "auto, cpu, cuda, cuda:N"),
        (("serve", "--index", "x", "--open", "--device", "cuda:1"), "must be auto, cpu or cuda"),
        (("fingerprint", "x.csv", "--out", "y", "--device", "banana"), "must be auto, cpu or cuda"),
        (("catalog", "add", "x", "y.csv", "--device", "gpu"), "must be auto, cpu or cuda"),
        (("use", "x", "--controls", "y", "--reference", "z", "--device", "gpu"), "must be auto, cpu or cuda"),
        (("verify", "x", "--audio", "y", "--index", "z", "--device", "gpu"), "x: cannot be read"),
        (("statement", "nowhere", "--by", "owner", "--period", "2026"), "nowhere: cannot be read"),
        (("verify", "nowhere"), "nowhere: cannot be read"),
        (("statistics", "x", "nano"), "nano: is not a folder"),
        (("calibrate", "s3://", "--controls", "x"), "s3://BUCKET/NAME"),
        (("index", "nowhere", "--out", "x"), "no fingerprint store"),
        (("status", "nowhere"), "no fingerprint store"),
        (("failed", "nowhere"), "no fingerprint store"),
        (("calibrate", "nowhere", "--controls", "x"), "no fingerprint store"),
        (("calibrate", "x", "--controls", "x", "--other-pieces", "store"), "NAME=STORE"),
        (("use", "nowhere", "--controls", "x", "--reference", "nano-early"), "no fingerprint store"),
        (("catalog", "scan", "nowhere", "--out", "x.parquet"), "nowhere"),
        (("plan",), "either a MANIFEST, or --replay RUN"),
        (("plan", "x.csv", "--replay", "y"), "either a MANIFEST, or --replay RUN"),
        (("plan", "--replay", "y", "--gpus", "2"), "RUN alone decides"),
        (("plan", "--replay", "nowhere"), "nowhere: no finished run; `lumina train` makes one"),
        (("symbolic", "card", "nowhere"), "no finished symbolic bank"),
        (("symbolic", "card", "nowhere", "--recipe", "dattri", "--device", "cpu"), "the folder that dattri downloads"),
        (("symbolic", "card", "nowhere", "--device", "cpu"), "--device is of --recipe dattri"),
        (("truth", "build", "--out", "x", "--family", "dit", "--size", "nano"), "--size is of MusicGens"),
        (("truth", "build", "--out", "x", "--family", "dit", "--base", "nano"), "--base is of a MusicGen"),
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
    monkeypatch.setattr("lumina_ray.front.index.load_snapshot", lambda _: None)
    monkeypatch.setattr("lumina_ray.front.index.Index.attribute", lambda _, audio, *__: load_audio(audio))
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "lumina: nothing.wav: no such file; check the path\n"


def test_json_errors_are_json() -> None:
    done = lumina("index", "nowhere", "--out", "x", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "store.invalid"
