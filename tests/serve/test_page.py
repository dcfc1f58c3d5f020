"""The page: in a real browser against the real endpoint, and what it is served with."""

import asyncio
import base64
import json
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import httpx
import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, BrowserContext, Frame, FrameLocator, Page, Route, expect, sync_playwright

import serve
from lumina_ray.report import certainty, from_json, render_html, sentences, words
from serve.app import ServeArgs, Server
from serve.arrivals import Arrivals
from serve.gateway import create_app
from serve.keys import add_key
from serve.page import MAX_DRAWN_CHUNKS, MAX_REPORT_BYTES, STATIC, install_page
from serve.places import Places
from serve.problems import install_handlers
from tests.serve.app import asking, make_services
from tests.serve.conftest import MAX_UPLOAD_BYTES, beside, sound, wav

EXAMPLE = Path(serve.__file__).with_name("example_report.json").read_text("utf-8")
# It must not look for updates, or for anything else, on any other host.
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]
# A song of the catalog, which is attributed to itself; and something else, of two stretches.
SONG, OTHER = wav(sound(3)), wav(sound(5000, 20.0))
# What the endpoint has not verified of a report that it made itself, and that the page handed in again.
UNVERIFIED = [
    "Who made it: no signature came with it.",
    "Whether its numbers are right: nothing was computed again, as that takes the audio.",
]
HOSTILE_TITLE = "<img src=x onerror=\"document.title='run'\"><script>alert(1)</script> \u202e{{7*7}} &amp; 夜曲"


# How fast a busy machine is, is not what is tested.
expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def bare() -> TestClient:
    """The page's own routes, without Ray."""
    app = FastAPI()
    app.state.services = make_services()
    app.state.places, app.state.arrivals = Places(16, 64), Arrivals(64, 64)
    install_handlers(app)
    install_page(app)
    return TestClient(app)


def test_everything_that_the_page_asks_for_is_there(bare: TestClient) -> None:
    index = bare.get("/").text
    asked = re.findall(r'(?:src|href)="(static/[^"]+)"', index)
    asked += re.findall(r'"(static/[^"]+)"', (STATIC / "page.js").read_text("utf-8"))
    assert {f"static/{file.name}" for file in STATIC.iterdir() if file.name != "index.html"} == set(asked)
    for path in ("", *asked):
        answer = bare.get(f"/{path}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        if path != "static/frame.html":
            assert answer.headers["content-security-policy"].startswith("default-src 'self';")
            assert "unsafe" not in answer.headers["content-security-policy"]
    assert not re.search(r"<style|<script>| style=| on\w+=", index)


def test_the_frame_has_no_rights_but_its_own_script(bare: TestClient) -> None:
    policy = bare.get("/static/frame.html").headers["content-security-policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["sandbox"] == "allow-scripts"
    assert (rules["default-src"], rules["frame-ancestors"]) == ("'none'", "'self'")
    assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", rules["script-src"])
    assert 'sandbox="allow-scripts"' in bare.get("/").text


def test_files_outside_the_bundle_are_not_served(bare: TestClient) -> None:
    for path in ("/static/../page.py", "/static/%2e%2e/page.py", "/static/..%2fpage.py", "/static/", "/page.css"):
        assert bare.get(path).status_code == 404


def test_a_report_is_not_drawn_for_longer_than_a_request_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, released = Event(), Event()
    monkeypatch.setattr("serve.page._render", lambda *_: drawn.set() or released.wait(30) or b"")
    hurried = make_services(args=ServeArgs(index="unused", open_access=True, request_timeout_s=0.5))
    try:
        with asking(hurried) as client:
            answers = [client.post("/v1/reports/html", content=EXAMPLE) for _ in range(2)]
    finally:
        released.set()
    assert drawn.is_set()
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(504, "server.timeout")] * 2


def test_a_report_that_breaks_off_is_the_clients_fault() -> None:
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[dict] = []

    async def receive() -> dict:
        return next(messages)

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/reports/html",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
    }
    asyncio.run(create_app(make_services())(scope, receive, send))
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["code"] == "request.incomplete"


