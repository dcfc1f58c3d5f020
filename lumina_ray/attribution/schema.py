"""The report: the numbers of an answer and everything that they rest on.

A report holds data and no sentences; `lumina_ray.report.sentences` makes those where a report is shown. Reports are
frozen and have no timestamps and no paths of machines, so that the command line and the endpoint give the same bytes.
The models are also the endpoint's response schema.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from lumina_ray.vocabulary import CHANNELS, Aspect, Channel, Evidence, StreamReason

FORMAT_VERSION: Literal[7] = 7
"""Reports before 3 held English sentences; those before 4 listed equal audio as songs of their own; those before 5
named only what was judged of it, and no audio stream; those before 6 judged each channel by itself; those before 7 had
shares that depended on the length of the query."""

RIGHTS: dict[Channel, tuple[Literal["composition", "production"], Literal["publishing", "master"]]] = {
    "P": ("composition", "publishing"),
    "M": ("production", "master"),
}


class _Frozen(BaseModel):
    # Reports also come from outside, and Pydantic keeps a kilobyte for each error that it finds: of any sequence the
    # first one is enough, and fields that no report has are passed over (canonical JSON has none).
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class SongFacts(_Frozen):
    """A song, as the catalog's manifest describes it."""

    song_id: str
    title: str | None
    creator: str | None
    isrc: str | None
    iswc: str | None
    publisher: str | None
    master_owner: str | None
    splits: str | None
    registered: str | None
    licence: str | None
    source: str | None
    duration_s: float
    audio_sha256: str
    codes_sha256: str


class MembershipFacts(_Frozen):
    """Evidence that the model was trained on a song or on something nearly identical, whatever the query."""

    excess: float = Field(
        description="Mean log-likelihood of the song under the audited model minus that under reference models that "
        "never saw the catalog (their mean, if there are several), in nats per code."
    )
    p_value: float = Field(
        description="Fraction of tracks, the controls and this song, whose excess is at least as large in standard "
        "errors. The model saw no control. It is for one song chosen before looking: not corrected for the number of "
        "songs listed."
    )


class GroupFacts(_Frozen):
    """Candidates of which one is a near copy of another: they are attributed and paid as one song."""

    rule: Literal["earliest", "one_owner", "even"] = Field(
        description="How the group's share is divided. earliest: all of it is the song's with the earliest "
        "`registered`. one_owner: all songs name one owner of the channel's right. even: equal parts for each owner."
    )
    share: float = Field(description="Sum of the shares of the group's songs.")
    song_ids: tuple[str, ...] = Field(fail_fast=True, description="All songs of the group, this one included, by id.")


