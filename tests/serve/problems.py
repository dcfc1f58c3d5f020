"""What every error looks like."""

from pathlib import Path

import httpx


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert set(problem) == {"type", "title", "status", "detail", "code"}
    assert (problem["status"], problem["type"]) == (status, f"urn:lumina:{code}")
    for secret in ("Traceback", "site-packages", "/tmp", "unused name", str(Path(__file__).parents[2])):
        assert secret not in response.text
