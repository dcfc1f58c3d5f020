"""Signatures of reports and statements: Ed25519 over the canonical JSON, in a small file beside it.

Nothing of ours is needed to check one: the bytes that are signed are those of the file.
"""

import hashlib
import os
from pathlib import Path
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lumina_ray.attribution import Report
from lumina_ray.errors import SignatureError, UsageError
from lumina_ray.files import atomic_path, read_file
from lumina_ray.report.json import read_report, to_json

_Hex32 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Hex64 = Annotated[str, Field(pattern="^[0-9a-f]{128}$")]


Signed = Literal["report", "statement"]


class _Signature(BaseModel):
    # Keys and signatures are encoded as in RFC 8032, in hexadecimal.
    model_config = ConfigDict(frozen=True, extra="forbid")

    algorithm: Literal["Ed25519"] = "Ed25519"
    public_key: _Hex32
    signature: _Hex64


class Signature(_Signature):
    """The signature file beside a report. Keys and signatures are encoded as in RFC 8032, in hexadecimal."""

    report_sha256: _Hex32


class StatementSignature(_Signature):
    """The signature file beside a statement."""

    statement_sha256: _Hex32


_MODELS: dict[Signed, type[_Signature]] = {"report": Signature, "statement": StatementSignature}


def signature_file(report: Path) -> Path:
    return Path(f"{report}.sig")


def make_key(path: Path) -> Path:
    """Write a new private key (PEM, for its owner's eyes alone) and its public one to `path` with `.pub` behind it.

    Returns:
        The public key's file.

    Raises:
        UsageError: one of the files is there already.
    """
    public_path = Path(f"{path}.pub")
    if taken := [str(file) for file in (path, public_path) if file.exists()]:
        raise UsageError(f"{taken[0]} exists; a key is never overwritten: choose another name")
    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not written first and closed to others then: in between, anybody could read it.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_path.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return public_path


def sign_report(path: Path, private_key: Path) -> Path:
    """Sign a report file.

    Returns:
        The signature's file, written anew where there was one.

    Raises:
        UsageError: no report in canonical JSON, or no unencrypted Ed25519 private key.
    """
    return sign_bytes(to_json(read_report(path)).encode(), "report", path, private_key)


def sign_bytes(data: bytes, what: Signed, path: Path, private_key: Path) -> Path:
    """Sign the contents of a file that were checked before; see `sign_report`.

    Args:
        what: the kind of file.
        path: the file's, beside which the signature is written.
    """
    key = _private_key(private_key)
    facts = {
        f"{what}_sha256": hashlib.sha256(data).hexdigest(),
        "public_key": key.public_key().public_bytes_raw().hex(),
        "signature": key.sign(data).hex(),
    }
    signature = _MODELS[what].model_validate(facts)
    with atomic_path(signature_file(path)) as temporary:
        temporary.write_text(signature.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return signature_file(path)


def check_signature(report: Report, file: Path, public_key: Path | None = None) -> str:
    """Check a report's signature, and by default no more than that it fits the key that it names itself.

    Args:
        file: the signature's.
        public_key: the only key that is accepted.

    Returns:
        The public key in hexadecimal.

    Raises:
        SignatureError: missing, damaged, of another report, or by another key.
        UsageError: `public_key` is none.
    """
    accepted = None if public_key is None else read_public_key(public_key)
    return check_bytes(to_json(report).encode(), "report", file, accepted)


def check_bytes(data: bytes, what: Signed, file: Path, accepted: bytes | None = None) -> str:
    """Check the signature of a file's contents; see `check_signature`.

    Args:
        what: the kind of file.
        file: the signature's.
        accepted: 32 bytes of the only key that is accepted: `read_public_key`.

    Raises:
        SignatureError: missing, damaged, of another file, or by another key.
    """
    try:
        found = read_file(file)
    except OSError as error:
        raise SignatureError(
            f"{file}: no signature can be read ({error.strerror}); is it beside the {what}?"
        ) from error
    key = signer_of(data, what, found, str(file))
    if accepted is not None and key != accepted.hex():
        raise SignatureError(f"{file}: signed by key {key}, not by {accepted.hex()}, which was asked for")
    return key


def signer(report: Report, signature: bytes, name: str) -> str:
    """The public key that made a signature of a report, in hexadecimal.

    Args:
        signature: the contents of a signature's file, which errors call `name`.

    Raises:
        SignatureError: damaged, of another report, or not by the key that it names.
    """
    return signer_of(to_json(report).encode(), "report", signature, name)


def signer_of(data: bytes, what: Signed, signature: bytes, name: str) -> str:
    """The public key that made a signature of a file's contents; see `signer`."""
    try:
        claimed = _MODELS[what].model_validate_json(signature)
    except ValidationError as error:
        raise SignatureError(f"{name}: is damaged, or not a signature of a {what}; ask for it again") from error
    signed = getattr(claimed, f"{what}_sha256")
    if signed != (found := hashlib.sha256(data).hexdigest()):
        raise SignatureError(f"{name}: signs {what} {signed}, this one is {found}: one was changed")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(claimed.public_key))
        key.verify(bytes.fromhex(claimed.signature), data)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(
            f"{name}: the signature is not one of key {claimed.public_key}: forged, or damaged"
        ) from error
    return claimed.public_key


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(read_file(path), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: no private key without a password in PEM ({error}); `lumina keygen`") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: not an Ed25519 key; make one with `lumina keygen`")
    return key


def read_public_key(path: Path) -> bytes:
    """Read a public key from PEM.

    Returns:
        32 bytes, as in RFC 8032.

    Raises:
        UsageError: no Ed25519 key.
    """
    try:
        key = load_pem_public_key(read_file(path))
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: no public key in PEM ({error}); pass the .pub file") from error
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: not an Ed25519 key; pass the .pub file of the operator's key")
    return key.public_bytes_raw()
