"""What the endpoint is sent and what it answers, besides `lumina_ray.attribution.schema.Report`."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from lumina_ray.attribution.schema import Report, SongFacts
from lumina_ray.calibration.vectors import Channel


class _Answer(BaseModel):
    # A newer endpoint may say more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Readiness(_Answer):
    """What the endpoint answers from; `policy` and `top_k` are those of requests that name none.

    `index_wanted` is the version that the operator asks for: another one than `index_version` while it is loaded, or
    where `index_fault` says why it cannot be served.
    """

    status: str
    model: str
    weights_sha256: str
    fingerprint: str
    specification_sha256: str
    index_version: str
    index_key: str
    index_wanted: str | None = None
    index_fault: str | None = None
    songs: int
    policy: str
    top_k: int
    max_upload_bytes: int
    max_audio_s: float


class Song(_Answer):
    """A song of the catalog, and the version of the index that holds it."""

    index_version: str
    song: SongFacts


class SongPage(_Answer):
    """Some songs, by id; `next_cursor` asks for those behind them, and is None on the last page."""

    index_version: str
    songs: tuple[SongFacts, ...]
    next_cursor: str | None


class Neighbour(_Answer):
    similarity: float
    song: SongFacts


class Neighbours(_Answer):
    """The songs that resemble a song most, in one channel, most similar first."""

    index_version: str
    channel: Channel
    neighbours: tuple[Neighbour, ...]


class IndexVersion(_Answer):
    """A snapshot of the index; the one that is `live` answers."""

    version: str
    live: bool
    key: str
    specification_sha256: str
    songs: int
    generation: int | None
    created: datetime


class IndexVersions(_Answer):
    """The snapshots at hand, newest first."""

    indexes: tuple[IndexVersion, ...]


class JobFile(_Answer):
    """A file of a job, by its place among those that were sent, from 0."""

    file: int
    state: Literal["queued", "running", "done", "failed"]


class Job(_Answer):
    """Files to be attributed. Once it has expired it is forgotten, with its results."""

    id: str
    state: Literal["queued", "running", "done"]
    policy: str
    top_k: int
    created: datetime
    expires: datetime
    files: tuple[JobFile, ...]


class ProblemFacts(_Answer):
    """Why there is no report."""

    status: int
    code: str
    detail: str


class JobResult(_Answer):
    """What became of a file: a report or a problem."""

    file: int
    report: Report | None = None
    problem: ProblemFacts | None = None


class ResultPage(_Answer):
    """Results in the order in which they were made; `next_cursor` goes on, now or later, and is None at the end."""

    results: tuple[JobResult, ...]
    next_cursor: str | None


class ReportDifference(_Answer):
    """A place of a report, as a JSON pointer; what the report has there, and what was computed."""

    path: str
    report: Any
    recomputed: Any


class ReportVerification(_Answer):
    """What came of checking a report. Without the audio nothing was computed, and `result` is None.

    `signed_by` is the public key whose signature holds, in hexadecimal; None without a signature. `environment` says in
    what the environments differ, and `withdrawn_since` how many songs were searched once more for this.
    """

    report_sha256: str
    index_version: str
    signed_by: str | None
    result: Literal["identical", "close", "different"] | None
    difference: ReportDifference | None
    environment: tuple[ReportDifference, ...]
    withdrawn_since: int


def _plain(query: Any) -> Any:
    vector = getattr(query, "vector", query)
    return vector.tolist() if hasattr(vector, "tolist") else vector


class Fingerprint(BaseModel):
    """A query that was fingerprinted elsewhere: `Fingerprint.model_validate(query)` takes a `QueryFingerprint`.

    `channels` holds unit vectors `[D]` of the whole query.
    """

    model_config = ConfigDict(frozen=True, from_attributes=True)

    specification_sha256: str
    audio_sha256: str
    codes_sha256: str
    duration_s: float
    channels: dict[Channel, Annotated[tuple[float, ...], BeforeValidator(_plain)]]
