"""How numbers and names are written for people, the same in the terminal and on the page."""

from bisect import bisect_left
from collections.abc import Iterator

from lumina_ray.attribution import (
    Candidate,
    ChannelReport,
    GroupEffect,
    QueryChunk,
    Report,
    SharedLikeness,
    SharedSong,
    SongFacts,
)
from lumina_ray.report.rows import OWNERS
from lumina_ray.vocabulary import CHANNELS, EVIDENCE, Channel, Evidence, counted

_JOINERS = "\u200c\u200d"
OWNER_LABELS = {
    "iswc": "ISWC",
    "publisher": "publisher",
    "isrc": "ISRC",
    "master_owner": "master owner",
    "splits": "splits",
}
_RULES = {
    "earliest": "to the earliest registered",
    "one_owner": "all of one owner",
    "even": "in equal parts for each owner",
}
_PARTIES = {"creator": "creator", "publisher": "publisher", "master_owner": "master owner"}
_NAMED, _SHOWN = 3, 5
_LONGEST_Z = 6.0
EVIDENCE_NAMES: dict[Evidence, str] = {"composition": "notes", "sound": "sound"}
POLICY_TITLES = {
    "calibrated": "calibrated (lumina-ray)",
    "v8": "v8 (published, not proven)",
    "v7": "v7 (published, not proven)",
}


def safe(text: str) -> str:
    """Text from outside without what could steer a terminal, an XML parser or the direction of reading."""
    return "".join(c if c.isprintable() or c in _JOINERS else "\N{REPLACEMENT CHARACTER}" for c in text)


def shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def songs(n: int) -> str:
    """A number of songs: `1 song`, `2 songs`."""
    return counted(n, "song")


def song_name(song: SongFacts) -> str:
    return safe(song.title or song.song_id)


def owner_facts(channel: Channel, song: SongFacts) -> str:
    """The owners of the channel's right to a song: `ISWC T-123 · publisher A · splits A 60, B 40`."""
    named = [(OWNER_LABELS[name], getattr(song, name)) for name in OWNERS[channel]]
    return " · ".join(f"{label} {safe(value)}" for label, value in named if value)


def equal_song(channel: Channel, song: SongFacts) -> str:
    """A song of the same audio as a candidate's: `same audio: 0043 · ISWC T-123 · publisher B`."""
    facts = (f"same audio: {safe(song.song_id)}", owner_facts(channel, song))
    return " · ".join(fact for fact in facts if fact)


def group(candidate: Candidate) -> str | None:
    """What is paid to the near copies that a candidate is one of; None where it is alone."""
    if candidate.group is None:
        return None
    others = [safe(song_id) for song_id in candidate.group.song_ids if song_id != candidate.song.song_id]
    named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
    return (
        f"near copies of each other, paid as one ({percent(candidate.group.share)}, {_RULES[candidate.group.rule]}): "
        f"this and {named}"
    )


def percent(share: float) -> str:
    return f"< {0.001:.1%}" if 0 < share < 0.001 else f"{share:.1%}"


def share(candidate: Candidate) -> str:
    """With its interval, where there is one: `62.1% (48–71%)`."""
    text = percent(candidate.share)
    if not candidate.qualified or candidate.share_low is None or candidate.share_high is None:
        return text
    return f"{text} ({100 * candidate.share_low:.0f}–{candidate.share_high:.0%})"


def p_value(p: float, resolution: float = 0.0) -> str:
    """With a star where the value is the smallest that the controls can show."""
    text = f"{p:.3f}" if p >= 0.001 else f"{p:.0e}"
    return text + "*" if p <= resolution else text


def effect(group: GroupEffect) -> str:
    """With its interval: `0.071 [0.030, 0.120]`."""
    return f"{group.effect:.3f} [{group.low:.3f}, {group.high:.3f}]"


def payable(group: GroupEffect) -> str:
    """Part of the effect of all songs whose use is not refuted; empty in older reports."""
    return "" if group.payable is None else f"{group.payable:.0%}"


def effect_parts(group: GroupEffect) -> dict[Channel, str]:
    """The part that each channel tells, composition first."""
    return {c: f"{group.channels[c]:.3f}" for c in CHANNELS if c in group.channels}


def effect_groups(report: Report) -> list[tuple[str, GroupEffect]]:
    """Groups of songs with their effects, as they are shown: large ones first, single songs last."""
    finding = report.influence
    if finding is None:
        return []
    names = {song.song_id: song_name(song) for song in _listed(report)}
    out = [(f"all {songs(finding.catalog.n_songs)}", finding.catalog)]
    out += [(f"the {group.n_songs} with the largest effects", group) for group in reversed(finding.best)]
    for by, groups in finding.parties.items():
        out += [(f"{_PARTIES[by]} {safe(group.name or '')}", group) for group in groups[:_SHOWN]]
    return out + [(names.get(of.name or "", safe(of.name or "")), of) for of in finding.songs[:_SHOWN]]