class Candidate(_Frozen):
    """One listed song in one channel."""

    rank: int = Field(
        description="1 for the largest share; equal shares by standard score (`calibrated`) or similarity."
    )
    song: SongFacts
    equal_songs: tuple[SongFacts, ...] = Field(
        fail_fast=True,
        description="All other songs of the catalog whose audio is the same (equal `codes_sha256`), by id, with their "
        "owners: also those beyond the `policy.top_k` most similar, and those that were not searched. The numbers are "
        "of them all as one song: the share is not divided among them.",
    )
    group: GroupFacts | None = Field(
        description="Policy `calibrated`: the near copies of each other that the song is one of. Null if it qualifies "
        "alone, or not at all."
    )
    similarity: float = Field(description="Inner product of the two unit fingerprints, −1 to 1.")
    standard_score: float = Field(
        description="How far the song stands out for the query, in all of its channels together: by how alike controls "
        "are to the song, and the query to the catalog. Equal in both channels. P-values are computed from it."
    )
    threshold: float = Field(
        description="Similarity from which this song qualifies under the policy. Policy `calibrated`: at which this "
        "channel alone is as far above the noise as all channels together must be; noise up to here is deducted from "
        "the share."
    )
    threshold_slope: float | None = Field(
        description="Policy `calibrated`: by how much `threshold` rises if the standard score that a song must exceed "
        "rises by 1, as it may with other controls."
    )
    kernel_score: float = Field(
        description="(K Kᵀ + λI)⁻¹ K g over all songs judged. It has a sign and no unit; shares ignore negative scores."
    )
    z: float = Field(description="(similarity − μ) / σ, with μ and σ of the controls.")
    p_value: float = Field(
        description="Fraction of control–song pairs with at least this standard score. It is for one song chosen "
        "before looking: not corrected for the number of songs searched."
    )
    family_wise_p: float = Field(
        description="Fraction of tracks, the controls and the query, whose best match in the whole catalog is at "
        "least this good: corrected for the number of songs searched."
    )
    p_extrapolated: float | None = Field(
        description="Family-wise p-value below the smallest one that the controls can show, extrapolated by a "
        "generalised Pareto tail. No song qualifies by it. Null where the controls suffice."
    )
    q_value: float = Field(
        description="Benjamini–Hochberg q-value: expected fraction of false discoveries if every song up to this rank "
        "were listed."
    )
    level: str = Field(description="Name that the policy gives to how far the song stands out.")
    qualified: bool = Field(description="Whether the song qualifies under the policy.")
    share: float = Field(
        description="Part of the query attributed to the song, 0 to 1. Shares and `unattributed` of a channel add up"
        " to 1."
    )
    share_low: float | None = Field(
        description="Policy `calibrated`: lower end of the 95 % interval of the share that a long piece of this kind "
        "would have, by the differences between the query's stretches. Null for a query of fewer than three of them, "
        "and if more than 512 songs qualify."
    )
    share_high: float | None = Field(description="Policy `calibrated`: upper end of the interval.")
    explained: float | None = Field(
        description="Policy `calibrated`: the share before noise is deducted and before it is corrected for length."
    )
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
    membership: MembershipFacts | None = Field(
        description="Null if the index has no membership evidence (`lumina use`)."
    )


class NoiseBand(_Frozen):
    """Similarity of unrelated music to the catalog, in one channel."""

    n_controls: int = Field(description="Control tracks: music that the audited model never saw.")
    n_songs: int = Field(description="Songs of the catalog that the controls were compared with, withdrawn ones too.")
    mean: float = Field(description="μ of the similarity of controls and catalog songs.")
    std: float = Field(description="σ of the similarity of controls and catalog songs.")
    similarity_quantiles: dict[str, float] = Field(
        fail_fast=True, description="Quantile → similarity of controls and catalog songs."
    )
    control_maxima_similarity: tuple[float, ...] = Field(
        fail_fast=True, description="Each control's largest similarity in the catalog, descending."
    )
    control_maxima: tuple[float, ...] = Field(
        fail_fast=True, description="Each control's largest standard score in the catalog, descending."
    )
    guarantee: Literal["mean", "tolerance"] = Field(
        description="What `calibrated` promises of unrelated tracks. mean: at most `alpha` of them have any song "
        "qualify, on average over draws of controls. tolerance: that is so with 95 % confidence for these controls."
    )
    alpha: float = Field(
        description="Family-wise p-value up to which `calibrated` qualifies a song, under the guarantee `mean`."
    )
    critical: float = Field(description="Standard score that the best song must exceed.")
    resolution: float = Field(description="Smallest family-wise p-value that this many controls can show.")
    expected_false_positives: float = Field(
        description="Songs of this catalog that qualify for an unrelated track, on average over the controls. For "
        "`calibrated`: the probability that any song does, in either channel."
    )
    query_mean_similarity: float = Field(description="Mean similarity of the query to all songs of the catalog.")
    control_means: tuple[float, ...] = Field(
        fail_fast=True, description="Mean similarity of each control to all songs of the catalog, descending."
    )
    query_typicality_p: float = Field(
        description="Two-sided p-value of the query's mean similarity among the controls. A small value means that the "
        "query is unlike the controls, and then the p-values are not reliable."
    )


class PartNotSearched(_Frozen):
    """A part of the index did not answer: nothing is known of its songs, and shares leave them out."""

    code: Literal["part_not_searched"] = "part_not_searched"
    not_searched: int = Field(description="Songs of the catalog that were not searched.")
    n_songs: int = Field(description="Songs of the whole catalog.")


