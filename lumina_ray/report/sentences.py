"""Sentences about a report, made from its data: for the terminal, for the HTML page and for whoever shows reports."""

from typing import Any, assert_never

from lumina_ray.attribution import (
    ChannelReport,
    ControlsUnlikeCatalog,
    InfluenceFinding,
    NearestOnly,
    NoIntervals,
    PartNotSearched,
    PublishedRule,
    QueryUnlikeControls,
    Report,
    ReportWarning,
)
from lumina_ray.report.words import effect, p_value, safe, song_name, songs
from lumina_ray.vocabulary import counted

NEAR_COPIES, PROVENANCE, INFLUENCE = "Near copies", "Provenance", "Influence"
"""Names of the three findings, the same wherever a report is shown."""
SHARED = "Shared notes and sound"
"""Name of the evidence beside them: on which right a song bears."""
_NAMED = 3
_LIKENESS = (
    "Similarity-based evidence: how alike the query and the songs are. {}. "
    "It is not proof that the model used a song, and a share is not a causal fraction."
)
# What retraining said of kinds of fingerprints (docs/validity.md).
_TESTED = {
    "companion": "In tests with small models, most of that was what any model of music hears, and a small part the "
    "audited model's own"
}
_NOTHING_SHOWN = (
    "In tests with small models, a model that never heard the catalog judged that as well as the audited one"
)
_WITHOUT_MODEL, _EMBEDDING = ("tokens", "codec-activations"), "embedding:"
_NOT_LOOKED_AT = "The audited model was not looked at: this kind of fingerprint takes the music alone"
_NOT_TESTED = "For models that predict latents, no retraining has tested how much of that is the audited model's own"
_MEMBERSHIP = (
    "Membership evidence, where a song has any, is that the model was trained on the song or on something nearly "
    "identical: not that it made use of it for this query. It holds as far as the controls are music of the catalog's "
    "kind and the reference model never saw the catalog."
)
_SHARE = {
    "calibrated": "fraction of the query's fingerprint (its squared length) that the song accounts for beyond the "
    "noise, jointly with the other qualified songs; the rest is unattributed",
    "v8": "excess max(similarity − threshold, 0), normalised to 1 over the candidates",
    "v7": "weight max(0, STS − 1)², normalised to 1 over the candidates",
}
_STREAM = {
    "default": "it is marked as the default",
    "first_with_sound": "it is the first with sound",
    "no_sound": "it is the first, and none has sound",
}
_PUBLISHED_QUALIFIES = {
    "v8": "similarity ≥ μ + 1σ of the controls",
    "v7": "confidence erf(z/√2) ≥ 95 %",
}


def findings(report: Report) -> list[tuple[str, str]]:
    """The three findings: the name of each, and what it says in a sentence or two."""
    return [
        (NEAR_COPIES, _near_copies(report)),
        (PROVENANCE, provenance(report)[0]),
        (INFLUENCE, _influence(report)),
    ]


def _near_copies(report: Report) -> str:
    if report.policy.published:
        return f"Not asked: the rule {report.policy.name} is published and not proven, and passes unrelated songs."
    found = [c for channel in report.near_copies.values() for c in channel.candidates if c.qualified]
    names = list(dict.fromkeys(song_name(candidate.song) for candidate in found))
    if not names:
        return "No near copy of a catalog song found."
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    alpha = next(iter(report.near_copies.values())).noise.alpha
    of_rate = (ControlsUnlikeCatalog, QueryUnlikeControls)
    warned = any(isinstance(w, of_rate) for channel in report.near_copies.values() for w in channel.warnings)
    doubt = "; the warnings below say why it may be more" if warned else ""
    return (
        f"Found in the catalog: {', '.join(names[:_NAMED])}{more}. Of unrelated tracks at most {alpha:.0%} would have "
        f"any song found{doubt}."
    )


def _influence(report: Report) -> str:
    finding = report.influence
    if finding is None:
        return influence(report)[0]
    whole = finding.catalog
    group = finding.best[0] if finding.best else whole
    about = "this clip" if finding.of == "clip" else "the model's output in general, not of this clip"
    return (
        f"Of {about}: {songs(group.n_songs)} together {effect(group)} nats; the effects of all {songs(whole.n_songs)} "
        f"add up to some {whole.effect:.3f}; one retraining differs from the next by {finding.retraining_noise:.3f}."
    )


def evidence(report: Report) -> str:
    """The kind of evidence that a report gives, and its limits."""
    likeness = _LIKENESS.format(_tested(report.basis.specification))
    return likeness if report.basis.membership is None else f"{likeness} {_MEMBERSHIP}"


def _tested(specification: dict[str, Any]) -> str:
    """Say how much of the likeness is the audited model's own, by the kind of fingerprint."""
    kind = specification.get("kind", "")
    if kind in _WITHOUT_MODEL or kind.startswith(_EMBEDDING):
        return _NOT_LOOKED_AT
    if specification.get("representation", "codes") != "codes":
        return _NOT_TESTED
    return _TESTED.get(kind, _NOTHING_SHOWN)


