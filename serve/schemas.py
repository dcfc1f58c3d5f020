"""What the endpoint is configured with, what it is asked, and what it answers besides a report."""

import reprlib
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from lumina_ray.attribution import DEFAULT_TOP_K, Report, SongFacts
from lumina_ray.audio import MAX_DURATION_S
from lumina_ray.calibration.vectors import Channel
from lumina_ray.errors import UsageError

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PolicyName = Literal["calibrated", "v8", "v7"]
# A report holds every candidate: more of them than this makes answers that no client wants to parse.
MAX_TOP_K = 4096
_MAX_ERRORS = 10


class ServeArgs(BaseModel):
    """Arguments of `serve.app:build`: the `args` of a Serve config, or KEY=VALUE after `serve run serve.app:build`.

    Raises:
        UsageError: every unknown, missing or impossible argument, in one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    index: Path = Field(description="Index folder, or one snapshot of it; its newest complete version is served.")
    model: str | None = Field(None, description="Model that made the index; by default the one recorded in it.")
    device: Literal["cpu", "cuda"] = Field(
        "cpu", description="Where the model runs; cuda takes a GPU per fingerprinter."
    )
    policy: PolicyName = Field("calibrated", description="Policy of requests that name none.")
    top_k: int = Field(
        DEFAULT_TOP_K, ge=1, le=MAX_TOP_K, description="Candidates per channel where none are asked for."
    )
    keys: Path | None = Field(None, description="File of API keys, made with `lumina keys add`.")
    open_access: bool = Field(False, description="Ask for no key. Only where nobody else can reach the endpoint.")
    max_upload_bytes: int = Field(64 << 20, ge=1, description="Larger uploads are refused with 413.")
    max_audio_s: float = Field(600.0, gt=0, description="Longer audio is refused with 422.")
    request_timeout_s: float = Field(300.0, gt=0, description="From the first byte of a request to its answer.")
    decode_timeout_s: float = Field(60.0, gt=0, description="Uploads that take longer to decode are refused with 422.")
    max_requests: int = Field(16, ge=1, description="Requests that a gateway takes at once; more of them wait.")
    max_waiting: int = Field(64, ge=0, description="Requests that wait for a gateway; more are refused with 429.")
    jobs: Path | None = Field(None, description="Folder of asynchronous jobs; without it none are taken.")
    max_job_files: int = Field(64, ge=1, description="Jobs of more files are refused with 400.")
    max_job_bytes: int = Field(128 << 20, ge=1, description="Jobs of more bytes are refused with 413.")
    max_jobs_bytes: int = Field(4 << 30, ge=1, description="Audio and results of all jobs; over it, 429.")
    max_job_age_s: float = Field(7 * 86400.0, gt=0, description="Older jobs are forgotten.")
    gateways: int = Field(1, ge=1, description="Replicas that take uploads and decode them.")
    fingerprinters: int = Field(1, ge=1, description="Replicas that own a model each.")
    searchers: int = Field(1, ge=1, description="Replicas that hold the index each, or each shard of it.")
    shards: int = Field(1, ge=1, description="Deployments over which the index is spread.")

    @model_validator(mode="after")
    def _access_is_decided(self) -> Self:
        if (self.keys is None) != self.open_access:
            raise ValueError(
                "give either keys, a file made with `lumina keys add NAME --file KEYS`, or open_access"
                + (", and not both" if self.keys else " to let in whoever reaches the endpoint")
            )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        # Also on the way through Ray, which calls `model_validate` on the arguments of a config.
        try:
            return validate(values)
        except ValidationError as error:
            raise UsageError(f"arguments of the endpoint: {describe_errors(error.errors())}") from error


def shard_name(number: int) -> str:
    """What the deployment of a shard is called, in configs and in Ray's status."""
    return f"Shard-{number}"


class IndexChoice(BaseModel):
    """`user_config` of the searcher in a Serve config; a change of it exchanges the index in running replicas."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index_version: str = Field(description="A snapshot's folder in the index folder, such as v0007.")


class AttributionOptions(BaseModel):
    """Query parameters of an attribution. Unknown ones are refused: a misspelt `topk` would be ignored otherwise."""

    model_config = ConfigDict(extra="forbid")

    policy: PolicyName | None = Field(None, description="Rule that qualifies songs; `calibrated` unless configured.")
    top_k: int | None = Field(None, ge=1, le=MAX_TOP_K, description="Candidates per channel, by similarity.")


class AnswerOptions(AttributionOptions):
    """The same of an attribution that is answered at once."""

    partial: bool = Field(
        False,
        description="Answer from what there is of the index where a shard of it is missing, instead of 503; the report "
        "has then format_version 2, and says what was not searched.",
    )


class PageOptions(BaseModel):
    """Query parameters of a listing."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(None, max_length=4096, description="`next_cursor` of the page before.")
    limit: int = Field(100, ge=1, le=1000, description="Entries of a page.")


class NearestOptions(BaseModel):
    """Query parameters of a song's neighbours."""

    model_config = ConfigDict(extra="forbid")

    channel: Channel = Field("P", description="P: composition. M: production.")
    limit: int = Field(10, ge=1, le=100, description="Songs.")


