"""Bodies that the endpoint takes and gives, besides the report. The server and the client share these models.

Needs neither torch, nor Ray, nor FastAPI. The report itself is `lumina_ray.attribution.schema.Report`.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from lumina_ray.attribution.schema import Report, SongFacts
from lumina_ray.vocabulary import MAX_DURATION_S, Channel, ChannelQuery

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PolicyName = Literal["calibrated", "v8", "v7"]


class _Answer(BaseModel):
    # A newer endpoint may say more than this version knows.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Readiness(_Answer):
    """The index and the model that a ready endpoint answers from, and its limits."""

    status: Literal["ready"] = "ready"
    model: str = Field(description="Name of the model.")
    weights_sha256: str = Field(description="SHA-256 of the model's weights.")
    fingerprint: str = Field(description="Kind of fingerprint, such as influence, stats or jl.")
    specification_sha256: str = Field(
        description="SHA-256 of the specification of the fingerprints. A fingerprint that a client sends must have the "
        "same one."
    )
    index_version: str = Field(description="The version of the index that answers, such as v0007.")
    index_key: str = Field(description="SHA-256 of the index's specification and catalog data.")
    index_wanted: str | None = Field(
        description="The version that the config asks for. It differs from `index_version` while it is loaded, and "
        "where it cannot be served. Null for a config that cannot be read."
    )
    index_fault: Literal["index.config", "index.unusable", "index.specification", "index.failed"] | None = Field(
        description="Why the version that the config asks for does not answer. `index.config`: the config cannot be "
        "read. `index.unusable`: the version is missing, incomplete or damaged. `index.specification`: it was made "
        "with another model or fingerprint. `index.failed`: another reason, which the server's log names."
    )
    songs: int = Field(description="Number of songs in the index.")
    policy: PolicyName = Field(description="Policy of requests that name none.")
    top_k: int = Field(description="Songs per channel that are judged if a request names no number.")
    max_upload_bytes: int = Field(description="Larger uploads are refused with 413.")
    max_audio_s: float = Field(description="Longer audio, in seconds, is refused with 422.")
    confirms: bool = Field(False, description="Whether reports are confirmed by forgetting: `?confirm=unlearn`.")


class SongPage(_Answer):
    """One page of the catalog, by song id."""

    index_version: str = Field(description="The version of the index that holds the songs.")
    songs: tuple[SongFacts, ...]
    next_cursor: str | None = Field(description="Asks for the next page; null on the last page.")


class Song(_Answer):
    """One song of the catalog."""

    index_version: str = Field(description="The version of the index that holds the song.")
    song: SongFacts


class Neighbour(_Answer):
    """A song that is similar to the one that was asked for."""

    similarity: float = Field(description="Inner product of the two unit fingerprints, −1 to 1.")
    song: SongFacts


class Neighbours(_Answer):
    """The songs that are most similar to one song, in one channel."""

    index_version: str = Field(description="The version of the index that was searched.")
    channel: Channel
    neighbours: tuple[Neighbour, ...] = Field(description="Most similar first.")


class IndexVersion(_Answer):
    """One version (snapshot) of the index."""

    version: str = Field(description="The version's name, such as v0007.")
    live: bool = Field(description="True for the version that answers.")
    key: str = Field(description="SHA-256 of its specification and catalog data.")
    specification_sha256: str = Field(description="SHA-256 of the specification of its fingerprints.")
    songs: int = Field(description="Number of songs in it.")
    generation: int | None = Field(
        description="Generation of the living catalog that it was built from; null for any other catalog."
    )
    created: datetime


class IndexVersions(_Answer):
    """All versions in the index folder."""

    indexes: tuple[IndexVersion, ...] = Field(description="Newest first.")
    unusable: tuple[str, ...] = Field(description="Versions that are incomplete or damaged, newest first.")


class JobFile(_Answer):
    """The state of one file of a job."""

    file: int = Field(description="Position of the file among those that were sent, from 0.")
    state: Literal["queued", "running", "done", "failed"]


class Job(_Answer):
    """A job: files that the endpoint attributes later."""

    id: str
    state: Literal["queued", "running", "done"] = Field(description="`done`: every file is done or failed.")
    policy: PolicyName
    top_k: int = Field(description="Songs per channel that are judged.")
    created: datetime
    expires: datetime = Field(description="When the endpoint deletes the job and its results.")
    files: tuple[JobFile, ...]


class ProblemFacts(_Answer):
    """Why a file has no report."""

    status: int = Field(description="HTTP status that a single request for this file would have got.")
    code: str = Field(description="For machines, such as `audio.silent`.")
    detail: str = Field(description="For people.")


class JobResult(_Answer):
    """The outcome of one file: a report or a problem."""

    file: int = Field(description="Position of the file among those that were sent, from 0.")
    report: Report | None = None
    problem: ProblemFacts | None = None


class ResultsPage(_Answer):
    """One page of a job's results, in the order in which files were finished."""

    results: tuple[JobResult, ...]
    next_cursor: str | None = Field(
        description="Asks for the results after these, now or later; null once no more can come."
    )


class ReportDifference(_Answer):
    """One place where a report and its recomputation differ."""

    path: str = Field(description="The place, as a JSON pointer (RFC 6901).")
    report: Any = Field(description="The value in the report.")
    recomputed: Any = Field(description="The value that was computed again.")


class ReportVerification(_Answer):
    """The outcome of checking a report. Its bytes are canonical, and its snapshot is here and unchanged."""

    report_sha256: Sha256
    index_version: str = Field(description="The snapshot that the report names.")
    signed_by: str | None = Field(
        description="Public key whose signature holds, in hexadecimal; null without a signature. It proves who signed "
        "only if you know whose key it is."
    )
    result: Literal["identical", "close", "different"] | None = Field(
        None,
        description="`identical`: every byte was computed again. `close`: computed in another environment, and equal "
        "within the tolerance of `lumina verify`. `different`: neither. Null without the audio: nothing was computed.",
    )
    difference: ReportDifference | None = Field(None, description="The first difference that made it `different`.")
    environment: tuple[ReportDifference, ...] = Field((), description="How the two environments differ.")
    withdrawn_since: int = Field(
        0, description="Songs that were withdrawn after the report was made, and searched again for this check only."
    )


class FingerprintQuery(BaseModel):
    """A fingerprint that the client made, for example with `lumina fingerprint`.

    `FingerprintQuery.model_validate(query)` takes a `lumina_ray.vocabulary.QueryFingerprint`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, from_attributes=True)

    specification_sha256: Sha256 = Field(
        description="SHA-256 of the specification that it was made with; `/readyz` names the one that the index needs."
    )
    audio_sha256: Sha256 = Field(description="SHA-256 of the audio file; the report repeats it.")
    codes_sha256: Sha256 = Field(description="SHA-256 of the audio's EnCodec codes; the report repeats it.")
    duration_s: float = Field(gt=0, le=MAX_DURATION_S, description="Duration of the audio, in seconds.")
    channels: dict[Channel, Annotated[list[float], Field(min_length=1, max_length=1 << 16, fail_fast=True)]] = Field(
        min_length=1, fail_fast=True, description="For each channel, the unit vector of the whole audio."
    )

    @field_validator("channels", mode="before")
    @classmethod
    def _as_lists(cls, channels: Any) -> Any:
        """The vectors of a `QueryFingerprint` as lists; anything else as it is."""
        if not isinstance(channels, dict):
            return channels
        return {
            name: query.vector.tolist() if isinstance(query, ChannelQuery) else query
            for name, query in channels.items()
        }
