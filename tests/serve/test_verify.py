"""`lumina verify` on a real model and index: what it says of true, false and foreign reports, and its exit codes."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lumina_ray.cli.main import run
from lumina_ray.front.index import open_index
from lumina_ray.report import to_json
from lumina_ray.report.sign import make_key, sign_report
from tests.serve.conftest import sound, wav

# What the command was called with → its exit code, standard output and standard error.
Lumina = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lumina(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lumina:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lumina", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            run()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture(scope="session")
def original(index_dir: Path, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `query.wav` and the report on it."""
    folder = tmp_path_factory.mktemp("verify")
    (folder / "query.wav").write_bytes(wav(sound(3, 12.0)))
    report = open_index(index_dir, model=model_dir).attribute(folder / "query.wav")
    (folder / "report.json").write_bytes(to_json(report).encode())
    return folder


@pytest.fixture
def case(original: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(original, tmp_path / "case")


@pytest.fixture
def verify(lumina: Lumina, case: Path, index_dir: Path, model_dir: Path) -> Lumina:
    def call(*more: str | Path, audio: str = "query.wav", index: Path = index_dir, model: str = str(model_dir)):
        where = ("--audio", case / audio, "--index", index, "--model", model, "--device", "cpu")
        return lumina("verify", case / "report.json", *where, *more)

    return call


def test_a_true_report_is_identical(verify: Lumina) -> None:
    code, out, _ = verify()
    assert code == 0
    assert out.startswith("identical: every byte")
    assert "Not signed." in out


def test_one_number_changed_is_found(verify: Lumina, case: Path) -> None:
    report = json.loads((case / "report.json").read_text())
    candidate = report["near_copies"]["M"]["candidates"][1]
    candidate["similarity"], true = candidate["similarity"] + 1e-9, candidate["similarity"]
    (case / "report.json").write_text(
        json.dumps(report, sort_keys=True, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    code, out, _ = verify("--json")
    assert code == 5
    assert json.loads(out)["difference"] == {
        "path": "/near_copies/M/candidates/1/similarity",
        "report": candidate["similarity"],
        "recomputed": true,
    }


def test_another_file_is_not_what_the_report_is_about(verify: Lumina, case: Path) -> None:
    (case / "other.wav").write_bytes(wav(sound(4, 12.0)))
    code, out, err = verify(audio="other.wav")
    assert (code, out) == (2, "")
    assert "another file" in err


def test_a_missing_snapshot_is_said_to_be_missing(verify: Lumina, index_dir: Path, case: Path) -> None:
    shutil.copytree(index_dir / "v0001", case / "index" / "v0002")
    code, out, err = verify(index=case / "index")
    assert (code, out) == (2, "")
    assert "does not hold snapshot v0001" in err


def test_another_model_is_refused(verify: Lumina) -> None:
    code, _, err = verify(model="nano")
    assert code == 2
    assert "was made with weights" in err


def test_a_signature_must_hold_and_be_the_right_one(verify: Lumina, case: Path) -> None:
    public = make_key(case / "operator.pem")
    assert verify("--public-key", public)[0] == 7
    signature = sign_report(case / "report.json", case / "operator.pem")
    code, out, _ = verify("--public-key", public, "--json")
    answer = json.loads(out)
    assert (code, answer["result"], answer["signer_known"]) == (0, "identical", True)

    code, out, err = verify("--public-key", make_key(case / "other.pem"))
    assert (code, out) == (7, "")
    assert "signed by key" in err

    forged = json.loads(signature.read_text())
    forged["signature"] = "00" * 64
    signature.write_text(json.dumps(forged))
    code, _, err = verify()
    assert code == 7
    assert "forged" in err


def test_another_environment_is_never_identical(verify: Lumina, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "ANOTHER")
    code, out, _ = verify()
    assert code == 6
    assert out.startswith("close, and not identical")
    assert "ANOTHER" in out