class FingerprintQuery(BaseModel):
    """A fingerprint that the client made, such as with `lumina fingerprint`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    specification_sha256: Sha256 = Field(description="Of how it was made; `/readyz` names the one that is wanted.")
    audio_sha256: Sha256 = Field(description="Of the audio file; the report repeats it.")
    codes_sha256: Sha256 = Field(description="Of its EnCodec codes; the report repeats it.")
    duration_s: float = Field(gt=0, le=MAX_DURATION_S)
    channels: dict[Channel, Annotated[list[float], Field(min_length=1, max_length=1 << 16, fail_fast=True)]] = Field(
        min_length=1, fail_fast=True, description="Unit vectors of the whole audio."
    )


class SongPage(BaseModel):
    """Some songs of the catalog."""

    index_version: str
    songs: list[SongFacts]
    next_cursor: str | None = Field(description="Asks for the next page; null on the last one.")


class Song(BaseModel):
    """A song of the catalog."""

    index_version: str
    song: SongFacts


class Neighbour(BaseModel):
    """A song that resembles another."""

    similarity: float = Field(description="Inner product of the two unit fingerprints, −1 to 1.")
    song: SongFacts


class Neighbours(BaseModel):
    """The songs that resemble a song most."""

    index_version: str
    channel: Channel
    neighbours: list[Neighbour] = Field(description="Most similar first.")


class IndexVersion(BaseModel):
    """A snapshot of the index."""

    version: str
    live: bool = Field(description="The one that answers.")
    key: str = Field(description="sha256 of specification and catalog data.")
    specification_sha256: str
    songs: int
    generation: int | None = Field(description="Of the living catalog that it was built from.")
    created: datetime


class IndexVersions(BaseModel):
    """The snapshots at hand, newest first."""

    indexes: list[IndexVersion]
    unusable: list[str] = Field(description="Versions that are incomplete or damaged, newest first.")


class ResultsOptions(BaseModel):
    """Query parameters of a job's results."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(None, max_length=64, description="`next_cursor` of the page before.")
    limit: int = Field(10, ge=1, le=100, description="Results of a page; a report may have hundreds of kilobytes.")


class JobFile(BaseModel):
    """How far a file of a job is."""

    file: int = Field(description="Its place among the files that were sent, from 0.")
    state: Literal["queued", "running", "done", "failed"]


class Job(BaseModel):
    """Files to be attributed."""

    id: str
    state: Literal["queued", "running", "done"] = Field(description="`done`: every file is done or failed.")
    policy: PolicyName
    top_k: int
    created: datetime
    expires: datetime = Field(description="When it is forgotten, with its results.")
    files: list[JobFile]


class JobResult(BaseModel):
    """What became of a file: a report or a problem."""

    file: int
    report: Report | None = None
    problem: dict[str, Any] | None = None


class ResultsPage(BaseModel):
    """Results in the order in which they were made."""

    results: list[JobResult]
    next_cursor: str | None = Field(description="Where to go on, now or later; null once there is nothing to come.")


class ReportDifference(BaseModel):
    """A place of a report, as a JSON pointer, and what is there."""

    path: str
    report: Any
    recomputed: Any


class ReportVerification(BaseModel):
    """What came of checking a report, whose bytes are canonical, and whose snapshot is here as it was."""

    report_sha256: Sha256
    index_version: str = Field(description="The snapshot that it names.")
    signed_by: str | None = Field(
        description="The public key whose signature holds; null without a signature. Whose key it is, you must know."
    )
    result: Literal["identical", "close", "different"] | None = Field(
        None, description="As of `lumina verify`; null without the audio, as nothing was computed."
    )
    difference: ReportDifference | None = Field(None, description="The first one that made it `different`.")
    environment: list[ReportDifference] = Field([], description="In what the environments differ.")
    withdrawn_since: int = Field(0, description="Songs withdrawn since, which were searched once more for this.")


class Readiness(BaseModel):
    """What a ready endpoint answers from."""

    status: Literal["ready"] = "ready"
    model: str
    weights_sha256: str
    fingerprint: str = Field(description="Kind of fingerprint, such as influence, stats or jl.")
    specification_sha256: str
    index_version: str
    index_key: str
    index_wanted: str | None = Field(
        description="The version that the config asks for: another one than `index_version` while it is loaded, or "
        "where it cannot be served. Null for a config that cannot be read."
    )
    index_fault: Literal["index.config", "index.unusable", "index.specification", "index.failed"] | None = Field(
        description="Why the version that the config asks for is not the one that answers: the config cannot be read; "
        "not there, incomplete or damaged; made with another model or fingerprint; or anything else, see the log."
    )
    songs: int
    policy: PolicyName = Field(description="Where a request names none.")
    top_k: int = Field(description="Where a request names none.")
    max_upload_bytes: int
    max_audio_s: float


def describe_errors(errors: list) -> str:
    """Pydantic's errors as one line for people: `top_k: Input should be … (got 0)`."""
    parts = []
    for error in errors[:_MAX_ERRORS]:
        place = ".".join(str(part) for part in error["loc"])[:80] or "body"
        value = error["input"]
        # Not the text of a list of millions, only to cut it.
        text = str(value)[:80] if isinstance(value, str | int | float | None) else reprlib.repr(value)[:80]
        got = "" if error["type"] in {"missing", "extra_forbidden"} else f" (got {text!r})"
        parts.append(f"{place}: {error['msg']}{got}")
    if len(errors) > _MAX_ERRORS:
        parts.append(f"and {len(errors) - _MAX_ERRORS} more")
    return "; ".join(parts)