class PublishedRule(_Frozen):
    """The policy is a published rule, not proven, and not corrected for the number of songs searched."""

    code: Literal["published_rule"] = "published_rule"
    searched: int = Field(description="Songs searched.")
    expected_false_positives: float = Field(
        description="Songs that the rule qualifies for an unrelated track, on average."
    )


class QueryUnlikeControls(_Frozen):
    """The query's mean similarity to the catalog is outside what the controls show: p-values are not reliable."""

    code: Literal["query_unlike_controls"] = "query_unlike_controls"
    resembles_catalog: Literal["more", "less"] = Field(
        description="Compared with the controls. more: p-values may be too small. less: they may be too large."
    )
    mean_similarity: float = Field(description="Mean similarity of the query to all songs of the catalog.")
    lowest_control: float = Field(description="Smallest mean similarity of a control.")
    highest_control: float = Field(description="Largest mean similarity of a control.")


class ControlsUnlikeCatalog(_Frozen):
    """The controls can be told from the catalog's songs: they are no music of its kind, and p-values may be wrong."""

    code: Literal["controls_unlike_catalog"] = "controls_unlike_catalog"
    auc: float = Field(
        description="How often a song is more like the other songs, less the other controls, than a control is; 0.5 is "
        "a coin."
    )
    p_value: float = Field(description="Of that, if songs and controls were from one source: by permutation.")


class NoIntervals(_Frozen):
    """Too many songs qualify for intervals of shares to be computed."""

    code: Literal["no_intervals"] = "no_intervals"
    qualified: int = Field(description="Songs that qualify.")
    limit: int = Field(description="Largest number of qualified songs that get intervals.")


class NearestOnly(_Frozen):
    """Only the songs most similar to the query were judged; shares leave the others out."""

    code: Literal["nearest_only"] = "nearest_only"
    judged: int = Field(description="Songs judged: the most similar ones.")
    searched: int = Field(description="Songs searched.")


ReportWarning = Annotated[
    PartNotSearched | PublishedRule | QueryUnlikeControls | ControlsUnlikeCatalog | NoIntervals | NearestOnly,
    Field(discriminator="code"),
]


class MembershipCounts(_Frozen):
    """Membership evidence of the songs that qualify in a channel."""

    qualified: int = Field(description="Songs that qualify, each with a membership p-value.")
    significant: int = Field(description="How many of them have a membership p-value of at most `noise.alpha`.")
    expected_by_chance: float = Field(
        description="How many of them would have such a p-value if the model had seen none of them."
    )


class ChannelReport(_Frozen):
    """The answer in one channel. Channels are two rights and are never merged."""

    subject: Literal["composition", "production"]
    right: Literal["publishing", "master"]
    warnings: tuple[ReportWarning, ...] = Field(
        fail_fast=True,
        description="Facts to know before relying on the numbers: a code and its numbers each.",
    )
    membership: MembershipCounts | None = Field(
        description="Membership evidence of the songs that qualify, counted. Null if the index has no "
        "membership evidence; then shares rest on likeness alone."
    )
    searched: int = Field(description="Songs in the catalog.")
    retrieved: int = Field(description="Songs found by similarity and judged, equal audio included.")
    qualified: int = Field(
        description="Songs that qualify under the policy, equal audio counted once. All of them are listed."
    )
    attributed: float = Field(description="Sum of all shares, 0 to 1.")
    unattributed: float = Field(description="1 − attributed.")
    self_likeness: float | None = Field(
        description="Part of the squared length of the query's fingerprint that its stretches have in common, "
        "estimated without bias, so that it may be below 0. Shares of policy `calibrated` are corrected by it for the "
        "length of the query. Null for a query of one stretch, whose shares are not corrected."
    )
    noise: NoiseBand
    candidates: tuple[Candidate, ...] = Field(
        fail_fast=True,
        description="By rank: the best `policy.candidates` of the songs judged, and all others that qualify or have a "
        "share.",
    )


class QueryChunk(_Frozen):
    """A stretch of the query that was fingerprinted by itself."""

    start_s: float
    duration_s: float
    weight: float = Field(description="Weight of the chunk in the query's fingerprint. Weights add up to 1.")


