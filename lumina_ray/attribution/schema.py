"""The report: what an answer says and everything that it rests on.

Frozen, without timestamps or paths of machines, so that the command line and the endpoint give the same bytes. The
same models are the endpoint's response schema.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lumina_ray.calibration.vectors import CHANNELS, Channel


class _Frozen(BaseModel):
    # Reports also come from outside, and Pydantic keeps a kilobyte for each error that it finds: of any sequence the
    # first one is enough, and fields that no report has are passed over (canonical JSON has none).
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SongFacts(_Frozen):
    """What the catalog's manifest says of a song."""

    song_id: str
    title: str | None
    creator: str | None
    isrc: str | None
    iswc: str | None
    publisher: str | None
    master_owner: str | None
    splits: str | None
    licence: str | None
    source: str | None
    duration_s: float
    audio_sha256: str
    codes_sha256: str


class UseFacts(_Frozen):
    """Was the model trained on a song, or on something nearly identical? Whatever the query: of the song alone."""

    excess: float = Field(
        description="Mean log-likelihood of the song under the audited model minus that under a reference model that "
        "never saw the catalog, in nats per code."
    )
    p_value: float = Field(
        description="Share of controls and song whose excess is at least this large, the model having seen no control. "
        "Of this one song, chosen before looking: not corrected for how many are listed."
    )


class Candidate(_Frozen):
    """One song that the search returned, in one channel."""

    rank: int = Field(description="1 for the largest share; ties by the policy's statistic.")
    song: SongFacts
    similarity: float = Field(description="Inner product of the two unit fingerprints, −1 to 1.")
    adjusted_similarity: float = Field(
        description="Similarity minus the song's mean similarity to the rest of the catalog; p-values are taken on it."
    )
    threshold: float = Field(description="The similarity at which this song qualifies under the policy.")
    kernel_score: float = Field(
        description="(K Kᵀ + λI)⁻¹ K g over all candidates: signed, without unit; negative ones are ignored by shares."
    )
    z: float = Field(description="(similarity − μ) / σ of the controls.")
    p_value: float = Field(description="Of this one song, chosen before looking: not corrected for the search.")
    family_wise_p: float = Field(
        description="Share of tracks, controls and query, whose best match in the whole catalog is at least this good."
    )
    p_extrapolated: float | None = Field(
        description="A generalised Pareto tail's guess of the family-wise p-value beyond the resolution of the "
        "controls. An extrapolation: qualifies nothing."
    )
    q_value: float = Field(
        description="Share of chance finds in a list of all songs up to this one, on average over queries and with "
        "empty lists counted as free of chance (Benjamini and Hochberg)."
    )
    level: str = Field(description="The policy's name for how far the song stands out.")
    qualified: bool
    share: float = Field(description="0 to 1; shares and `unattributed` of a channel add up to 1.")
    share_low: float | None = Field(
        description="Policy `calibrated`: lower end of the share's 95 % interval over draws of chunks and controls; "
        "none where more than 512 songs qualify."
    )
    share_high: float | None = Field(description="Policy `calibrated`: its upper end.")
    explained: float | None = Field(description="Policy `calibrated`: the share before the noise is deducted.")
    confidence: float | None = Field(description="Policy `v7`: erf(z/√2).")
    lip_percent: float | None = Field(description="Policy `v7`: (tanh(0.5·STS) + 1) / 2 · 100.")
    chunk_similarities: tuple[float, ...] = Field(
        fail_fast=True,
        description="Similarity of each chunk of the query to the song, to 6 decimals, in the order of `query.chunks`.",
    )
    driving_chunks: tuple[int, ...] = Field(
        fail_fast=True,
        description="The fewest chunks that carry at least half of the positive match, by index, strongest first.",
    )
    use: UseFacts | None = Field(description="Null where the index has no evidence of use (`lumina use`).")


class NoiseBand(_Frozen):
    """What unrelated music looks like in one channel."""

    n_controls: int
    mean: float = Field(description="μ of the similarity of controls and catalog songs.")
    std: float = Field(description="σ of the same.")
    similarity_quantiles: dict[str, float] = Field(fail_fast=True, description="Quantiles of the same.")
    control_maxima_similarity: tuple[float, ...] = Field(
        fail_fast=True, description="Each control's largest similarity in the catalog, descending."
    )
    control_maxima: tuple[float, ...] = Field(fail_fast=True, description="The same for the adjusted similarity.")
    alpha: float = Field(description="Family-wise p-value up to which `calibrated` qualifies a song.")
    critical: float = Field(description="Adjusted similarity that must be exceeded for it.")
    resolution: float = Field(description="Smallest family-wise p-value that this many controls can show.")
    expected_false_positives: float = Field(
        description="Songs of this catalog that the policy qualifies for an unrelated track, on average over the "
        "controls; for `calibrated` the chance of any."
    )
    query_mean_similarity: float = Field(description="Mean similarity of the query to all songs of the catalog.")
    control_means: tuple[float, ...] = Field(fail_fast=True, description="The same of each control, descending.")
    query_typicality_p: float = Field(
        description="Two-sided: could a control have the query's mean similarity? Small values void the p-values."
    )