def qualifies(report: Report) -> str:
    """The rule by which songs qualify, without a full stop."""
    if report.policy.published:
        return _PUBLISHED_QUALIFIES[report.policy.name]
    alpha = next(iter(report.near_copies.values())).noise.alpha
    return (
        f"family-wise p-value ≤ {alpha:g} of the best song, in both channels together (at most {alpha:.0%} of "
        "unrelated tracks would have any song qualify), and then all songs with that family-wise p-value or at a "
        f"false-discovery rate of {alpha:g}"
    )


def share_meaning(report: Report) -> str:
    """The meaning of a share under the report's policy, without a full stop."""
    return _SHARE[report.policy.name]


def provenance(report: Report) -> list[str]:
    """Say whose output the clip is found to be."""
    finding = report.provenance
    if finding is None:
        return ["Not asked: no pieces by the model were given when the catalog was calibrated."]
    n = finding.n_controls
    asked = " or ".join(safe(one.model) for one in finding.models)
    if not finding.found:
        told = [
            f"Not shown to be an output of {asked}: other music resembles such outputs as much. That does not show "
            "that it is none."
        ]
    else:
        which = " and ".join(safe(name) for name in finding.found)
        told = [
            f"Like an output of {which}: it resembles the catalog as pieces by {which} do, and at most "
            f"{finding.alpha:.1%} of unrelated tracks would, for any one model.",
            "Models whose pieces were not given are not told from these: another one with the same codec may be as "
            "like."
            if len(finding.found) == 1
            else "Which of them made it, if any, this cannot tell.",
        ]
    told += [
        f"{safe(one.model)}: likeness {one.likeness:.2f} to {one.n_pieces} pieces, p "
        f"{p_value(one.p_value, finding.resolution)} by {n} controls; the test finds {one.power:.0%} of its pieces."
        for one in finding.models
    ]
    return told


def influence(report: Report) -> list[str]:
    """Say what the catalog contributed, and how far that is known."""
    finding = report.influence
    if finding is None and report.unsearched:
        return ["Not told: a part of the catalog was not searched, and influence is told of the whole."]
    if finding is None:
        return [
            "Not known: no effects were fitted for this model and this catalog. Shares tell likeness alone, and not "
            "what training on a song did."
        ]
    told = [
        "An effect is by how much the loss would rise, in nats per code, if a song had been left out of the training, "
        "and that of a group is the sum of its songs'. Leaving out more than a tenth of a catalog costs more than that "
        "sum. "
        f"It is told from similarities, by a map that was fitted on {finding.n_models} retrained models and queries of "
        f"the kind “{safe(finding.query_kind)}”.",
    ]
    if finding.of == "output":
        told.append("On queries of this kind a clip's own similarities predict no better than those of another clip.")
    return [
        *told,
        _influence(report),
        _payable(finding),
        "An interval is of the group as it stands. Groups that overlap are not ranked by it, and a song with no effect "
        "here is not shown to have none.",
    ]


def _payable(finding: InfluenceFinding) -> str:
    if finding.refuted is None:
        use = "Whether the model was trained on them was not measured, so no song's use is refuted"
    else:
        use = (
            f"The use of {counted(finding.refuted, 'song')} is refuted: such songs have less membership evidence than "
            "95 % of the controls, which the model never saw"
        )
    return f"Payable is a group's part of the effect of all songs whose use is not refuted. {use}."


def shared(report: Report) -> list[str]:
    """Say what the clip shares with the songs that the findings list, and how that is known."""
    finding = report.shared
    if finding is None:
        return [
            "Not known: this answer had no shared evidence of the songs or of the clip. On which right a song bears "
            "stays open."
        ]
    told = [
        "No finding above is cancelled by what follows: a near copy concerns both rights. By audio alone: notes that a "
        "song shares with the clip bear on the publishing right, sound on the master "
        f"right. z is against {finding.n_references} songs of the catalog. Neither says that the song's notes or sound "
        "caused the clip.",
        "Aspects: harmony and rhythm of the notes, and timbre, which is all of the sound. A clip and a song are called "
        f"alike in one from z {finding.alike_z:g} on, as two songs of the catalog are in "
        + ", ".join(f"{chance:.1%} of cases ({name})" for name, chance in finding.chance.items())
        + ". Of many listed songs, some are by chance.",
    ]
    if finding.resolution is None:
        return [*told, "Not judged, as the controls have no shared evidence: every right stays open."]
    if finding.resolution > finding.alpha:
        return [
            *told,
            f"Nothing can stand out: {finding.n_controls} controls show no p-value below {finding.resolution:.3f}, and "
            f"{finding.alpha:g} is asked for. Every right stays open.",
        ]
    n, sharing = len(finding.songs), [one for one in finding.songs if one.shares]
    notes, sound = (sum(kind in one.shares for one in sharing) for kind in ("composition", "sound"))
    return [
        *told,
        f"Of {songs(n)} listed, {notes} {'shares' if notes == 1 else 'share'} notes and {sound} "
        f"{'shares' if sound == 1 else 'share'} sound (p ≤ {finding.alpha:g} each, by the best song of each of "
        f"{finding.n_controls} controls: at most {2 * finding.alpha:.0%} of unrelated tracks share either with any "
        f"song). For the other {n - len(sharing)} the right stays open.",
    ]


