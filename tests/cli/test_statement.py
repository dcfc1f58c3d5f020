"""`lumina statement`, and `sign` and `verify` of statements."""

import hashlib
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.running import run_lumina
from tests.statement.making import changed, of_audio, real_reports


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    for number, report in enumerate(real_reports(6)):
        (folder / f"{number}.json").write_bytes(of_audio(report, number))
    return folder


def test_a_statement_is_made_signed_and_verified(folder: Path, tmp_path: Path) -> None:
    asked = ("--by", "owner", "--period", "2026-Q3")
    out, key = tmp_path / "out", tmp_path / "key.pem"
    assert run_lumina("keygen", "--out", str(key)).exit_code == 0
    done = run_lumina("statement", str(folder), *asked, "--out", str(out), "--key", str(key), "--json")
    assert done.exit_code == 0, done.stderr
    whole = out / "statement.json"
    assert done.stdout.encode() == whole.read_bytes()
    assert hashlib.sha256(whole.read_bytes()).hexdigest() in done.stderr
    shown = run_lumina("statement", str(folder), *asked)
    assert "unattributed" in shown.stdout
    assert "6 reports counted" in shown.stdout
    own = next((out / "holders").glob("*.json"))
    for file in (whole, own):
        assert run_lumina("verify", str(file)).stdout.startswith("whole: statement")
        found = run_lumina(*("verify", str(file), "--reports", str(folder), "--public-key", f"{key}.pub", "--json"))
        assert found.exit_code == 0, found.stderr
        assert json.loads(found.stdout)["result"] == "identical"
        assert json.loads(found.stdout)["signer_known"]
    fewer = run_lumina("verify", str(whole), "--reports", str(folder / "0.json"))
    assert fewer.exit_code == 5
    assert fewer.stdout.startswith("different: ")
    (out / "statement.json.sig").unlink()
    assert run_lumina("verify", str(whole), "--public-key", f"{key}.pub").exit_code == 7
    assert run_lumina("sign", str(whole), "--key", str(key)).exit_code == 0
    assert run_lumina("verify", str(whole), "--public-key", f"{key}.pub").exit_code == 0


def test_reports_come_from_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--by", "song", "--period", "2026", "--json")
    lines = b"\n".join(file.read_bytes() for file in folder.iterdir())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(lines)))
    assert run_lumina("statement", "-", *asked).stdout == run_lumina("statement", str(folder), *asked).stdout


def test_what_cannot_be_added_up_is_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(
        changed((folder / "0.json").read_bytes(), lambda values: values["policy"].update(top_k=3))
    )
    (tmp_path / "junk.json").write_bytes(b"junk")
    for arguments, cause in (
        ([str(folder), str(tmp_path / "other.json"), "--by", "owner", "--period", "2026"], "cannot be added up"),
        ([str(tmp_path / "junk.json"), "--by", "owner", "--period", "2026"], "junk.json: not an attribution report"),
        ([str(folder), "--by", "owner", "--period", "autumn"], "is no period"),
        ([str(tmp_path / "none"), "--by", "owner", "--period", "2026"], "check the path"),
        ([str(folder), "--by", "owner", "--period", "2026", "--index", str(tmp_path)], "is no index folder"),
    ):
        done = run_lumina("statement", *arguments)
        assert done.exit_code == 2
        assert cause in done.stderr
        assert done.stderr.count("\n") == 1
    report = run_lumina("verify", str(folder / "0.json"), "--reports", str(folder))
    assert (report.exit_code, "is a report" in report.stderr) == (2, True)