class StreamTaken(_Frozen):
    """Which of a file's several audio streams was attributed."""

    number: int = Field(description="Counted from 1.")
    of: int = Field(description="Audio streams in the file.")
    reason: StreamReason = Field(
        description="default: the one that the file marks as the default. first_with_sound: the first with a sample "
        "above −60 dBFS. no_sound: the first, as none has one."
    )


class QueryFacts(_Frozen):
    """The audio that was attributed."""

    audio_sha256: str = Field(description="sha256 of the file as it was handed in.")
    codes_sha256: str = Field(description="sha256 of the EnCodec codes, which determine the fingerprint.")
    audio_stream: StreamTaken | None = Field(
        description="Null if the file has one audio stream, or if a fingerprint was handed in and no file."
    )
    duration_s: float
    chunks: tuple[QueryChunk, ...] = Field(
        fail_fast=True,
        description="Stretches of the query: chunks of 10 s, or the halves of these if there are only one or two. "
        "Chunks with under a second of sound are left out.",
    )


class PolicyFacts(_Frozen):
    """The rule that qualified songs and gave shares."""

    name: Literal["calibrated", "v8", "v7"]
    published: bool = Field(description="A published rule, implemented to the letter. Published is not proven.")
    ridge: float = Field(description="λ of the kernel regression.")
    top_k: int = Field(description="Songs asked for in each channel, by similarity: those that are judged.")
    candidates: int = Field(
        description="Songs asked to be listed in each channel; others are listed too if they qualify or have a share."
    )


class MembershipSource(_Frozen):
    """The models, controls and file that membership evidence rests on."""

    reference_weights_sha256: str = Field(
        description="sha256 of the weights of the reference model, which must never have seen the catalog; of the "
        "first one, if there are several."
    )
    further_references_sha256: tuple[str, ...] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        fail_fast=True,
        description="The same of each further reference model. Absent if there is one.",
    )
    controls_sha256: str = Field(description="sha256 of ids, codes and vectors of the controls' store.")
    n_controls: int = Field(description="Distinct controls: music of the catalog's kind that the model never saw.")
    resolution: float = Field(description="Smallest p-value that this many controls can show.")
    file_sha256: str = Field(description="sha256 of the index's membership.parquet, which has every song's numbers.")


class Basis(_Frozen):
    """Everything needed to replay the answer; the same environment repeats it bit for bit."""

    weights_sha256: str
    specification_sha256: str
    specification: dict = Field(description="How audio becomes a fingerprint.")
    index_version: str
    index_key: str = Field(description="sha256 of specification and catalog data.")
    calibration_sha256: str
    membership: MembershipSource | None = Field(description="Null if no reference model was compared with.")
    environment: dict[str, str] = Field(
        fail_fast=True, description="Device, adapter and versions that made the query's fingerprint."
    )
    software: dict[str, str] = Field(
        fail_fast=True, description="Name → version of the software that computed this report."
    )


class ModelLikeness(_Frozen):
    """How like the pieces of one model the clip is."""

    model: str = Field(description="The model's name, as it was given at calibration.")
    audited: bool = Field(description="Whether it is the audited model.")
    n_pieces: int = Field(description="Its pieces that the clip was compared with.")
    power: float = Field(
        description="Part of these pieces that the test finds at `alpha` 0.05, each by the others: of the model's "
        "output, so much is found, and the rest is not."
    )
    likeness: float = Field(
        description="Cosine between the clip's likeness to the catalog's reference songs and that of the pieces."
    )
    p_value: float = Field(description="Fraction of tracks, the controls and the clip, that are at least so like them.")


class ProvenanceFinding(_Frozen):
    """Is the clip an output of the audited model, or of another one whose pieces were given?"""

    alpha: float = Field(description="p-value up to which a model is found: 0.05, divided by the number of models.")
    n_controls: int = Field(description="Controls that p-values are counted by: no output of any of the models.")
    resolution: float = Field(description="Smallest p-value that this many controls can show.")
    found: tuple[str, ...] = Field(
        fail_fast=True,
        description="Models whose pieces the clip is found to be like. That there are none does not show that the clip "
        "is no model's, and models whose pieces were not given are not told from these.",
    )
    models: tuple[ModelLikeness, ...] = Field(fail_fast=True, description="The audited model first.")