def test_a_report_becomes_the_page_of_the_command_line(bare: TestClient) -> None:
    answer = bare.post("/v1/reports/html", content=EXAMPLE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "no signature came with it" in answer.text
    assert answer.text == render_html(from_json(EXAMPLE), unverified=UNVERIFIED)
    unmarked = answer.text.replace(render_note(answer.text), "")
    assert unmarked == render_html(from_json(EXAMPLE))


def render_note(html: str) -> str:
    """Find the part of a page that only reports have which were handed in."""
    begin = html.index('  <div class="warning unverified"')
    return html[begin : html.index('  <p class="note">', begin)]


def changed(change: Callable[[dict], object]) -> bytes:
    report = json.loads(EXAMPLE)
    change(report)
    return json.dumps(report).encode()


def many_chunks(report: dict) -> None:
    report["query"]["chunks"] *= MAX_DRAWN_CHUNKS + 1


BAD_REPORTS: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "nothing": (lambda: b"", 422, "report.invalid"),
    "not JSON": (lambda: b"<html>", 422, "report.invalid"),
    "not UTF-8": (lambda: b"\xff\xfe", 422, "report.invalid"),
    "another format": (lambda: changed(lambda r: r.update(format_version=2)), 422, "report.invalid"),
    "too many parts": (lambda: b'{"near_copies":{"P":{"candidates":[' + b"{}," * 100_000, 422, "report.invalid"),
    "too many chunks": (lambda: changed(many_chunks), 422, "report.not_drawable"),
    "too long": (lambda: changed(lambda r: r["query"].update(duration_s=1e12)), 422, "report.not_drawable"),
    "too large": (lambda: b" " * (MAX_REPORT_BYTES + 1), 413, "report.too_large"),
}


@pytest.mark.parametrize("name", BAD_REPORTS)
def test_a_bad_report_is_refused_with_its_reason(bare: TestClient, name: str) -> None:
    body, status, code = BAD_REPORTS[name]
    answer = bare.post("/v1/reports/html", content=body())
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "Traceback" not in answer.text


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[Browser]:
    # For this module only: while Playwright runs, no other test could use asyncio. The server comes first for that too.
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        yield running
        running.close()


@pytest.fixture(params=[{}], ids=["default"])
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A visit; `params` are Playwright's options of it. Afterwards nothing may have gone wrong or elsewhere."""
    visit = browser.new_context(**request.param)
    visit.set_default_timeout(60_000)
    said: list[str] = []
    asked: list[str] = []
    visit.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    visit.on("weberror", lambda error: said.append(str(error.error)))
    visit.on("request", lambda request: asked.append(request.url))
    yield visit
    # What the endpoint refuses, Chromium logs as an error by itself.
    assert [text for text in said if "the server responded with a status of 4" not in text] == []
    hosts = {urlsplit(url).netloc for url in asked if urlsplit(url).scheme not in ("blob", "data")}
    assert len(hosts) == 1
    assert visit.cookies() == []
    visit.close()


@pytest.fixture
def page(context: BrowserContext, server: Server) -> Page:
    opened = context.new_page()
    opened.goto(f"{server.address}/")
    expect(opened.locator("#server")).to_contain_text("songs in index")
    return opened


def choose(page: Page, body: bytes, name: str = "query.wav") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "audio/wav", "buffer": body})


