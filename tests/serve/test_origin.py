"""Open access is for this machine, and not for the web pages in its browser."""

from pathlib import Path

import httpx
import pytest

from serve.access import Access
from serve.keys import KeyRing, add_key
from serve.origin import check_origin, is_loopback_name
from serve.problems import Problem
from tests.serve.app import asking, make_services
from tests.serve.conftest import sound, wav
from tests.serve.problems import assert_problem

URL = "/v1/attributions"
EVIL = "https://evil.example"


def refused(hosts: list[str], origins: list[str]) -> str | None:
    try:
        check_origin(hosts, origins)
    except Problem as problem:
        return f"{problem.status} {problem.code}"
    return None


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:8000", "127.8.9.10:1", "[::1]", "[::1]:65535"),
        "[0:0:0:0:0:0:0:1]:80",
    ],
)
def test_this_machine_has_these_names(host: str) -> None:
    assert refused([host], []) is None
    assert refused([host], [f"http://{host}"]) is None
    assert refused([host], [f"https://{host}".upper()]) is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost"),
        *("10.0.0.1", "0.0.0.0:8000", "[::]:8000", "[fe80::1]", "169.254.169.254", "2130706433", "127.1"),
        *(
            "",
            ":8000",
            "::1",
            "[::1",
            "::1]:80",
            "[::1]8000",
            "[::1]:",
            "localhost:",
            "localhost:port",
            "localhost:80:80",
        ),
        *(
            "user@localhost",
            "localhost/",
            "localhost,evil.example",
            "localhost evil.example",
            "localhost\\",
            "ｌocalhost",
        ),
        *("127.0.0.1:8000\n", " localhost", "[]", "[localhost]x", "localhost:123456"),
    ],
)
def test_no_other_host_is_this_machine(host: str) -> None:
    assert refused([host], []) == "403 access.host"


def test_a_request_has_one_host() -> None:
    assert refused([], []) == refused(["localhost", "localhost"], []) == "403 access.host"


@pytest.mark.parametrize(
    "origin",
    [
        *(
            EVIL,
            "null",
            "",
            "http://localhost",
            "http://localhost:8001",
            "http://127.0.0.1:8000",
            "ftp://localhost:8000",
        ),
        *("http://localhost:8000.evil.example", "http://localhost:8000/", "localhost:8000", "chrome-extension://abc"),
    ],
)
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    assert refused(["localhost:8000"], [origin]) == "403 access.origin"
    assert refused(["localhost:8000"], ["http://localhost:8000", origin]) == "403 access.origin"


def test_names_that_open_access_may_listen_on() -> None:
    assert all(is_loopback_name(name) for name in ("localhost", "127.0.0.1", "127.0.1.1", "::1"))
    assert not any(is_loopback_name(name) for name in ("0.0.0.0", "::", "this-machine", "", "10.0.0.1"))


def attribute(client: httpx.Client, **headers: str) -> httpx.Response:
    return client.post(URL, files={"audio": wav(sound(1))}, headers=headers)


def test_without_keys_pages_of_others_get_nothing() -> None:
    with asking(make_services()) as client:
        for path in ("/", "/static/page.js", "/healthz", "/v1/songs", "/openapi.json", "/docs", "/no/such/path"):
            assert_problem(client.get(path, headers={"Host": "evil.example:8000"}), 403, "access.host")
            assert_problem(client.get(path, headers={"Origin": "null"}), 403, "access.origin")
        assert_problem(attribute(client, Origin=EVIL), 403, "access.origin")
        # The page of a name that has come to mean this machine.
        assert_problem(attribute(client, Host="evil.example", Origin="http://evil.example"), 403, "access.host")
        assert_problem(client.options(URL, headers={"Origin": EVIL}), 403, "access.origin")
        # The page itself, and whoever is no page.
        for address in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
            assert attribute(client, Host=address, Origin=f"http://{address}").text == "{}"
            assert attribute(client, Host=address).text == "{}"
            assert client.get("/", headers={"Host": address}).status_code == 200
        reference = client.get("/openapi.json").json()
        answers = [operation["responses"] for path in reference["paths"].values() for operation in path.values()]
        assert all("application/problem+json" in of["403"]["content"] for of in answers)


def test_a_refusal_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr("serve.requestlog.logger.info", lambda text, *values, **_: said.append(text % values))
    with asking(make_services()) as client:
        attribute(client, Origin=EVIL)
    assert said == ["POST none 403 access.origin"]


def test_rays_proxy_hands_both_headers_on(client: httpx.Client) -> None:
    assert_problem(client.get("/v1/songs", headers={"Host": "evil.example"}), 403, "access.host")
    assert_problem(client.get("/v1/songs", headers={"Origin": EVIL}), 403, "access.origin")
    own = str(client.base_url).rstrip("/")
    assert client.get("/v1/songs", headers={"Origin": own}).status_code == 200


def test_with_keys_the_host_is_the_operators(tmp_path: Path) -> None:
    key = add_key(tmp_path / "keys.json", "acme")
    with asking(make_services(Access(KeyRing(tmp_path / "keys.json"), 1))) as client:
        headers = {"Host": "lumina.example", "Origin": EVIL, "Authorization": f"Bearer {key}"}
        assert attribute(client, **headers).text == "{}"
        assert client.get("/readyz", headers={"Host": "lumina.example"}).status_code == 200
        assert "403" not in client.get("/openapi.json").json()["paths"][URL]["post"]["responses"]
