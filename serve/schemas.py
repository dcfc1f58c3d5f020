"""Arguments of the endpoint, and query parameters of its requests. Bodies are in `lumina_ray.answers`."""

import reprlib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from lumina_ray.answers import PolicyName
from lumina_ray.errors import UsageError
from lumina_ray.statement.period import check_period
from lumina_ray.statement.words import By
from lumina_ray.vocabulary import DEFAULT_CANDIDATES, DEFAULT_TOP_K, Channel

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
        "cpu", description="Device of the model; cuda takes a GPU per fingerprinter."
    )
    policy: PolicyName = Field("calibrated", description="Policy of requests that name none.")
    top_k: int = Field(
        DEFAULT_TOP_K, ge=1, le=MAX_TOP_K, description="Songs per channel that are judged if a request names no number."
    )
    keys: Path | None = Field(None, description="File of API keys, made with `lumina keys add`.")
    open_access: bool = Field(False, description="Ask for no key. Only where nobody else can reach the endpoint.")
    max_upload_bytes: int = Field(64 << 20, ge=1, description="Larger uploads are refused with 413.")
    max_audio_s: float = Field(600.0, gt=0, description="Longer audio is refused with 422.")
    request_timeout_s: float = Field(300.0, gt=0, description="From the first byte of a request to its answer.")
    decode_timeout_s: float = Field(60.0, gt=0, description="Uploads that take longer to decode are refused with 422.")
    max_requests: int = Field(16, ge=1, description="Requests that a gateway takes at once; more of them wait.")
    max_waiting: int = Field(
        64,
        ge=0,
        description="Requests that wait for a gateway, uploads not counted; more are refused with 429. A key may "
        "have another only while it has fewer than are left.",
    )
    max_uploads: int = Field(
        64,
        ge=1,
        description="Uploads that a gateway takes at once, first byte to answer; more are refused with 429. A key "
        "may have another only while it has fewer than are left.",
    )
    max_uploads_per_key: int = Field(
        8, ge=1, description="Those of one key; more of them are refused with 429. Where access is open, all of them."
    )
    upload_idle_s: float = Field(10.0, gt=0, description="Uploads of which nothing comes for longer end with 408.")
    min_upload_bytes_per_s: int = Field(
        8192,
        ge=1,
        description="Uploads that come more slowly, once they had the time to stand still, end with 408.",
    )
    jobs: Path | None = Field(None, description="Folder of asynchronous jobs; without it none are taken.")
    max_job_files: int = Field(64, ge=1, description="Jobs of more files are refused with 400.")
    max_job_bytes: int = Field(128 << 20, ge=1, description="Jobs of more bytes are refused with 413.")
    max_jobs_bytes: int = Field(4 << 30, ge=1, description="Audio and results of all jobs; over it, 429.")
    max_job_age_s: float = Field(7 * 86400.0, gt=0, description="Older jobs are forgotten.")
    store: str | None = Field(
        None,
        description="Store that the index was built from; with it, `?confirm=unlearn` is answered, by a replica that "
        "owns a model of its own.",
    )
    fisher: Path | None = Field(
        None, description="With store: a file of `lumina fisher`; by default the one beside the model."
    )
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

    @model_validator(mode="after")
    def _fisher_has_a_store(self) -> Self:
        if self.fisher is not None and self.store is None:
            raise ValueError("fisher is for confirmations: give store as well, which the index was built from")
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
    """Name of a shard's deployment, in configs and in Ray's status."""
    return f"Shard-{number}"


class IndexChoice(BaseModel):
    """`user_config` of the searcher in a Serve config; a change of it exchanges the index in running replicas."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    index_version: str = Field(description="A snapshot's folder in the index folder, such as v0007.")


class AttributionOptions(BaseModel):
    """Query parameters of an attribution. Unknown ones are refused, so that a misspelt `topk` is not ignored."""

    model_config = ConfigDict(extra="forbid")

    policy: PolicyName | None = Field(None, description="Rule that qualifies songs; `calibrated` unless configured.")
    top_k: int | None = Field(None, ge=1, le=MAX_TOP_K, description="Songs per channel that are judged, by similarity.")


class AnswerOptions(AttributionOptions):
    """Query parameters of an attribution that is answered at once."""

    candidates: int = Field(
        DEFAULT_CANDIDATES,
        ge=1,
        le=MAX_TOP_K,
        description="Songs per channel that the report lists, the best ones. All others that qualify or have a share "
        "are listed too.",
    )
    partial: bool = Field(
        False,
        description="Answer from what there is of the index where a shard of it is missing, instead of 503; the report "
        "then says in `unsearched` what was not searched.",
    )


class UploadOptions(AnswerOptions):
    """Query parameters of an attribution of audio that is answered at once."""

    confirm: Literal["unlearn"] | None = Field(
        None,
        description="`unlearn`: have the model forget the audio, and rank the first 20 songs of each channel of the "
        "report among 100 random ones by what it loses with it. Takes minutes. The answer is then two lines of JSON: "
        "the report, and its confirmation.",
    )


class StatementOptions(BaseModel):
    """Query parameters of a statement."""

    model_config = ConfigDict(extra="forbid")

    by: By = Field(description="A line for each owner (splits are applied), creator or song.")
    period: str = Field(
        max_length=40,
        description="What it is for: 2026, 2026-Q3, 2026-09, or 2026-07-01/2026-09-30. Reports have no date.",
    )
    format: Literal["json", "csv", "html"] = Field("json", description="The statement, its lines, or its page.")

    @field_validator("period")
    @classmethod
    def _is_a_period(cls, period: str) -> str:
        try:
            return check_period(period)
        except UsageError as error:
            raise ValueError(str(error)) from error


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


class ResultsOptions(BaseModel):
    """Query parameters of a job's results."""

    model_config = ConfigDict(extra="forbid")

    cursor: str | None = Field(None, max_length=64, description="`next_cursor` of the page before.")
    limit: int = Field(10, ge=1, le=100, description="Results of a page; a report may have hundreds of kilobytes.")


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