def drop(page: Page, body: bytes, name: str = "query.wav") -> None:
    transfer = page.evaluate_handle(
        """([name, text]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
            return transfer;
        }""",
        [name, base64.b64encode(body).decode()],
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def wait_for_result(page: Page) -> None:
    expect(page.locator("#result-heading")).to_be_focused()


def report_of(page: Page) -> FrameLocator:
    """The report as the page shows it."""
    return page.frame_locator("#report")


def downloaded(page: Page, button: str) -> bytes:
    with page.expect_download() as download:
        page.get_by_role("button", name=button).press("Enter")
    return Path(download.value.path()).read_bytes()


def answered(client: httpx.Client, body: bytes, **options: str) -> str:
    return client.post("/v1/attributions", files={"audio": body}, params=options).text


def test_a_dropped_file_is_answered_with_the_reports_numbers(page: Page, client: httpx.Client) -> None:
    drop(page, SONG)
    wait_for_result(page)
    text = answered(client, SONG)
    report, shown = from_json(text), report_of(page)

    expect(shown.locator("section.P, section.M")).to_have_count(2)
    for name, channel in report.near_copies.items():
        section = shown.locator(f"section.{name}")
        for said in (
            sentences.verdict(report, channel),
            sentences.basis(report, channel),
            *sentences.warnings(report, channel),
            *certainty.how_sure(report, channel, channel.candidates[0]),
            *certainty.not_known(report, channel),
            words.noise_sentence(channel),
        ):
            expect(section).to_contain_text(said)
        expect(shown.locator(f".summary .{name} .big")).to_contain_text(words.percent(channel.attributed))
        rows = section.get_by_role("region", name="Candidates").locator("tbody tr").all()
        assert len(rows) == 11
        for candidate, row in zip(channel.candidates, rows[:-1], strict=False):
            cells = [" ".join(cell.inner_text().split()) for cell in row.locator("td").all()]
            assert cells[1].startswith(words.song_name(candidate.song))
            assert cells[2] == words.share(candidate)
            assert cells[3] == f"{candidate.similarity:.3f} ({candidate.threshold:.3f})"
            assert cells[7] == words.p_value(candidate.family_wise_p, channel.noise.resolution)
            assert cells[8] == words.p_value(candidate.q_value)
            assert cells[9] == words.level(report, candidate)
            assert cells[10] == words.driving_times(report.query.chunks, candidate)
        assert words.percent(channel.unattributed) in rows[-1].inner_text()
        labels = [picture.get_attribute("aria-label") or "" for picture in section.get_by_role("img").all()]
        assert words.share(channel.candidates[0]) in labels[0]
        assert f"mean {channel.noise.mean:.3f}" in labels[1]
        assert "of the query" in labels[2]
    expect(shown.locator("header")).to_contain_text(sentences.evidence(report))

    assert downloaded(page, "Download JSON") == text.encode()
    assert downloaded(page, "Download HTML") == render_html(report, unverified=UNVERIFIED).encode()
    expect(shown.locator(".unverified")).to_contain_text("Not verified.")


@pytest.mark.parametrize("body", [SONG, OTHER], ids=["song", "other"])
def test_pictures_hold_the_reports_numbers(page: Page, client: httpx.Client, body: bytes) -> None:
    choose(page, body)
    wait_for_result(page)
    report = from_json(answered(client, body))
    for name, channel in report.near_copies.items():
        section = report_of(page).locator(f"section.{name}")
        expect(section).to_be_visible()
        drawn = [c.share for c in channel.candidates if c.share > 0][:6]
        bars = section.locator(".bar i").evaluate_all("(bars) => bars.map((bar) => Number(bar.style.flexGrow))")
        assert bars == pytest.approx([*drawn, channel.unattributed], abs=1e-6)
        assert bool(drawn) == (body is SONG)
        # A dot for each control and each candidate.
        dots = section.locator("figure").nth(0).locator("use[style*='fill']").count()
        assert dots >= channel.noise.n_controls + len(channel.candidates[:8])
        cells = section.locator("[id*='-cell-']").evaluate_all("(cells) => cells.map((cell) => cell.id)")
        chunks = report.query.chunks
        assert [float(cell.split("-")[-1]) for cell in cells] == [c.start_s for c in chunks] * len(
            channel.candidates[:8]
        )
        section.locator("summary").press("Enter")
        table = section.get_by_role("region", name="Stretches").locator("tbody tr").all()
        for i, (chunk, row) in enumerate(zip(chunks, table, strict=True)):
            assert row.locator("th").inner_text() == words.chunk_times(chunk)
            assert row.locator("td").all_inner_texts() == [
                f"{c.chunk_similarities[i]:.3f}" + (" drives it" if c.qualified and i in c.driving_chunks else "")
                for c in channel.candidates[:8]
            ]


def test_an_answer_is_shown_where_the_browser_preloads_no_audio(context: BrowserContext, server: Server) -> None:
    opened = context.new_page()
    opened.add_init_script("window.Audio = class extends EventTarget {};")
    opened.goto(f"{server.address}/")
    choose(opened, SONG)
    wait_for_result(opened)


def test_a_stretch_that_is_clicked_is_heard(page: Page) -> None:
    choose(page, OTHER)
    wait_for_result(page)
    audio = page.locator("audio")
    expect(audio).to_have_js_property("duration", 20)
    shown = report_of(page)
    cell = shown.locator("section.M [id*='-cell-0-2-']")
    # Forced: other shapes of the picture lie above the cell. So the click does not wait until the page stands still.
    place = None
    while place != (place := cell.bounding_box()):
        page.wait_for_timeout(500)
    cell.click(force=True)
    wait_until_at(page, 10, 15)
    shown.locator("section.P summary").press("Enter")
    shown.locator("section.P").get_by_role("button", name="Play 0:00–0:05").press("Enter")
    wait_until_at(page, 0, 5)


def wait_until_at(page: Page, from_s: float, to_s: float) -> None:
    """Wait until the query is heard from somewhere between two seconds."""
    for _ in range(100):
        if from_s <= (at_s := page.locator("audio").evaluate("(a) => a.currentTime")) < to_s:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"the query is heard at {at_s} s")