class GroupEffect(_Frozen):
    """The effects of a group of songs on the clip, added up: what leaving each of them out of the training costs it.

    Leaving out more than a tenth of a catalog together costs more than that sum.
    """

    name: str | None = Field(description="The party or the song; null for the best songs and for the whole catalog.")
    n_songs: int
    song_ids: tuple[str, ...] = Field(fail_fast=True, description="Of the best songs, largest effect first.")
    effect: float = Field(
        description="Sum of the rises of the clip's loss, in nats per code, as each song is left out."
    )
    low: float = Field(description="Lower end of the effect's 95 % interval.")
    high: float = Field(description="Upper end of the effect's 95 % interval.")
    share: float = Field(description="Part of the sum over the whole catalog, 0 to 1.")
    payable: float | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="The same of songs alone whose use is not refuted: part of the effect of all such songs of the "
        "catalog, 0 to 1. A song that no evidence is about counts as not refuted. Absent in older reports.",
    )
    channels: dict[Channel, float] = Field(description="The parts of the effect that each channel tells.")


class InfluenceFinding(_Frozen):
    """Contributions of the catalog's songs, by a map from similarities to nats that was fitted on retrained models."""

    query_kind: str = Field(description="Kind of query that the map was fitted on: `excerpt`, `captioned` and others.")
    of: Literal["clip", "output"] = Field(
        description="clip: on queries of this kind, a clip's own similarities predict what retraining does to it "
        "better than those of other clips do. output: they do not, and effects are those on the model's output in "
        "general."
    )
    fit_sha256: str = Field(description="sha256 of the file of the fit (`lumina effects fit`).")
    n_models: int = Field(description="Retrained models that the map was fitted on.")
    retraining_noise: float = Field(description="By how much one retraining differs from the next, in nats per code.")
    refuted: int | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Songs of the catalog whose use is refuted: they have less membership evidence than 95 % of the "
        "controls of `lumina use`. Absent if that was not measured: then no song's use is refuted.",
    )
    catalog: GroupEffect = Field(description="All songs, added up.")
    best: tuple[GroupEffect, ...] = Field(
        fail_fast=True, description="The 5, 10 and 20 songs with the largest effects, added up."
    )
    parties: dict[Literal["creator", "publisher", "master_owner"], tuple[GroupEffect, ...]] = Field(
        description="The ten creators, publishers and master owners with the largest effects, each with all songs."
    )
    songs: tuple[GroupEffect, ...] = Field(
        fail_fast=True, description="The ten songs with the largest effects, each by itself."
    )


class SharedLikeness(_Frozen):
    """How alike the clip and a song are in one kind of evidence."""

    similarity: float = Field(
        description="Mean, over half of the clip's chunks and six at most, of the cosine with the song's most similar "
        "chunk."
    )
    z: float = Field(
        description="The similarity less that of other songs of the catalog to this song, in standard deviations of "
        "what they have with each other's."
    )
    p_value: float | None = Field(
        description="Fraction of tracks, the controls and the clip, whose most alike song in the whole catalog is at "
        "least as alike: corrected for the number of songs. Null where the controls have no evidence."
    )


class SharedSong(_Frozen):
    """Evidence of what the clip shares with one song, by audio alone. It says nothing of the cause."""

    song_id: str
    composition: SharedLikeness | None = Field(description="Notes. Null if the song has no evidence in its store.")
    sound: SharedLikeness | None = Field(description="Sound. Null if the song has no evidence in its store.")
    shares: tuple[Evidence, ...] = Field(
        fail_fast=True,
        description="Kinds whose p-value is at most `alpha`. composition: the clip shares notes with the song, which "
        "bears on the publishing right. sound: it shares sound, which bears on the master right. If there is neither, "
        "the right stays open.",
    )
    aspects: dict[Aspect, float] = Field(
        description="z of each musical aspect: how much more alike the clip and the song are in it than songs of the "
        "catalog are. timbre is that of `sound`. Empty if the song has no evidence in its store."
    )


