"""Statement ⇄ canonical JSON, laid out as reports are: sorted keys, no spaces, one line. The bytes have its hash."""

import hashlib
import json
import os
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import from_json as parse_json

from lumina_ray.errors import StatementError, UsageError
from lumina_ray.files import read_file
from lumina_ray.statement.schema import Statement


def to_json(statement: Statement) -> str:
    """A statement's canonical JSON."""
    return json.dumps(
        statement.model_dump(mode="json"), sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )


def statement_sha256(statement: Statement) -> str:
    """SHA-256 of the statement's canonical JSON in UTF-8, in hexadecimal."""
    return hashlib.sha256(to_json(statement).encode()).hexdigest()


def is_statement(data: bytes) -> bool:
    """Whether a file's contents say that they are a statement, and no report."""
    try:
        values = parse_json(data)
    except ValueError:
        return False
    return isinstance(values, dict) and values.get("kind") == "statement"


def parse_statement(data: bytes, name: str) -> Statement:
    """Parse the contents of a statement's file, which errors call `name`. All its sums are checked.

    Raises:
        StatementError: no statement of this format version, one that does not add up, or laid out anew.
    """
    try:
        statement = Statement.model_validate(parse_json(data, allow_inf_nan=False))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = "/".join(str(part) for part in first["loc"])
        raise StatementError(
            f"{name}: not a statement of this software version: {place}{': ' if place else ''}{first['msg']}; ask for "
            "it again"
        ) from error
    except ValueError as error:
        raise StatementError(f"{name}: not a statement ({error}); ask for it again") from error
    if to_json(statement).encode() != data:
        raise StatementError(
            f"{name}: not canonical JSON, so neither hash nor signature hold: keep the bytes that `lumina statement` "
            "wrote"
        )
    return statement


def read_statement(path: str | os.PathLike[str]) -> Statement:
    """Read a statement's file.

    Raises:
        UsageError: it cannot be read.
        StatementError: as `parse_statement`.
    """
    try:
        data = read_file(Path(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return parse_statement(data, str(path))