def test_the_keyboard_is_enough(page: Page) -> None:
    # Playwright takes the dialog over from the first listener on, and not at once.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files({"name": "query.wav", "mimeType": "audio/wav", "buffer": SONG})
    wait_for_result(page)
    reached = []
    active = "document.activeElement.textContent.trim() || document.activeElement.tagName"
    for _ in range(40):
        page.keyboard.press("Tab")
        inside = page.evaluate("document.activeElement.id") == "report"
        reached.append((page.frames[1] if inside else page).evaluate(active))
    for name in ("AUDIO", "Download JSON", "Download HTML", "Stretches as a table"):
        assert name in reached
    expect(report_of(page).get_by_role("heading", name="What this rests on")).to_be_visible()


def test_text_is_refused_in_plain_words(page: Page) -> None:
    choose(page, b"not audio, but text\n" * 50, "notes.txt")
    problem = page.get_by_role("alert")
    expect(problem).to_contain_text("Unusable request")
    expect(problem).to_contain_text("audio.undecodable")
    expect(page.locator("#progress")).to_be_hidden()
    assert page.locator("#result").is_hidden()
    choose(page, SONG)
    wait_for_result(page)
    expect(page.locator("#problem")).to_be_hidden()


def test_what_the_server_would_refuse_for_its_size_is_not_sent(page: Page) -> None:
    with page.expect_request("**/v1/attributions") as sent:
        choose(page, bytes(MAX_UPLOAD_BYTES + 1))
        expect(page.get_by_role("alert")).to_contain_text("the server takes 2.0 MiB")
        choose(page, SONG)
    assert sent.value.method == "POST"
    wait_for_result(page)


def problem(status: int, headers: dict[str, str] | None = None) -> Callable[[Route], None]:
    body = {"title": f"Title {status}", "detail": f"Detail {status}.", "code": f"code.{status}"}
    return lambda route: route.fulfill(
        status=status, headers={"content-type": "application/problem+json", **(headers or {})}, body=json.dumps(body)
    )


def test_a_key_is_asked_for_and_sent_and_stays_in_the_tab(page: Page) -> None:
    page.route("**/v1/attributions", problem(401))
    choose(page, SONG)
    expect(page.get_by_role("alert")).to_contain_text("Detail 401.")
    expect(page.locator("#key")).to_be_focused()
    page.keyboard.type("the key")
    page.unroute("**/v1/attributions")
    with page.expect_request("**/v1/attributions") as sent, page.expect_request("**/v1/reports/html") as drawn:
        page.get_by_role("button", name="Try again").press("Enter")
    assert sent.value.all_headers()["authorization"] == "Bearer the key"
    assert drawn.value.all_headers()["authorization"] == "Bearer the key"
    wait_for_result(page)
    assert downloaded(page, "Download HTML").startswith(b"<!doctype html>")
    page.reload()
    assert page.locator("#key").input_value() == "the key"
    assert page.evaluate("[Object.keys(sessionStorage), localStorage.length]") == [["lumina.key"], 0]


def test_who_has_no_key_reads_what_to_do(
    context: BrowserContext, server: Server, serve_args: ServeArgs, keys_file: Path
) -> None:
    key = add_key(keys_file, "acme")
    with beside(server, serve_args, "locked", keys=keys_file, open_access=False) as address:
        page = context.new_page()
        page.goto(f"{address}/")
        needed = page.get_by_role("region", name="A key is needed")
        expect(needed).to_contain_text("If you have none, ask whoever runs this server for one.")
        expect(page.locator("#key")).to_be_visible()
        choose(page, SONG)
        problem = page.get_by_role("alert")
        expect(problem).to_contain_text("Not authorised")
        expect(problem).to_contain_text("Enter your key under “API key”, and try again.")
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type(key)
        page.get_by_role("button", name="Try again").press("Enter")
        wait_for_result(page)
        page.reload()
        expect(page.locator("#server")).to_contain_text("songs in index")
        expect(page.locator("#key")).to_be_hidden()
        expect(needed).to_be_visible()


