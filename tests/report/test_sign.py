"""Hashes and signatures, against other programs and against forgers."""

import hashlib
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from lumina_ray.attribution import Report
from lumina_ray.errors import SignatureError, UsageError
from lumina_ray.report import read_report, render_html, report_sha256, to_json
from lumina_ray.report.sign import Signature, check_signature, make_key, sign_report, signature_file


@pytest.fixture
def signed(reports: dict[str, Report], tmp_path: Path) -> Path:
    """A report file, signed with the key in `operator.pem`."""
    path = tmp_path / "report.json"
    path.write_bytes(to_json(reports["calibrated"]).encode())
    make_key(tmp_path / "operator.pem")
    sign_report(path, tmp_path / "operator.pem")
    return path


def test_the_hash_is_that_of_the_file(signed: Path) -> None:
    report = read_report(signed)
    assert report_sha256(report) == hashlib.sha256(signed.read_bytes()).hexdigest()
    assert report_sha256(report) in render_html(report)


@pytest.mark.parametrize("change", [b"\n", b" ", b'{"format_version":7,'])
def test_only_canonical_bytes_are_a_report(signed: Path, change: bytes) -> None:
    data = signed.read_bytes()
    # A key that is there twice would be read as one value here, and as the other one elsewhere.
    signed.write_bytes(change + data[1:] if change.startswith(b"{") else data + change)
    with pytest.raises(UsageError, match="not canonical JSON"):
        read_report(signed)


def test_a_report_of_another_format_says_so_in_one_line(signed: Path) -> None:
    signed.write_bytes(signed.read_bytes().replace(b'"format_version":7', b'"format_version":1'))
    with pytest.raises(UsageError, match="of this software version: format_version") as refused:
        read_report(signed)
    assert "\n" not in str(refused.value)


def test_a_signature_holds_by_its_own_key_and_by_the_operators(signed: Path) -> None:
    report, file = read_report(signed), signature_file(signed)
    public = Path(f"{signed.parent / 'operator.pem'}.pub")
    assert check_signature(report, file) == check_signature(report, file, public)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_comes_to_the_same_result(signed: Path) -> None:
    raw = signed.with_suffix(".raw")
    raw.write_bytes(bytes.fromhex(Signature.model_validate_json(signature_file(signed).read_bytes()).signature))
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", f"{signed.parent / 'operator.pem'}.pub", "-rawin"]
    command += ["-in", str(signed), "-sigfile", str(raw)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    signed.write_bytes(signed.read_bytes() + b" ")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


def test_a_private_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "operator.pem"
    public = make_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes(), public.read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        make_key(path)
    path.unlink()
    with pytest.raises(UsageError, match=r"\.pub exists"):
        make_key(path)
    assert public.read_bytes() == before[1]


def test_a_changed_report_is_not_what_was_signed(signed: Path, reports: dict[str, Report]) -> None:
    signed.write_bytes(to_json(reports["noise"]).encode())
    with pytest.raises(SignatureError, match="one was changed"):
        check_signature(read_report(signed), signature_file(signed))


def test_a_forged_signature_is_found_out(signed: Path, reports: dict[str, Report]) -> None:
    file, report = signature_file(signed), reports["noise"]
    forged = Signature.model_validate_json(file.read_bytes()).model_copy(
        update={"report_sha256": report_sha256(report)}
    )
    file.write_text(forged.model_dump_json())
    with pytest.raises(SignatureError, match="forged"):
        check_signature(report, file)


def test_another_key_is_not_the_operators(signed: Path) -> None:
    other = make_key(signed.parent / "other.pem")
    with pytest.raises(SignatureError, match="signed by key"):
        check_signature(read_report(signed), signature_file(signed), other)


@pytest.mark.parametrize("content", ["", "{}", '{"algorithm":"none"}'])
def test_a_damaged_signature_is_none(signed: Path, content: str) -> None:
    signature_file(signed).write_text(content)
    with pytest.raises(SignatureError, match="not a signature"):
        check_signature(read_report(signed), signature_file(signed))


def test_a_missing_signature_is_said_to_be_missing(signed: Path) -> None:
    signature_file(signed).unlink()
    with pytest.raises(SignatureError, match="beside the report"):
        check_signature(read_report(signed), signature_file(signed))


def test_only_an_ed25519_key_signs(signed: Path) -> None:
    public = Path(f"{signed.parent / 'operator.pem'}.pub")
    with pytest.raises(UsageError, match="private key"):
        sign_report(signed, public)
    with pytest.raises(UsageError, match="public key"):
        check_signature(read_report(signed), signature_file(signed), signed)