class SharedFinding(_Frozen):
    """Evidence of what the clip shares with the songs that any finding lists: on which right each bears.

    The songs' notes and sound are compared with the clip's, and no model is asked: never does it say that the notes or
    the sound caused the clip.
    """

    alpha: float = Field(
        description="p-value up to which a song is said to share notes, and the same of sound: half of 0.05, so that "
        "at most 5 % of unrelated tracks are said to share either with any song."
    )
    n_controls: int = Field(description="Controls that p-values are counted by; 0 if their store has no evidence.")
    n_references: int = Field(description="Songs of the catalog that `z` is measured against.")
    resolution: float | None = Field(description="Smallest p-value that so many controls can show; null for none.")
    file_sha256: str = Field(description="sha256 of the index's shared.parquet.")
    alike_z: float = Field(description="z from which the clip and a song are called alike in an aspect.")
    chance: dict[Aspect, float] = Field(
        description="How often two songs of the catalog are called alike in each aspect, for one song chosen before "
        "looking: not corrected for the number of songs."
    )
    songs: tuple[SharedSong, ...] = Field(
        fail_fast=True,
        description="Songs that `near_copies` or `influence` lists, by id.",
    )


class Unsearched(_Frozen):
    """Songs that were not searched, because the part of the index that holds them did not answer."""

    first_row: int = Field(description="Place of the first one in the catalog, in the order of song ids, from 0.")
    n_songs: int


class Report(_Frozen):
    """Three findings on a piece of music and a catalog, each with its own evidence and limits.

    near_copies: which recordings does it repeat? provenance: is it an output of the audited model? influence: what did
    the catalog contribute? None of them says anything of another.
    """

    format_version: Literal[7] = FORMAT_VERSION
    policy: PolicyFacts
    query: QueryFacts
    near_copies: dict[Channel, ChannelReport] = Field(
        fail_fast=True,
        description="Songs that the clip resembles beyond what unrelated music does, by channel. P: composition "
        "(publishing right). M: production (master right). Those that the index holds.",
    )
    provenance: ProvenanceFinding | None = Field(
        description="Null if no pieces of the model were given at calibration (`lumina calibrate --pieces`)."
    )
    influence: InfluenceFinding | None = Field(
        description="Null if no effects were fitted for this model and catalog (`lumina index --effects`): shares are "
        "then uncalibrated, and tell likeness alone."
    )
    basis: Basis
    shared: SharedFinding | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="What the clip shares with the songs listed, notes or sound. Absent if the index holds no shared "
        "evidence, or if a fingerprint was handed in and no audio.",
    )
    unsearched: Annotated[tuple[Unsearched, ...], Field(min_length=1, fail_fast=True)] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Songs left out of a partial answer. Absent if the whole catalog was searched.",
    )

    @field_validator("format_version", mode="before")
    @classmethod
    def _no_older_format(cls, value: Any) -> Any:
        if value in (1, 2, 3, 4, 5, 6):
            raise PydanticCustomError(
                "older_format",
                "version {version} was written by an earlier lumina-ray, and this one reads version {reads}; attribute "
                "the audio again",
                {"version": value, "reads": FORMAT_VERSION},
            )
        return value

    @model_validator(mode="after")
    def _partial_reports_warn(self) -> Self:
        for channel in self.near_copies.values():
            if any(w.code == "part_not_searched" for w in channel.warnings) != (self.unsearched is not None):
                raise ValueError("a channel warns of a part that was not searched exactly where `unsearched` lists one")
        return self

    @field_validator("near_copies")
    @classmethod
    def _composition_first(cls, channels: dict[Channel, ChannelReport]) -> dict[Channel, ChannelReport]:
        # Canonical JSON sorts its keys; a report that was read back must still show P before M.
        if not channels:
            raise ValueError("a report has at least one channel")
        return {channel: channels[channel] for channel in CHANNELS if channel in channels}