def shared(report: Report, song_id: str) -> str | None:
    """Say what the clip shares with a song: `shares notes (z 5.1, p 0.010); sound within chance (z 0.3)`.

    None where the report has no shared evidence at all.
    """
    finding, song = report.shared, _shared_song(report, song_id)
    if finding is None or song is None:
        return None
    of = {name: one for name in EVIDENCE if (one := getattr(song, name)) is not None}
    if not of:
        return "nothing known of its notes and sound: right open"
    if not finding.n_controls:
        return f"{_z(of)}; not judged: right open"
    if not song.shares:
        return f"{_z(of)}, within chance: right open"
    said = [f"{EVIDENCE_NAMES[name]} (z {of[name].z:.1f}, p {p_value(of[name].p_value)})" for name in song.shares]
    rest = {name: one for name, one in of.items() if name not in song.shares}
    return f"shares {' and '.join(said)}" + (f"; {_z(rest)}, within chance" if rest else "")


def aspects(report: Report, song_id: str) -> str | None:
    """Along which aspects the clip and a song are alike: `alike in harmony (z 2.9); rhythm and timbre within chance`.

    None where the report does not know.
    """
    finding, song = report.shared, _shared_song(report, song_id)
    if finding is None or song is None or not song.aspects:
        return None
    alike = [f"{name} (z {z:.1f})" for name, z in song.aspects.items() if z >= finding.alike_z]
    rest = _listing([name for name, z in song.aspects.items() if z < finding.alike_z])
    if not alike:
        return f"alike in nothing: {rest} within chance"
    return f"alike in {_listing(alike)}" + (f"; {rest} within chance" if rest else "")


def _listing(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def aspect_bars(report: Report, song_id: str) -> list[tuple[str, float, float]]:
    """Each aspect of a song, its z, and the length of its bar, 0 to 1; nothing where the report does not know."""
    song = _shared_song(report, song_id)
    return [(name, z, min(max(z / _LONGEST_Z, 0.0), 1.0)) for name, z in song.aspects.items()] if song else []


def _shared_song(report: Report, song_id: str) -> SharedSong | None:
    found = report.shared.songs if report.shared else ()
    place = bisect_left(found, song_id, key=lambda one: one.song_id)
    return found[place] if place < len(found) and found[place].song_id == song_id else None


def _z(of: dict[Evidence, SharedLikeness]) -> str:
    return ", ".join(f"{EVIDENCE_NAMES[name]} z {one.z:.1f}" for name, one in of.items())


def shared_rows(report: Report) -> list[tuple[str, dict[Evidence, str], str]]:
    """Songs that the clip shares notes or sound with, those most alike first: name, z and p of each kind, the right."""
    if report.shared is None:
        return []
    names = {song.song_id: song_name(song) for song in _listed(report)}
    sharing = sorted((one for one in report.shared.songs if one.shares), key=_strongest)
    return [(names.get(one.song_id, safe(one.song_id)), _cells(one), rights(one)) for one in sharing]


def rights(song: SharedSong) -> str:
    """The rights that what a song shares bears on."""
    return " and ".join({"composition": "publishing", "sound": "master"}[name] for name in song.shares) or "open"


def _strongest(song: SharedSong) -> tuple[float, str]:
    return -max(getattr(song, name).z for name in song.shares), song.song_id


def _cells(song: SharedSong) -> dict[Evidence, str]:
    return {name: _cell(getattr(song, name), name in song.shares) for name in EVIDENCE}


def _cell(one: SharedLikeness, shares: bool) -> str:
    p = "" if one.p_value is None else f", p {p_value(one.p_value)}"
    return f"{'shares' if shares else 'chance'}, z {one.z:.1f}{p}"


def _listed(report: Report) -> Iterator[SongFacts]:
    return (candidate.song for channel in report.near_copies.values() for candidate in channel.candidates)


def level(report: Report, candidate: Candidate) -> str:
    """Names that the published rules give are quoted: they are names, not findings."""
    return f"“{candidate.level}”" if report.policy.published and candidate.qualified else candidate.level


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def chunk_times(chunk: QueryChunk) -> str:
    """Where a chunk lies in the query: `0:10–0:20`."""
    return f"{clock(chunk.start_s)}–{clock(chunk.start_s + chunk.duration_s)}"


def driving_times(chunks: tuple[QueryChunk, ...], candidate: Candidate, most: int = 3) -> str:
    """Where in the query the match lies, adjoining chunks joined: `0:10–0:30, 1:00–1:10`."""
    spans: list[list[float]] = []
    for i in sorted(candidate.driving_chunks):
        start, end = chunks[i].start_s, chunks[i].start_s + chunks[i].duration_s
        if spans and start - spans[-1][1] < 0.5:
            spans[-1][1] = end
        else:
            spans.append([start, end])
    times = [f"{clock(start)}–{clock(end)}" for start, end in spans[:most]]
    return ", ".join(times) + (f" +{len(spans) - most}" if len(spans) > most else "")


def channel_title(name: str, channel: ChannelReport) -> str:
    return f"{name} · {channel.subject.capitalize()} ({channel.right} right)"


def membership_p(report: Report, candidate: Candidate) -> str:
    """The p-value of the membership evidence; a dash if there is none."""
    source = report.basis.membership
    if candidate.membership is None or source is None:
        return "–"
    return p_value(candidate.membership.p_value, source.resolution)


def noise_sentence(channel: ChannelReport) -> str:
    noise = channel.noise
    return (
        f"Noise from {noise.n_controls} control tracks × {songs(channel.searched)}: μ {noise.mean:.3f}, "
        f"σ {noise.std:.3f}; best match of a control {noise.control_maxima_similarity[-1]:.3f} to "
        f"{noise.control_maxima_similarity[0]:.3f}"
    )
