"""What the endpoint is sent and what it answers, besides `lumina_ray.attribution.schema.Report`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from lumina_ray.attribution.schema import Report, SongFacts
from lumina_ray.calibration.vectors import Channel


class _Answer(BaseModel):
    # A newer endpoint may say more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Readiness(_Answer):
    """What the endpoint answers from; `policy` and `top_k` are those of requests that name none."""

    status: str
    model: str
    weights_sha256: str
    fingerprint: str
    specification_sha256: str
    index_version: str
    index_key: str
    songs: int
    policy: str
    top_k: int
    max_upload_bytes: int
    max_audio_s: float


class Song(SongFacts):
    """What the catalog says of a song."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Songs(_Answer):
    """A page of songs; `next_cursor` asks for the next one."""

    items: tuple[Song, ...]
    next_cursor: str | None


class Neighbour(_Answer):
    song: Song
    similarity: float


class Nearest(_Answer):
    """The songs most similar to one, in one channel, most similar first."""

    channel: Channel
    items: tuple[Neighbour, ...]


class IndexVersion(_Answer):
    version: str
    key: str
    songs: int


class Indexes(_Answer):
    """The versions of the index, and which of them answers."""

    serving: str
    items: tuple[IndexVersion, ...]


class Job(_Answer):
    """Files to be attributed one after the other; `done` and `failed` of `total` have a result."""

    id: str
    status: Literal["queued", "running", "done", "cancelled"]
    total: int
    done: int
    failed: int


class JobError(_Answer):
    code: str
    detail: str


class JobResult(_Answer):
    """Of one file of a job: a report, or why there is none. `index` is its place among the files, from 0."""

    index: int
    report: Report | None
    error: JobError | None


class JobResults(_Answer):
    """A page of results; `next_cursor` asks for the next one."""

    items: tuple[JobResult, ...]
    next_cursor: str | None


def _plain(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values


class ChannelVectors(BaseModel):
    """Unit vectors of the whole query `[D]` and of each chunk `[n, D]`."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    vector: Annotated[tuple[float, ...], BeforeValidator(_plain)]
    chunk_vectors: Annotated[tuple[tuple[float, ...], ...], BeforeValidator(_plain)]


class Fingerprint(BaseModel):
    """A query that was fingerprinted elsewhere; `Fingerprint.model_validate` takes a `QueryFingerprint`."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    audio_sha256: str
    codes_sha256: str
    duration_s: float
    specification_sha256: str
    weights_sha256: str
    channels: dict[Channel, ChannelVectors]
    chunk_starts_s: tuple[float, ...]
    chunk_durations_s: tuple[float, ...]
    chunk_weights: tuple[float, ...]
    environment: dict[str, str]
