"""Headers of clients as Ray's proxy gets them."""

import asyncio
import re

from hypothesis import example, given
from hypothesis import strategies as st

from serve.proxy import ENVIRONMENT, SafeHeaders, middlewares, safe_headers

SAFE = re.compile(rb"[A-Za-z0-9._-]{1,128}")
OF_RAY = ("X-Request-Timeout-Seconds", "X-Request-Disconnect-Disabled", "X-Session-ID", "Serve_Multiplexed_Model_Id")
names = st.sampled_from(["X-Request-ID", "x-request-id", "X_Request_Id", "Accept", *OF_RAY]) | st.from_regex(
    r"[A-Za-z_-]{1,20}", fullmatch=True
)
values = st.binary(max_size=200) | st.from_regex(rb"[A-Za-z0-9._-]{1,130}", fullmatch=True)
headers = st.lists(st.tuples(names.map(str.encode), values), max_size=8)


@given(headers)
@example([(b"x-request-id", b"mine"), (b"X-REQUEST-ID", b"other")])
@example([(b"x-request-id", b"mine\n")])
def test_one_safe_id_and_nothing_that_steers_ray(given: list[tuple[bytes, bytes]]) -> None:
    kept = safe_headers(given)
    ids = [value for name, value in kept if name.lower().replace(b"_", b"-") == b"x-request-id"]
    assert len(ids) == 1
    assert SAFE.fullmatch(ids[0])
    sent = [value for name, value in given if name.lower().replace(b"_", b"-") == b"x-request-id"]
    if len(sent) == 1 and SAFE.fullmatch(sent[0]):
        assert ids == sent
    ours = {name.lower().replace("_", "-").encode() for name in ("X-Request-ID", *OF_RAY)}
    others = [(name, value) for name, value in given if name.lower().replace(b"_", b"-") not in ours]
    assert kept[:-1] == others


def test_rays_proxy_finds_it() -> None:
    module, _, name = ENVIRONMENT["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"].partition(":")
    assert (module, name) == (middlewares.__module__, middlewares.__name__)
    seen = []

    async def app(scope: dict, *_: object) -> None:
        seen.append(scope)

    (middleware,) = middlewares()
    scope = {"type": "http", "headers": [(b"x-request-id", b"a b")]}
    asyncio.run(middleware.cls(app)(scope, None, None))  # type: ignore[arg-type, call-arg]
    assert middleware.cls is SafeHeaders
    assert seen[0]["headers"] != scope["headers"] == [(b"x-request-id", b"a b")]
