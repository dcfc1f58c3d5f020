"""Sentences about a statement, made from its data: what it says, what it rests on, and what it does not say."""

from lumina_ray.statement.exact import MICRO
from lumina_ray.statement.schema import ChannelStatement, Line, Statement
from lumina_ray.vocabulary import counted

_BY = {
    "owner": "By owner: a recording's share goes to those whom the catalog's splits name, in their percentages, in "
    "both channels, as the catalog does not say which right its splits divide; of a song without splits, to its "
    "publisher (P) or its master owner (M).",
    "creator": "By creator: a recording's share goes to the creator that the catalog names, undivided.",
    "song": "By song: a line for each recording of the catalog.",
}
_WARNINGS = {
    "nearest_only": "judged the songs most similar to the clip, and left the others out",
    "published_rule": "follow a published rule, which is not proven and gives shares to unrelated music, too",
    "query_unlike_controls": "are about a clip unlike the controls, so that their p-values are not reliable",
    "controls_unlike_catalog": "rest on controls that can be told from the catalog's songs: p-values may be wrong",
    "no_intervals": "have too many songs that qualify for intervals to be computed",
    "part_not_searched": "left a part of the catalog out",
}


def amount(micro: int) -> str:
    """Micro-shares in clips, all of them: `12.345678`."""
    return f"{micro // MICRO}.{micro % MICRO:06d}"


def part(micro: int, clips: int) -> str:
    """Micro-shares as a part of all clips, in percent."""
    return f"{micro / (clips * MICRO):.3%}" if clips else "–"


def interval(low: int | None, high: int | None) -> str:
    """An interval in clips; a dash where there is none."""
    return "–" if low is None or high is None else f"{low / MICRO:.3f}–{high / MICRO:.3f}"


def line_title(line: Line) -> str:
    """What a line is called."""
    if line.kind == "unnamed":
        return "Named by nobody in the catalog"
    if line.kind == "contested":
        return f"Contested: {' / '.join(line.names)}"
    return " / ".join(line.names)


def counts(statement: Statement) -> list[str]:
    """Which reports are in it, and which are not."""
    reports = statement.reports
    told = [f"{counted(reports.counted, 'report')} counted, each once and of one clip."]
    if reports.same_report:
        told.append(f"{counted(reports.same_report, 'report')} came again, and did not count again.")
    if reports.same_audio:
        told.append(
            f"{counted(reports.same_audio, 'other report')} of audio that was counted already did not count: of "
            "several reports of one audio, the one with the smallest hash counts."
        )
    if reports.signed_by:
        told.append(f"Each report has a signature that holds, by key {reports.signed_by}.")
    else:
        told.append("Signatures of the reports were not checked, so nothing here shows who made them.")
    return told


def basis(statement: Statement) -> list[str]:
    """What the shares rest on."""
    on = statement.basis
    told = [
        f"All reports are of one model, one specification and policy {on.policy}, and of "
        + (
            f"{counted(len(on.snapshots), 'snapshot')} of one living catalog."
            if on.catalog
            else "one state of the catalog."
        ),
        "Shares are of the finding “near copies”: the part of a clip that a song accounts for beyond what unrelated "
        "music shows. They are uncalibrated: evidence of likeness, no finding of influence, no proof that the model "
        "used the song, and no proven causal fraction. In tests with small models, a model that never heard the "
        "catalog judged likeness as well as the audited one.",
    ]
    if on.published:
        told.append(
            "The policy is a published rule: it divides the whole of every clip, also where nothing stands out from "
            "unrelated music."
        )
    if on.with_membership:
        told.append(
            f"{counted(on.with_membership, 'report')} also {'has' if on.with_membership == 1 else 'have'} evidence "
            "whether the model was trained on a song. No number here rests on it."
        )
    for code, n in on.warnings.items():
        if code in _WARNINGS:
            told.append(f"{n} of {counted(statement.reports.counted, 'report')} {_WARNINGS[code]}.")
    return told


def division(statement: Statement) -> list[str]:
    """How shares are divided."""
    told = [_BY[statement.by]]
    kinds = {line.kind for channel in statement.channels.values() for line in channel.lines}
    if "contested" in kinds:
        told.append(
            "Contested: the catalog lists one recording under several ids, and these name different ones. Its shares "
            "are not divided; which of them is right, no report can tell."
        )
    if "unnamed" in kinds:
        told.append("Named by nobody: songs for which the catalog names no one.")
    return told


def limits(statement: Statement) -> list[str]:
    """What the statement does not say."""
    return [
        f"That the clips are of {statement.period}: reports have no date, and the period is what whoever made this "
        "statement says.",
        "That these are all clips of the period, or that a clip is in no other statement.",
        "That the reports are right: nothing was computed again from the clips' audio; `lumina verify` does that.",
        "That anything is owed: a share is no licence, no waiver, no price and no finding of infringement.",
        "That the catalog's names, splits and codes are right: they are given as the catalog has them, and names that "
        "differ in one character are different names.",
        "How far another model, or other controls, would change the shares: the intervals hold draws of the clips' "
        "stretches and of these controls, and no more.",
    ]


def certainty(statement: Statement) -> str:
    """What an interval is."""
    lines = [line for channel in statement.channels.values() for line in channel.lines if line.micro_shares]
    if all(line.low is None for line in lines):
        return "These shares have no intervals, as the reports give none."
    return (
        f"Intervals are of 95 %, by the model “{statement.interval_model}”: errors from the draw of a clip's stretches "
        "are independent between clips, and taken to be as large as they can be for a clip of fewer than three; errors "
        "from the draw of the controls are the same for all clips, and do not average out, however many clips there "
        "are."
    )


def payable(statement: Statement) -> list[str]:
    """What is payable of influence, and what it rests on; nothing where no report tells influence."""
    # Of every channel the same, but for what is on no line.
    found = next((channel.payable for channel in statement.channels.values() if channel.payable), None)
    if found is None:
        return []
    told = [
        f"{counted(found.clips, 'report')} {'tells' if found.clips == 1 else 'tell'} influence. Payable is a line's "
        "part of the effect of all songs whose use is not refuted, 1.000000 for each of these clips. It is another "
        "finding than the shares beside it, of which it is no part, and has no interval.",
        "Influence is told of a clip as a whole, from both channels together. "
        + (
            "The same is divided among publishers in P and among master owners in M, by what the catalog names for "
            "each song; splits are not applied, since reports add influence up without them."
            if statement.by == "owner"
            else "So it is the same in both channels, and counts once."
        ),
        "Unlisted is what no line gets: a report lists the ten with the largest effects, and what others would get is "
        "not in it.",
    ]
    if found.tested < found.clips:
        told.append(
            f"In {found.clips - found.tested} of {counted(found.clips, 'report')} whether the model was trained on the "
            "songs was not measured, so no song's use is refuted."
        )
    if found.of_output:
        told.append(
            f"In {found.of_output} of {counted(found.clips, 'report')} influence is of the model's output in general, "
            "not of the clip."
        )
    return told


def rest(channel: ChannelStatement) -> str:
    """What a channel leaves unattributed, in a sentence."""
    return (
        f"{part(channel.unattributed, channel.clips)} of {counted(channel.clips, 'clip')} stays unattributed: no song "
        "of the catalog accounts for it beyond what unrelated music shows."
    )
