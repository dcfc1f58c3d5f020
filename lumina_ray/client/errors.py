"""The one error of the client: an endpoint that gave no usable answer."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Self

import httpx
from pydantic import BaseModel, ValidationError

from lumina_ray.errors import LuminaError

# The endpoint's state and not the request's fault: the same request may work later.
_LATER = frozenset({408, 429, 503, 504, 507})
_SHOWN = 200


class _Problem(BaseModel):
    code: str
    detail: str


class EndpointError(LuminaError):
    """The endpoint refused, failed, or was not reached.

    Attributes:
        status: the HTTP status, or None where no answer came.
        code: for machines, such as "audio.silent": the problem's. Or "http.STATUS" where a proxy in between answered,
            "endpoint.unreachable" where nobody did, "endpoint.answer" for an answer that cannot be read.
        detail: for people.
        retry_after_s: how long to wait before another attempt, where the endpoint said so.
    """

    def __init__(
        self, url: str, status: int | None, code: str, detail: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{url}: {detail} ({code})")
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s

    @property
    def may_work_later(self) -> bool:
        return self.status is None or self.status in _LATER

    @classmethod
    def of_response(cls, response: httpx.Response) -> Self:
        """From a problem+json body, or from whatever a proxy wrote instead."""
        url, status = str(response.url.copy_with(query=None)), response.status_code
        wait_s = _seconds(response.headers.get("Retry-After", ""))
        try:
            problem = _Problem.model_validate_json(response.content)
        except ValidationError:
            text = " ".join(response.text.split())[:_SHOWN]
            return cls(url, status, f"http.{status}", text or response.reason_phrase, wait_s)
        return cls(url, status, problem.code, problem.detail, wait_s)


def _seconds(retry_after: str) -> float | None:
    """Retry-After is a number of seconds, or a date (RFC 9110)."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