def test_nobody_is_asked_for_a_key_where_access_is_open(page: Page) -> None:
    expect(page.locator("#key-details")).to_be_visible()
    expect(page.locator(".with-keys")).to_be_hidden()
    expect(page.locator("#key")).to_be_hidden()


def test_the_reference_is_a_page_of_its_own(page: Page) -> None:
    page.get_by_role("link", name="the API").click()
    expect(page.get_by_role("heading", name="Attribute an audio file")).to_be_visible()
    page.get_by_role("link", name="POST /v1/jobs").click()
    expect(page.get_by_role("heading", name="Attribute many audio files")).to_be_in_viewport()
    page.set_viewport_size({"width": 320, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(page).response["violations"]
    assert [v["id"] for v in found if v["impact"] in ("serious", "critical")] == []


def test_a_busy_server_says_when_to_come_back(page: Page) -> None:
    page.route("**/v1/attributions", problem(429, {"Retry-After": "5"}))
    choose(page, SONG)
    expect(page.get_by_role("alert")).to_contain_text("Detail 429. Try again in 5 seconds.")
    # Ray's own proxy answers in plain text.
    page.unroute("**/v1/attributions")
    page.route("**/v1/attributions", lambda route: route.fulfill(status=429, body="Request dropped"))
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_contain_text("Too many requests")
    expect(page.get_by_role("alert")).to_contain_text("Request dropped")


def test_a_report_that_cannot_be_drawn_can_be_saved(page: Page) -> None:
    page.route("**/v1/reports/html", problem(429))
    choose(page, SONG)
    expect(page.get_by_role("alert")).to_contain_text("Detail 429.")
    expect(page.locator("#report")).to_be_hidden()
    expect(page.get_by_role("button", name="Download HTML")).to_be_hidden()
    assert json.loads(downloaded(page, "Download JSON"))["query"]
    page.unroute("**/v1/reports/html")
    choose(page, SONG, "again.wav")
    expect(page.locator("#result-heading")).to_have_text("Result for again.wav")
    expect(report_of(page).locator("section.P")).to_be_visible()


@pytest.fixture
def held_server() -> Iterator[tuple[str, Event]]:
    """The page with a server that answers the example once the event is set. Gives its address too."""
    answering = Event()
    app = FastAPI()
    app.state.services = make_services()
    app.state.places, app.state.arrivals = Places(16, 64), Arrivals(64, 64)
    install_page(app)

    @app.post("/v1/attributions")
    async def attribute(request: Request) -> Response:
        await request.body()
        await asyncio.to_thread(answering.wait)
        return Response(EXAMPLE, media_type="application/json")

    # Listening before the thread has got so far.
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", answering
    answering.set()
    running.should_exit = True
    thread.join()


def test_waiting_is_timed_estimated_and_can_be_ended(context: BrowserContext, held_server: tuple[str, Event]) -> None:
    address, answering = held_server
    page = context.new_page()
    page.goto(address)
    choose(page, SONG, "first.wav")
    expect(page.locator("#progress")).to_contain_text("first.wav")
    expect(page.get_by_role("status")).to_contain_text("compares it with the catalog")
    expect(page.locator("#elapsed")).to_contain_text("not known before this page’s first answer")
    answering.set()
    wait_for_result(page)
    answering.clear()
    choose(page, SONG, "second.wav")
    expect(page.locator("#elapsed")).to_contain_text(re.compile(r"speed of the last answer.* takes about \d+:\d\d\."))
    expect(page.locator("#elapsed")).to_contain_text(re.compile(r"([1-9]:|0:[1-9]|0:0[2-9]).* elapsed"))
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#file")).to_be_focused()
    assert page.locator("#problem").is_hidden()
    assert page.locator("#result").is_hidden()


def confirming(server: Server) -> Callable[[Route], None]:
    """A handler of `readyz` of an endpoint that confirms."""

    def answered(route: Route) -> None:
        facts = httpx.get(f"{server.address}/readyz", timeout=60, trust_env=False).json()
        route.fulfill(json=facts | {"confirms": True})

    return answered


def test_a_result_is_confirmed_by_forgetting(context: BrowserContext, server: Server) -> None:
    report = json.loads(EXAMPLE)
    first = report["near_copies"]["P"]["candidates"][0]["song"]
    first["title"] = HOSTILE_TITLE
    song = {"channel": "P", "song_id": first["song_id"], "listed_rank": 1, "rank": 2, "effect_nats": 3.14e-5}
    found = {
        "songs": [song | {"noise_nats": None, "p_value": 0.0297}],
        "n_random": 100,
        "random_mean_nats": {"P": 1.5e-6},
        "random_sd_nats": {"P": 2.5e-6},
        "rise_nats": 0.00498,
    }
    context.route("**/readyz", confirming(server))
    context.route("**/v1/attributions", lambda route: route.fulfill(json=report))
    page = context.new_page()
    page.goto(f"{server.address}/")
    choose(page, SONG)
    wait_for_result(page)
    button = page.get_by_role("button", name="Confirm by forgetting")
    page.route("**/v1/attributions?confirm=unlearn", problem(429))
    button.press("Enter")
    expect(page.locator("#confirmation-said")).to_contain_text("Detail 429.")
    page.unroute("**/v1/attributions?confirm=unlearn")
    text = f"{json.dumps(report)}\n{json.dumps(found)}\n"
    page.route("**/v1/attributions?confirm=unlearn", lambda route: route.fulfill(body=text))
    button.press("Enter")
    expect(page.locator("#confirmation-said")).to_contain_text("rose by 0.0050 nats")
    table = page.get_by_role("region", name="Composition: 100 random songs, 1.5 µnat in the mean, SD 2.5")
    cells = table.locator("tbody td").all_inner_texts()
    assert cells == ["1", HOSTILE_TITLE.replace("\u202e", "\ufffd"), "2 of 101", "31.4", "–", "0.030"]
    assert page.locator("#confirmation img, #confirmation script").count() == 0
    found_by_axe = Axe().run(page, options={"iframes": False}).response["violations"]  # type: ignore[arg-type]
    assert [v["id"] for v in found_by_axe if v["impact"] in ("serious", "critical")] == []
    choose(page, SONG, "another.wav")
    expect(page.locator("#result-heading")).to_have_text("Result for another.wav")
    expect(page.locator("#confirmation")).to_be_hidden()
    expect(button).to_be_enabled()


def test_an_endpoint_without_a_store_offers_no_confirmation(page: Page) -> None:
    choose(page, SONG)
    wait_for_result(page)
    expect(page.get_by_role("button", name="Download JSON")).to_be_visible()
    expect(page.get_by_role("button", name="Confirm by forgetting")).to_be_hidden()


def test_a_server_that_is_not_ready_is_asked_again(context: BrowserContext, server: Server) -> None:
    context.route("**/readyz", problem(404))
    page = context.new_page()
    page.goto(f"{server.address}/")
    expect(page.locator("#server")).to_contain_text("not ready")
    context.unroute("**/readyz")
    expect(page.locator("#server")).to_contain_text("songs in index")


def test_titles_are_text_and_nothing_else(page: Page) -> None:
    report = json.loads(EXAMPLE)
    for channel in report["near_copies"].values():
        channel["candidates"][0]["song"] |= {"title": HOSTILE_TITLE, "creator": HOSTILE_TITLE}
    page.route("**/v1/attributions", lambda route: route.fulfill(json=report))
    choose(page, SONG, "<b>query</b>.wav")
    wait_for_result(page)
    expect(page.locator("#result-heading")).to_have_text("Result for <b>query</b>.wav")
    shown = report_of(page)
    expect(shown.locator("section.P .title").first).to_have_text(HOSTILE_TITLE.replace("\u202e", "\ufffd"))
    assert shown.locator("body img, body script").count() == 0
    assert page.locator("#result img, #result script, #result b:has-text('query')").count() == 0
    assert page.title() == "lumina-ray · attribution"


def test_html_that_would_run_something_does_not(browser: Browser, server: Server) -> None:
    """The frame does not rely on the server to escape what came from outside."""
    attack = "document.body.dataset.run = 'yes'; parent.postMessage({ height: 1 }, '*')"
    html = f'<p id="end">Report</p><script>{attack}</script><img src="x" onerror="{attack}"><b onclick="{attack}">b</b>'
    with browser.new_context() as visit:
        refused: list[str] = []
        visit.on("console", lambda message: refused.append(message.text))
        page = visit.new_page()
        page.route("**/v1/reports/html", lambda route: route.fulfill(body=html, content_type="text/html"))
        page.goto(f"{server.address}/")
        choose(page, SONG)
        wait_for_result(page)
        shown = report_of(page)
        expect(shown.locator("#end")).to_have_text("Report")
        shown.locator("b").click()
        assert shown.locator("body").get_attribute("data-run") is None
        assert shown.locator("body").evaluate("() => origin") == "null"
        assert any("Content Security Policy" in text for text in refused)


def test_names_of_files_are_shown_as_text_of_the_catalog_is(page: Page) -> None:
    page.route("**/v1/attributions", lambda route: route.fulfill(json=json.loads(EXAMPLE)))
    for name in ("Plain", "a\x1b[31m", "\u200cjoined\u200d", "no\u00a0break\u2028line \u202e", "夜曲"):
        choose(page, SONG, name)
        expect(page.locator("#result-name")).to_have_text(re.compile(f"^{re.escape(words.safe(name))}$"))


def with_use(text: str) -> str:
    """A report of an index that has membership evidence: as much as 52 controls can show of each first song."""
    report = json.loads(text)
    hashes = dict.fromkeys(("reference_weights_sha256", "controls_sha256", "file_sha256"), "d" * 64)
    report["basis"]["membership"] = hashes | {"n_controls": 52, "resolution": 1 / 53}
    for channel in report["near_copies"].values():
        channel["membership"] = {"qualified": 1, "significant": 1, "expected_by_chance": 2 / 53}
        for candidate in channel["candidates"]:
            candidate["membership"] = {"excess": 0.5, "p_value": 1 / 53}
    return json.dumps(report)


def answer_with(text: str, route: Route) -> None:
    route.fulfill(json=json.loads(text))


def test_use_is_told_where_it_is_known(page: Page) -> None:
    for text, known in ((EXAMPLE, False), (with_use(EXAMPLE), True)):
        page.route("**/v1/attributions", partial(answer_with, text))
        choose(page, SONG, f"{known}.wav")
        expect(page.locator("#result-heading")).to_have_text(f"Result for {known}.wav")
        shown, section = report_of(page), report_of(page).locator("section.P")
        expect(shown.get_by_text("p, membership", exact=True)).to_have_count(int(known))
        for told in ("Membership, p 0.019: of 52 controls", "membership evidence is that it was trained"):
            assert (told in section.inner_text()) == known
        assert ("only likeness is measured" in section.inner_text()) != known


def test_a_report_without_songs_says_so(page: Page) -> None:
    report = json.loads(EXAMPLE)
    for channel in report["near_copies"].values():
        channel |= {"candidates": [], "retrieved": 0, "qualified": 0, "attributed": 0, "unattributed": 1}
    page.route("**/v1/attributions", lambda route: route.fulfill(json=report))
    choose(page, SONG, "nothing.wav")
    wait_for_result(page)
    for name in ("P", "M"):
        section = report_of(page).locator(f"section.{name}")
        expect(section).to_contain_text("No song was there")
        expect(section.get_by_role("img")).to_have_count(1)
        expect(section).not_to_contain_text("How sure")


@pytest.mark.parametrize(
    "context",
    [
        {"color_scheme": "light"},
        {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}, "reduced_motion": "reduce"},
    ],
    ids=["light", "dark and narrow"],
    indirect=True,
)
def test_no_serious_barrier(page: Page) -> None:
    axe = Axe()

    def barriers(within: Page | Frame) -> list[str]:
        # Where it is asked about the frame: it sees the frame's own document alone.
        found = axe.run(within, options={"iframes": False}).response["violations"]  # type: ignore[arg-type]
        return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found if v["impact"] in ("serious", "critical")]

    assert barriers(page) == []
    choose(page, b"text", "notes.txt")
    expect(page.get_by_role("alert")).to_be_visible()
    assert barriers(page) == []
    choose(page, SONG)
    wait_for_result(page)
    expect(report_of(page).locator("section.P")).to_be_visible()
    for summary in [*page.locator("summary").all(), *report_of(page).locator("summary").all()]:
        summary.press("Enter")
    # Nothing runs out of the window sideways; wide tables scroll by themselves.
    for within in (page, page.frames[1]):
        assert barriers(within) == []
        assert within.evaluate("document.documentElement.scrollWidth <= innerWidth")
