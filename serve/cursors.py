"""Where a listing goes on: opaque to clients, so that it may change."""

import base64
import binascii

from serve.problems import Problem


def encode(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode(cursor: str) -> str:
    """The inverse of `encode`.

    Raises:
        Problem: 422, nothing that `encode` made.
    """
    try:
        return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars="-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise Problem(422, "request.invalid", "cursor: not one that an answer gave; start without one.") from error
