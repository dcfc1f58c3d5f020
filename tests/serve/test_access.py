"""Who may ask: keys, their file, and their rate."""

import hashlib
import json
import re
import secrets
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from lumina_ray.cli.main import app
from lumina_ray.errors import UsageError
from serve.access import Access
from serve.keys import KeyRing, add_key, read_keys, revoke_key
from tests.serve.app import asking, make_services
from tests.serve.conftest import sound, wav
from tests.serve.problems import assert_problem

URL = "/v1/attributions"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_the_file_holds_names_and_hashes_and_never_a_key(keys_file: Path) -> None:
    key = add_key(keys_file, "acme", 60)
    other = add_key(keys_file, "label-2")
    assert len(secrets.token_urlsafe(32)) + len("lumina_") == len(key)
    assert key != other
    stored = json.loads(keys_file.read_text())["keys"]
    assert stored == [
        {"name": "acme", "sha256": hashlib.sha256(key.encode()).hexdigest(), "per_minute": 60},
        {"name": "label-2", "sha256": hashlib.sha256(other.encode()).hexdigest(), "per_minute": None},
    ]
    assert key not in keys_file.read_text()


def test_a_ring_follows_its_file(keys_file: Path) -> None:
    key = add_key(keys_file, "acme")
    ring = KeyRing(keys_file)
    assert ring.holder(key) == read_keys(keys_file)[0]
    assert ring.holder(key + "x") is None
    assert ring.holder("") is None
    second = add_key(keys_file, "other")
    assert (ring.holder(key).name, ring.holder(second).name) == ("acme", "other")
    revoke_key(keys_file, "acme")
    assert ring.holder(key) is None
    assert ring.holder(second).name == "other"


@pytest.mark.parametrize(
    "content",
    ["", "{}", '{"keys": [{"name": "a", "key": "lumina_secret"}]}', '{"keys": [{"name": "a/b", "sha256": ""}]}'],
)
def test_a_damaged_file_admits_nobody_and_is_not_quoted(keys_file: Path, content: str) -> None:
    key = add_key(keys_file, "acme")
    ring = KeyRing(keys_file)
    ring.holder(key)
    keys_file.write_text(content)
    with pytest.raises(UsageError, match=str(keys_file)) as error:
        ring.holder(key)
    assert "secret" not in str(error.value)


def test_names_are_unique_and_simple(keys_file: Path) -> None:
    add_key(keys_file, "acme")
    for name in ("acme", "", "a b", "ü"):
        with pytest.raises(UsageError):
            add_key(keys_file, name)
    with pytest.raises(UsageError, match="only for acme"):
        revoke_key(keys_file, "other")
    assert [key.name for key in read_keys(keys_file)] == ["acme"]


def test_the_command_line_shows_a_key_once(keys_file: Path) -> None:
    def lumina(*arguments: str) -> str:
        result = CliRunner().invoke(app, ["keys", *arguments, "--file", str(keys_file)], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    key = lumina("add", "acme", "--per-minute", "60").strip()
    assert re.fullmatch(r"lumina_[\w-]{43}", key)
    assert KeyRing(keys_file).holder(key).name == "acme"
    assert lumina("list") == "acme  60 a minute\n"
    assert json.loads(lumina("list", "--json")) == {"keys": [{"name": "acme", "per_minute": 60}]}
    lumina("revoke", "acme")
    assert lumina("list") == "Nobody has a key.\n"


def test_only_a_known_key_gets_in(keys_file: Path) -> None:
    key = add_key(keys_file, "acme")
    with asking(make_services(Access(KeyRing(keys_file), 1))) as client:
        for headers in ({}, bearer("wrong"), {"Authorization": f"Basic {key}"}, {"Authorization": key}):
            refused = client.post(URL, files={"audio": wav(sound(1))}, headers=headers)
            assert_problem(refused, 401, "access.denied")
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert client.post(URL, files={"audio": wav(sound(1))}, headers=bearer(key)).text == "{}"
        # Whoever watches over the endpoint has no key, and documents tell nothing.
        assert client.get("/healthz").status_code == client.get("/openapi.json").status_code == 200
        keys_file.unlink()
        assert_problem(client.post(URL, files={"audio": b"x"}, headers=bearer(key)), 503, "server.unavailable")


def test_a_rate_is_each_keys_own_and_shared_by_the_gateways(keys_file: Path) -> None:
    limited, free = add_key(keys_file, "limited", 4), add_key(keys_file, "free")
    with asking(make_services(Access(KeyRing(keys_file), 2))) as client:
        answers = [client.post(URL, files={"audio": b"x"}, headers=bearer(limited)) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [422, 422, 429]
        assert_problem(answers[2], 429, "access.rate")
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60
        assert client.post(URL, files={"audio": b"x"}, headers=bearer(free)).status_code == 422


def test_real_replicas_ask_for_keys_that_change_under_them(closed: str, keys_file: Path) -> None:
    key = add_key(keys_file, "acme")

    def ask(headers: dict[str, str]) -> httpx.Response:
        return httpx.post(closed + URL, files={"audio": wav(sound(3))}, headers=headers, timeout=60, trust_env=False)

    assert_problem(ask({}), 401, "access.denied")
    assert ask(bearer(key)).status_code == 200
    revoke_key(keys_file, "acme")
    assert_problem(ask(bearer(key)), 401, "access.denied")
