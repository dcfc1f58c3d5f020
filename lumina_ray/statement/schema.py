"""The statement: many reports added up. Data alone, without sentences and without fractional numbers.

All shares are whole numbers of micro-shares: a clip has 1 000 000 in each channel. Statements have no timestamps: equal
reports give equal bytes, in whatever order they are read.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lumina_ray.statement.exact import MICRO
from lumina_ray.statement.words import By, Kind
from lumina_ray.vocabulary import CHANNELS, Channel

FORMAT_VERSION: Literal[1] = 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]


class _Frozen(BaseModel):
    # A newer endpoint may say more; in a file, canonical JSON has no other fields.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Link(_Frozen):
    """A report that a line rests on."""

    report_sha256: Sha256
    micro_shares: Count = Field(description="What the line gets from this report, rounded down.")


class Evidence(_Frozen):
    """The reports that a line rests on."""

    reports: Count = Field(description="Reports with a share for this line.")
    sha256: Sha256 = Field(
        description="SHA-256 of the hashes of all of them in hexadecimal, each with a line break, in the order of the "
        "hashes of their audio."
    )
    largest: tuple[Link, ...] = Field(description="Those with the largest shares, at most ten.")


class SongLine(_Frozen):
    """A recording, as a part of a line."""

    song_ids: tuple[str, ...] = Field(description="All ids under which the catalog lists this recording.")
    title: str | None
    creator: str | None
    code: str | None = Field(description="P: ISWC of the work. M: ISRC of the recording. Of the first id.")
    split: str | None = Field(
        description="The line's percentage in the catalog's splits of the song; null where these give none. "
        "Percentages are divided by their sum, which may be off 100 by rounding."
    )
    micro_shares: Count
    reports: Count = Field(description="Reports with a share for this recording.")


class Line(_Frozen):
    """What one name gets in one channel."""

    kind: Kind = Field(
        description="`named`: the one whom the catalog names. `contested`: the catalog lists one recording under "
        "several ids that name different ones, and the shares are not divided among them. `unnamed`: the catalog names "
        "nobody."
    )
    names: tuple[str, ...]
    micro_shares: Count
    low: Count | None = Field(
        description="Lower end of the 95 % interval. Null where a report gives a share without an interval."
    )
    high: Count | None = Field(description="Upper end of it.")
    payable: Count | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="Micro-shares of payable influence: of each clip, the part of the effect of all songs whose use is "
        "not refuted. No part of `micro_shares`. Absent where no report tells influence.",
    )
    evidence: Evidence
    songs: tuple[SongLine, ...] = Field(description="Largest first. Their micro-shares add up to those of the line.")

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if sum(song.micro_shares for song in self.songs) != self.micro_shares:
            raise ValueError("the songs of a line do not add up to it")
        return self


class PayableInfluence(_Frozen):
    """Payable influence that is on no line, and the reports that tell any.

    Influence is told of a clip as a whole, from both channels together: the same is divided among publishers in one
    channel and among master owners in the other.
    """

    clips: Count = Field(description="Reports that tell what of influence is payable, each of 1 000 000.")
    of_output: Count = Field(description="Those that tell it of the model's output in general, and not of the clip.")
    tested: Count = Field(
        description="Those whose index had membership evidence. In the others no song's use is refuted."
    )
    unlisted: Count = Field(
        description="Micro-shares that no line gets: reports list the ten largest creators, owners and songs, and some "
        "songs have none that the catalog names."
    )
    other_lines: Count = Field(
        description="Micro-shares of lines that are left out, as they are not the holder's; 0 in a whole statement."
    )


class ChannelStatement(_Frozen):
    """What the reports say in one channel. Channels are two rights and are never merged."""

    subject: Literal["composition", "production"]
    right: Literal["publishing", "master"]
    clips: Count = Field(description="Reports that were counted: clips of generated music, each of 1 000 000.")
    unattributed: Count = Field(description="Micro-shares that no song gets.")
    unattributed_low: Count | None = Field(description="Lower end of their 95 % interval.")
    unattributed_high: Count | None
    other_lines: Count = Field(
        description="Micro-shares of lines that are left out, as they are not the holder's; 0 in a whole statement."
    )
    payable: PayableInfluence | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="With what lines have as `payable`, it adds up to 1 000 000 for each of its clips. Absent where no "
        "report tells influence.",
    )
    lines: tuple[Line, ...] = Field(
        description="Largest first. With `unattributed` and `other_lines` they add up to 1 000 000 for each clip."
    )

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        given = sum(line.micro_shares for line in self.lines) + self.unattributed + self.other_lines
        if given != self.clips * MICRO:
            raise ValueError(f"lines and rest add up to {given}, not to {self.clips * MICRO}")
        if any((line.payable is None) != (self.payable is None) for line in self.lines):
            raise ValueError("lines have payable influence exactly where their channel has")
        if (of := self.payable) is not None:
            given = sum(line.payable or 0 for line in self.lines) + of.unlisted + of.other_lines
            if given != of.clips * MICRO:
                raise ValueError(f"payable influence adds up to {given}, not to {of.clips * MICRO}")
        return self


class Snapshot(_Frozen):
    """A snapshot of the catalog that reports were made from."""

    index_version: str
    index_key: str
    calibration_sha256: str
    reports: Count


class Basis(_Frozen):
    """What all the reports have in common, and in what they may differ."""

    report_format: int = Field(description="`format_version` of the reports.")
    weights_sha256: str = Field(description="The audited model.")
    specification_sha256: str
    policy: str
    published: bool = Field(description="A published rule: it gives shares to unrelated music, too.")
    ridge: str = Field(description="λ of the kernel regression, in the shortest form that reads back to the same bits.")
    top_k: int
    catalog: str | None = Field(
        description="Identity of the living catalog whose snapshots these are; null where all reports are of one state "
        "of the catalog."
    )
    snapshots: tuple[Snapshot, ...]
    environments: Count = Field(description="Different devices and software that computed the reports.")
    with_membership: Count = Field(description="Reports whose index had membership evidence. No share rests on it.")
    warnings: dict[str, Count] = Field(description="Code of a report's warning → reports that have it.")


class Repeat(_Frozen):
    """A report that was left out, as another one of the same audio was counted."""

    report_sha256: Sha256
    counted_sha256: Sha256


class Reports(_Frozen):
    """The reports that were counted, and those that were not."""

    counted: Count
    sha256: Sha256 = Field(
        description="SHA-256 of the hashes of all counted reports in hexadecimal, each with a line break, in the order "
        "of the hashes of their audio."
    )
    same_report: Count = Field(description="Left out: the same report once more.")
    same_audio: Count = Field(
        description="Left out: another report of the same audio. Of several, the one with the smallest hash counts."
    )
    repeats: tuple[Repeat, ...] = Field(description="Of those of the same audio, the first hundred.")
    signed_by: str | None = Field(
        description="Public key whose signature each report has; null where signatures were not checked."
    )


class Statement(_Frozen):
    """Attribution reports of a period, added up for each rights-holder."""

    kind: Literal["statement"] = "statement"
    format_version: Literal[1] = FORMAT_VERSION
    period: str = Field(description="What whoever made the statement says that it is for. Reports have no date.")
    by: By
    holder: str | None = Field(description="The only one whose lines are here; null in a whole statement.")
    whole_sha256: Sha256 | None = Field(description="Of the whole statement that these lines are taken from.")
    interval_model: Literal["own and shared errors"] = "own and shared errors"
    basis: Basis
    reports: Reports
    channels: dict[Channel, ChannelStatement]

    @model_validator(mode="after")
    def _is_whole_or_a_holders(self) -> Self:
        if (self.holder is None) != (self.whole_sha256 is None):
            raise ValueError("a holder's statement names the whole one that it is taken from")
        if self.holder is None and any(channel.other_lines for channel in self.channels.values()):
            raise ValueError("a whole statement leaves no line out")
        object.__setattr__(self, "channels", {name: self.channels[name] for name in CHANNELS if name in self.channels})
        return self
