"""Whatever the reference allows to be asked, and what it does not, nothing makes the endpoint fail."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from serve.app import Server

ROUTES = {
    "POST /v1/attributions",
    "POST /v1/attributions/by-fingerprint",
    "POST /v1/jobs",
    "GET /v1/jobs/{job_id}",
    "GET /v1/jobs/{job_id}/results",
    "DELETE /v1/jobs/{job_id}",
    "GET /v1/songs",
    "GET /v1/songs/{song_id}",
    "GET /v1/songs/{song_id}/nearest",
    "GET /v1/indexes",
    "POST /v1/reports/verify",
    "POST /v1/statements",
    "GET /healthz",
    "GET /readyz",
}


@schemathesis.serializer("application/x-ndjson")
def lines_of_json(context: schemathesis.SerializationContext, value: object) -> bytes:
    """Send text as it is."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@pytest.mark.timeout(600)
def test_no_request_makes_the_endpoint_fail(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.label for operation in operations} >= ROUTES
    for operation in operations:

        @settings(max_examples=6, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=[not_a_server_error], timeout=60)

        ask()
