"""One connection to an endpoint.

with Client("https://lumina.example") as client:
    report = client.attribute(Path("song.mp3"))
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx
from pydantic import TypeAdapter, ValidationError
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential_jitter,
    wait_random,
)

import lumina_ray
from lumina_ray.answers import (
    FingerprintQuery,
    IndexVersions,
    Job,
    JobResult,
    Neighbours,
    Readiness,
    ReportVerification,
    ResultsPage,
    Song,
    SongPage,
)
from lumina_ray.attribution.confirmation import Confirmation
from lumina_ray.attribution.schema import Report, SongFacts
from lumina_ray.client.errors import EndpointError
from lumina_ray.errors import AudioError, UsageError
from lumina_ray.files import open_file
from lumina_ray.statement.schema import Statement
from lumina_ray.statement.words import By
from lumina_ray.vocabulary import Channel

StrPath = str | os.PathLike[str]
KEY_VARIABLE = "LUMINA_KEY"
_CONNECT_S = 10.0
_MAX_KEY_CHARACTERS = 255
_BACKOFF = wait_exponential_jitter(multiplier=0.5, max=10)
# Clients that were all told the same should not come back at once.
_SPREAD = wait_random(0, 1)

M = TypeVar("M")


class Client:
    """The endpoint's routes as methods; usable by several threads, and as a context manager.

    A request that the endpoint cannot take now (429, 503, 504), or that did not reach it, is sent again: after the
    time that `Retry-After` names, or else after longer and longer ones. Every method raises:

        EndpointError: refused, failed, or not reached in spite of that.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_s: float = 300.0,
        attempts: int = 5,
        patience_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """
        Args:
            url: such as "https://lumina.example", with a path where the endpoint lies under one.
            key: API key; by default what the environment variable LUMINA_KEY holds, if anything.
            timeout_s: of one attempt, without a byte from the endpoint.
            attempts: of one request, the first one included.
            patience_s: no attempt but the first begins later than this.
            transport: other than the network.

        Raises:
            UsageError: not an address of the web, or a key that no header can hold.
        """
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise UsageError(f"{url!r} is no URL ({error}); write https://HOST or http://HOST:PORT") from error
        if address.scheme not in ("http", "https") or not address.host:
            raise UsageError(f"{url!r} is no URL of an endpoint; write https://HOST or http://HOST:PORT")
        headers = {"User-Agent": f"lumina-ray/{lumina_ray.__version__}"}
        if key := (key or os.environ.get(KEY_VARIABLE, "")).strip():
            if not (key.isascii() and key.isprintable()) or " " in key:
                # It is not quoted: the rest of it may be right.
                raise UsageError(
                    f"the API key (`key`, --key or {KEY_VARIABLE}) holds spaces, several lines, or characters "
                    "other than ASCII; give it as `lumina keys add` printed it, and nothing else"
                )
            headers["Authorization"] = f"Bearer {key}"
        try:
            self._http = httpx.Client(
                base_url=address,
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=_CONNECT_S),
                transport=transport,
                # A proxy has a loopback of its own. The environment's certificates hold there too.
                trust_env=not _is_loopback(address.host),
                verify=httpx.create_ssl_context(),
            )
        except (httpx.InvalidURL, ValueError, OSError, ImportError) as error:
            raise UsageError(
                f"the environment's proxy or certificates cannot be used ({error}); correct HTTP_PROXY, HTTPS_PROXY, "
                "ALL_PROXY, NO_PROXY, SSL_CERT_FILE or SSL_CERT_DIR"
            ) from error
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, EndpointError) and error.may_work_later),
            wait=_wait_s,
            stop=stop_after_attempt(attempts) | stop_before_delay(patience_s),
            reraise=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def attribute(
        self,
        audio: StrPath,
        policy: str | None = None,
        top_k: int | None = None,
        partial: bool | None = None,
        candidates: int | None = None,
    ) -> Report:
        """Attribute an audio file, which is read from disk as it is sent.

        Args:
            policy: calibrated, v8 or v7.
            top_k: songs per channel that are judged, by similarity.
            partial: accept a report on a part of the catalog if the rest does not answer; its `unsearched` says so.
            candidates: songs per channel that the report lists besides all that qualify or have a share.

        Raises:
            AudioError: no such file.
        """
        params = _given(policy=policy, top_k=top_k, partial=partial, candidates=candidates)
        return self._ask(Report, "POST", "/v1/attributions", files=[("audio", audio)], params=params)

    def confirm(
        self,
        audio: StrPath,
        policy: str | None = None,
        top_k: int | None = None,
        partial: bool | None = None,
        candidates: int | None = None,
    ) -> tuple[Report, Confirmation]:
        """Attribute an audio file, and have the report confirmed by forgetting (`confirm=unlearn`). Takes minutes.

        Args: as in `attribute`.

        Raises:
            AudioError: no such file.
        """
        params = _given(policy=policy, top_k=top_k, partial=partial, candidates=candidates, confirm="unlearn")
        response = self._retrying(self._send, "POST", "/v1/attributions", files=[("audio", audio)], params=params)
        report, _, confirmation = response.content.partition(b"\n")
        return _parsed(Report, report, response), _parsed(Confirmation, confirmation, response)

    def attribute_fingerprint(
        self,
        fingerprint: FingerprintQuery,
        policy: str | None = None,
        top_k: int | None = None,
        partial: bool | None = None,
        candidates: int | None = None,
    ) -> Report:
        """Attribute audio that was fingerprinted elsewhere and is not sent. It counts as one chunk."""
        params = _given(policy=policy, top_k=top_k, partial=partial, candidates=candidates)
        body = fingerprint.model_dump(mode="json")
        return self._ask(Report, "POST", "/v1/attributions/by-fingerprint", json=body, params=params)

    def submit_job(
        self,
        audio: Sequence[StrPath],
        policy: str | None = None,
        top_k: int | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Have several files attributed later.

        Args:
            idempotency_key: a name for this request: sent again under it, no second job begins. One is made up for
                the attempts of this call where none is given.

        Raises:
            AudioError: a file is not there.
            UsageError: an idempotency key that no header can hold, or an empty one.
        """
        key = str(uuid4()) if idempotency_key is None else idempotency_key
        if not (0 < len(key) <= _MAX_KEY_CHARACTERS and key.isascii() and key.isprintable() and key.strip() == key):
            raise UsageError(
                f"idempotency_key must be 1 to {_MAX_KEY_CHARACTERS} printable ASCII characters, without spaces around "
                f"them, not {key[:40]!r}"
            )
        headers = {"Idempotency-Key": key}
        params = _given(policy=policy, top_k=top_k)
        files = [("audio", file) for file in audio]
        return self._ask(Job, "POST", "/v1/jobs", files=files, params=params, headers=headers)

    def job(self, job_id: str) -> Job:
        """How far a job is."""
        return self._ask(Job, "GET", f"/v1/jobs/{_name(job_id)}")

    def job_results(self, job_id: str, cursor: str | None = None, limit: int | None = None) -> ResultsPage:
        """A page of what a job has found so far."""
        params = _given(cursor=cursor, limit=limit)
        return self._ask(ResultsPage, "GET", f"/v1/jobs/{_name(job_id)}/results", params=params)

    def all_job_results(self, job_id: str) -> Iterator[JobResult]:
        """All that a job has found so far, page by page."""
        cursor: str | None = None
        # A job that goes on has a cursor behind its last result, too.
        while (page := self.job_results(job_id, cursor)).results:
            yield from page.results
            if (cursor := page.next_cursor) is None:
                return

    def delete_job(self, job_id: str) -> None:
        """End a job, and delete its files and results."""
        for attempt in self._retrying:
            with attempt:
                try:
                    self._send("DELETE", f"/v1/jobs/{_name(job_id)}")
                except EndpointError as error:
                    # One before, whose answer was lost, may have deleted it.
                    if error.code != "jobs.unknown" or attempt.retry_state.attempt_number == 1:
                        raise

    def verify_report(
        self, report: StrPath, audio: StrPath | None = None, signature: StrPath | None = None
    ) -> ReportVerification:
        """Check a report's file and its signature's; with its audio, have all of it computed again.

        Raises:
            UsageError, AudioError: no such file.
        """
        files = [("report", report), ("audio", audio), ("signature", signature)]
        given = [(field, file) for field, file in files if file is not None]
        return self._ask(ReportVerification, "POST", "/v1/reports/verify", files=given)

    def statement(self, reports: Sequence[StrPath], by: By, period: str) -> Statement:
        """Add report files up to a statement.

        Args:
            by: owner, creator or song.
            period: what it is for, such as 2026-Q3.

        Raises:
            UsageError: no such file.
        """
        lines = []
        for report in reports:
            with _open("report", Path(report)) as file:
                lines.append(file.read())
        headers, params = {"Content-Type": "application/x-ndjson"}, {"by": by, "period": period}
        return self._ask(Statement, "POST", "/v1/statements", content=b"\n".join(lines), headers=headers, params=params)

    def songs(self, cursor: str | None = None, limit: int | None = None) -> SongPage:
        """A page of the catalog."""
        return self._ask(SongPage, "GET", "/v1/songs", params=_given(cursor=cursor, limit=limit))

    def all_songs(self) -> Iterator[SongFacts]:
        """The whole catalog, page by page."""
        cursor: str | None = None
        while True:
            page = self.songs(cursor)
            yield from page.songs
            if (cursor := page.next_cursor) is None:
                return

    def song(self, song_id: str) -> Song:
        return self._ask(Song, "GET", f"/v1/songs/{_name(song_id)}")

    def nearest(self, song_id: str, channel: Channel, limit: int | None = None) -> Neighbours:
        """The songs most similar to one of the catalog."""
        params = _given(channel=channel, limit=limit)
        return self._ask(Neighbours, "GET", f"/v1/songs/{_name(song_id)}/nearest", params=params)

    def indexes(self) -> IndexVersions:
        return self._ask(IndexVersions, "GET", "/v1/indexes")

    def ready(self) -> Readiness:
        """Get the model and the index that answer."""
        return self._ask(Readiness, "GET", "/readyz")

    def _ask(self, model: type[M], method: str, path: str, **request: Any) -> M:
        response = self._retrying(self._send, method, path, **request)
        return _parsed(model, response.content, response)

    def _send(
        self, method: str, path: str, *, files: Sequence[tuple[str, StrPath]] = (), **request: Any
    ) -> httpx.Response:
        with ExitStack() as opened:
            # Opened for each attempt, since the last one may have read half of them.
            sent = [(field, (Path(file).name, opened.enter_context(_open(field, Path(file))))) for field, file in files]
            try:
                response = self._http.request(method, path, files=sent or None, **request)
            except httpx.RequestError as error:
                cause = str(error) or type(error).__name__
                raise EndpointError(str(self._http.base_url), None, "endpoint.unreachable", cause) from error
        if not response.is_success:
            raise EndpointError.of_response(response)
        return response


def _parsed(kind: type[M], text: bytes, response: httpx.Response) -> M:
    """Read an answer, or a line of one, as a model or dataclass. Raises: EndpointError: it is none."""
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = "/".join(str(part) for part in first["loc"])
        raise EndpointError(
            str(response.url.copy_with(query=None)),
            response.status_code,
            "endpoint.answer",
            f"not the answer that this version of the client knows: {place}: {first['msg']}",
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _wait_s(state: RetryCallState) -> float:
    assert state.outcome is not None
    error = state.outcome.exception()
    if isinstance(error, EndpointError) and error.retry_after_s is not None:
        return error.retry_after_s + _SPREAD(state)
    return _BACKOFF(state)


def _open(field: str, file: Path) -> Any:
    try:
        return open_file(file)
    except OSError as error:
        cause = f"{file}: cannot be read ({error.strerror}); check the path"
        raise (AudioError("audio.missing", cause) if field == "audio" else UsageError(cause)) from error


def _given(**values: str | int | None) -> dict[str, str | int]:
    return {name: value for name, value in values.items() if value is not None}


def _name(text: str) -> str:
    """A name as one segment of a path, in which a slash of the name is no slash of the path."""
    # Segments of dots alone are taken out of paths.
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")
