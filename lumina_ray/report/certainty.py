"""Sentences about how sure a result is, and about what it leaves open."""

from lumina_ray.attribution import Candidate, ChannelReport, MembershipSource, Report
from lumina_ray.report.words import p_value, percent


def how_sure(report: Report, channel: ChannelReport, candidate: Candidate) -> list[str]:
    """The meaning of a candidate's p- and q-values, one sentence each."""
    n_controls = channel.noise.n_controls
    p, q = candidate.family_wise_p, candidate.q_value
    sentences = [
        f"p {p_value(p)}: of {n_controls} controls and this query, {percent(p)} find a best match in the whole catalog "
        f"that is at least as good{_least(p, channel.noise.resolution, n_controls)}.",
        f"q {p_value(q)}: of a list of songs that goes down to this one, {percent(q)} would be chance finds.",
    ]
    if candidate.p_extrapolated is not None and candidate.p_extrapolated < p:
        sentences.append(
            f"A tail fitted beyond the controls guesses p {p_value(candidate.p_extrapolated)}. That is an "
            "extrapolation and qualifies nothing."
        )
    if candidate.membership is not None and report.basis.membership is not None:
        membership_p, source = candidate.membership.p_value, report.basis.membership
        sentences.append(
            f"Membership, p {p_value(membership_p)}: of {source.n_controls} controls that the model never saw and this "
            f"song, {percent(membership_p)} are at least as likely to it, beyond what {_references(source)}"
            f"{_least(membership_p, source.resolution, source.n_controls)}."
        )
    if candidate.confidence is not None:
        sentences.append(
            f"The published rule calls this a confidence of {percent(candidate.confidence)} and a LIP of "
            f"{candidate.lip_percent:.1f}%."
        )
    return sentences


def not_known(report: Report, channel: ChannelReport) -> list[str]:
    """Questions that the numbers of a channel leave open, one sentence each. The report's warnings are not repeated."""
    noise = channel.noise
    sentences = []
    if channel.unattributed > 0:
        sentences.append(
            f"Where {percent(channel.unattributed)} of the query’s fingerprint comes from: it is attributed to no song."
        )
    sentences.append(
        f"How rare the best match is beyond p {p_value(noise.resolution)}: {noise.n_controls} controls cannot show "
        "more."
    )
    if report.policy.published:
        sentences.append(
            f"Which finds are chance: this rule qualifies {noise.expected_false_positives:.1f} songs of this catalog "
            "for an unrelated track, on average."
        )
    else:
        sentences.append(
            f"Whether a find is one of the chance ones: {percent(noise.expected_false_positives)} of unrelated tracks "
            "have a song qualify."
        )
    if report.basis.membership is None:
        sentences.append("Whether the model used any of these songs: only likeness is measured.")
    else:
        sentences.append(
            "Whether the model made use of any of these songs for this music: membership evidence is that it was "
            "trained on them."
        )
    return sentences


def _references(source: MembershipSource) -> str:
    n = 1 + len(source.further_references_sha256 or ())
    return "a reference model finds" if n == 1 else f"{n} reference models find"


def _least(p: float, resolution: float, n_controls: int) -> str:
    return f", the least that {n_controls} controls can show" if p <= resolution else ""