def stream_taken(report: Report) -> str | None:
    """Which of several audio streams of the query's file the report is about; None where the file has one."""
    taken = report.query.audio_stream
    if taken is None:
        return None
    return (
        f"The query's file has {taken.of} audio streams. Number {taken.number} was attributed: {_STREAM[taken.reason]}."
    )


def verdict(report: Report, channel: ChannelReport) -> str:
    """The result of a channel."""
    noise, policy, qualified = channel.noise, report.policy, channel.qualified
    if not channel.retrieved:
        return "No song was there to be compared with."
    if policy.published:
        passes = "passes" if qualified == 1 else "pass"
        return (
            f"{songs(qualified)} of {noise.n_songs} {passes} the published rule {policy.name}, which proves nothing by "
            "itself."
        )
    if not qualified:
        return (
            f"No near copy of a catalog song found: the best match is no better than what {noise.n_controls} unrelated "
            f"control tracks find among these {songs(noise.n_songs)}. Music can owe much to "
            "many songs and be a near copy of none: this is no finding about influence."
        )
    stands = "stands" if qualified == 1 else "stand"
    return (
        f"{songs(qualified)} of {noise.n_songs} {stands} above the noise of {noise.n_controls} unrelated control "
        f"tracks; {channel.unattributed:.1%} of the clip stays unattributed, as a near copy of no song."
    )


def basis(report: Report, channel: ChannelReport) -> str:
    """The basis of a channel's shares: likeness alone, or likeness and membership evidence."""
    found, source = channel.membership, report.basis.membership
    if found is None or source is None:
        return (
            "The shares rest on likeness alone: there is no reference model, so nothing is known of whether the model "
            "was trained on these songs."
        )
    if not found.qualified:
        return "No song was found to be a near copy, so there are no shares."
    alpha, only = f"{channel.noise.alpha:g}", "the one song that qualifies"
    if not found.significant:
        which = only if found.qualified == 1 else f"any of the {found.qualified} songs that qualify"
        return (
            f"The shares rest on likeness alone: there is no evidence that the model was trained on {which} "
            f"(p > {alpha} by {source.n_controls} controls)."
        )
    which = only if found.qualified == 1 else f"{found.significant} of the {found.qualified} songs that qualify"
    return (
        f"The shares rest on likeness and, for {which}, on evidence that the model was trained on "
        f"{'it' if found.significant == 1 else 'them'} (p ≤ {alpha} by {source.n_controls} controls; "
        f"{found.expected_by_chance:.2g} expected by chance)."
    )


def warnings(report: Report, channel: ChannelReport) -> list[str]:
    """A sentence or more for each warning of a channel, in their order."""
    return [_warning(report, w) for w in channel.warnings]


def _warning(report: Report, warning: ReportWarning) -> str:
    match warning:
        case PartNotSearched():
            were = "was" if warning.not_searched == 1 else "were"
            return (
                f"{warning.not_searched} of the catalog's {songs(warning.n_songs)} {were} not searched, as their part "
                "of the index did not answer: nothing is known of them, and shares leave them out."
            )
        case PublishedRule():
            return (
                f"The rule {report.policy.name} is published, not proven, and not corrected for the "
                f"{songs(warning.searched)} searched: an unrelated track would have about "
                f"{warning.expected_false_positives:.1f} of them qualify."
            )
        case QueryUnlikeControls():
            return (
                f"The query as a whole resembles the catalog {warning.resembles_catalog} than the controls do (mean "
                f"similarity {warning.mean_similarity:.3f}, controls {warning.lowest_control:.3f} to "
                f"{warning.highest_control:.3f}): its p-values may be too "
                f"{'small' if warning.resembles_catalog == 'more' else 'large'}. Controls from the same kind of source "
                "as the query would settle it."
            )
        case ControlsUnlikeCatalog():
            return (
                f"The controls are unlike the catalog: a track's likeness to either tells which it is in "
                f"{warning.auc:.0%} of cases (p {warning.p_value:.3f}). Of music of the catalog's kind, more than "
                "these controls show may be found to be a near copy. Add controls of that kind."
            )
        case NoIntervals():
            return (
                f"The shares have no intervals: {songs(warning.qualified)} qualify, and they are worked out for up to "
                f"{warning.limit}. Ask for a smaller top_k."
            )
        case NearestOnly():
            were = "was" if warning.judged == 1 else "were"
            return (
                f"Only the {warning.judged} most similar of {songs(warning.searched)} {were} judged; shares leave the "
                "others out."
            )
        case _:
            assert_never(warning)