class ChannelReport(_Frozen):
    """The answer in one channel. Channels are two rights and are never merged."""

    subject: Literal["composition", "production"]
    right: Literal["publishing", "master"]
    verdict: str = Field(description="The result in one sentence.")
    basis: str = Field(
        description="In one sentence, what the shares rest on: likeness alone, or likeness and evidence that the model "
        "was trained on the songs."
    )
    warnings: tuple[str, ...] = Field(
        fail_fast=True, description="What a reader must know before relying on the numbers."
    )
    searched: int = Field(description="Songs in the catalog.")
    retrieved: int = Field(description="Candidates below: the most similar ones.")
    qualified: int = Field(description="Candidates that qualify under the policy.")
    attributed: float = Field(description="Sum of all shares.")
    unattributed: float = Field(description="1 − attributed.")
    noise: NoiseBand
    candidates: tuple[Candidate, ...] = Field(fail_fast=True, description="By rank.")


class QueryChunk(_Frozen):
    """A stretch of the query that was fingerprinted by itself."""

    start_s: float
    duration_s: float
    weight: float = Field(description="Its part in the query's fingerprint; weights add up to 1.")


class QueryFacts(_Frozen):
    """The audio that was attributed."""

    audio_sha256: str = Field(description="Of the file as it was handed in.")
    codes_sha256: str = Field(description="Of its EnCodec codes, which the fingerprint follows from.")
    duration_s: float
    chunks: tuple[QueryChunk, ...] = Field(fail_fast=True, description="Silent stretches are left out.")


class PolicyFacts(_Frozen):
    """The rule that qualified songs and gave shares."""

    name: Literal["calibrated", "v8", "v7"]
    published: bool = Field(description="A published rule, implemented to the letter. Published is not proven.")
    statistic: str
    qualifies: str
    share: str
    ridge: float = Field(description="λ of the kernel regression.")
    top_k: int = Field(description="Candidates asked for.")


class UseProvenance(_Frozen):
    """What evidence of use rests on."""

    reference_weights_sha256: str = Field(description="Of the reference model, which must never have seen the catalog.")
    controls_sha256: str = Field(description="Ids, codes and vectors of the controls' store.")
    n_controls: int = Field(description="Distinct controls: music of the catalog's kind that the model never saw.")
    resolution: float = Field(description="Smallest p-value that this many controls can show.")
    file_sha256: str = Field(description="Of the index's use.parquet, which has every song's numbers.")


class Provenance(_Frozen):
    """Everything needed to replay the answer; the same environment repeats it bit for bit."""

    weights_sha256: str
    specification_sha256: str
    specification: dict = Field(description="How audio becomes a fingerprint.")
    index_version: str
    index_key: str = Field(description="sha256 of specification and catalog data.")
    calibration_sha256: str
    use: UseProvenance | None = Field(description="Null where no reference model was compared with.")
    environment: dict[str, str] = Field(fail_fast=True, description="What made the query's fingerprint.")
    software: dict[str, str] = Field(fail_fast=True, description="What computed this report.")


class Unsearched(_Frozen):
    """Songs that nothing is known of, because the part of the index that holds them did not answer."""

    first_row: int = Field(description="Place of the first one in the catalog, in the order of song ids, from 0.")
    n_songs: int


class Report(_Frozen):
    """Which songs of a catalog a piece of music resembles beyond chance, in both channels."""

    format_version: Literal[1, 2] = Field(1, description="2: a part of the catalog was not searched.")
    evidence: str = Field(description="What kind of evidence this is, and what it is not.")
    policy: PolicyFacts
    query: QueryFacts
    channels: dict[Channel, ChannelReport] = Field(
        fail_fast=True,
        description="P: composition (publishing right). M: production (master right). Those that the index holds.",
    )
    provenance: Provenance
    unsearched: Annotated[tuple[Unsearched, ...], Field(min_length=1, fail_fast=True)] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Only in an answer that was allowed to be partial, and is: what was left out.",
    )

    @model_validator(mode="after")
    def _partial_reports_say_so(self) -> Self:
        # Software that knows format 1 alone must not take a part of the catalog for all of it.
        if (self.format_version == 2) != (self.unsearched is not None):
            raise ValueError("format_version is 2 exactly where `unsearched` says what was not searched")
        return self

    @field_validator("channels")
    @classmethod
    def _composition_first(cls, channels: dict[Channel, ChannelReport]) -> dict[Channel, ChannelReport]:
        # Canonical JSON sorts its keys; a report that was read back must still show P before M.
        if not channels:
            raise ValueError("a report has at least one channel")
        return {channel: channels[channel] for channel in CHANNELS if channel in channels}
