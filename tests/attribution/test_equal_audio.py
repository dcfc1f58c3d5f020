"""A recording that is in a catalog under several ids is one song with all of them, and keeps its whole share."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from lumina_ray.attribution import POLICIES, Candidate, Report, attribute
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.index import Shard, Snapshot, build_index, load_snapshot
from lumina_ray.index.shards import select, together
from lumina_ray.index.withdrawn import WITHDRAWN_FILE, Withdrawals
from lumina_ray.report import from_json, print_table, render_html, to_json
from lumina_ray.report.csv import write_csv
from lumina_ray.report.frame import to_frame
from lumina_ray.report.verify import verify_query
from lumina_ray.vocabulary import QueryFingerprint
from tests.calibration.synthetic import DIMS, World, mixture, query, unit, write_store

N_SONGS, TWICE = 60, 17


@dataclass(frozen=True)
class Catalogs:
    """A catalog in which each song is once, one in which song 17 has three ids, and a query that is made of it."""

    once: Snapshot
    often: Snapshot
    often_folder: Path
    query: QueryFingerprint


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> Catalogs:
    folder = tmp_path_factory.mktemp("equal")
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    songs = {c: w.music(N_SONGS) for c, w in worlds.items()}
    controls = write_store(folder / "controls", {c: w.music(50) for c, w in worlds.items()}, prefix="control")
    ids = [f"song-{i:02}" for i in range(N_SONGS)]
    rows = [*range(N_SONGS), TWICE, TWICE]
    built = []
    for name, taken, names in (("once", rows[:N_SONGS], ids), ("often", rows, [*ids, "a copy", "z copy"])):
        store = write_store(
            folder / name,
            {c: of_channel[taken] for c, of_channel in songs.items()},
            ids=names,
            codes_sha256=[f"codes {i}" for i in taken],
        )
        write_calibration(calibrate_store(store, controls), store.path)
        built.append(build_index(store, folder / f"{name}-index"))
    chunks = {c: mixture(songs[c][[TWICE] * 3], w.music(3), 0.7) for c, w in worlds.items()}
    asked = query({c: unit(of_channel.mean(axis=0)).astype(np.float32) for c, of_channel in chunks.items()}, chunks)
    return Catalogs(*map(load_snapshot, built), built[1], asked)


def first(report: Report) -> list[Candidate]:
    return [channel.candidates[0] for channel in report.near_copies.values()]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_song_under_three_ids_keeps_its_share(catalogs: Catalogs, policy: str) -> None:
    once, often = (attribute(catalogs.query, s, policy, candidates=99) for s in (catalogs.once, catalogs.often))
    for alone, found in zip(first(once), first(often), strict=True):
        assert alone.equal_songs == ()
        assert found.song.song_id == "a copy"
        assert [song.song_id for song in found.equal_songs] == ["song-17", "z copy"]
        assert {song.codes_sha256 for song in found.equal_songs} == {found.song.codes_sha256}
        # The catalog's mean, and so what unrelated music shows, moves a little with two songs more.
        assert found.share == pytest.approx(alone.share, abs=0.03)
        assert found.share > 0.2
    for channel in often.near_copies.values():
        assert (channel.searched, channel.retrieved, len(channel.candidates)) == (62, 62, 60)
        assert "nearest_only" not in {warning.code for warning in channel.warnings}
        assert channel.qualified == sum(c.qualified for c in channel.candidates)
        assert [c.rank for c in channel.candidates] == list(range(1, 61))
        assert sum(c.share for c in channel.candidates) + channel.unattributed == pytest.approx(1)
        assert not any(c.equal_songs for c in channel.candidates[1:])
    assert from_json(to_json(often)) == often


def test_shards_give_the_same_report(catalogs: Catalogs) -> None:
    vectors = {c: of_channel.vector for c, of_channel in catalogs.query.channels.items()}
    parts = [load_snapshot(catalogs.often_folder, Shard(i, i + 1, 3)) for i in range(3)]
    selection = together(parts[0], [select(part, vectors, 20) for part in parts])
    assert to_json(attribute(catalogs.query, selection, top_k=20)) == to_json(
        attribute(catalogs.query, catalogs.often, top_k=20)
    )


@pytest.mark.parametrize("policy", POLICIES)
def test_equal_audio_beyond_the_songs_judged_is_named(catalogs: Catalogs, policy: str) -> None:
    once, often = (attribute(catalogs.query, s, policy, top_k=1) for s in (catalogs.once, catalogs.often))
    for name, found in often.near_copies.items():
        (candidate,) = found.candidates
        assert (found.retrieved, candidate.song.song_id) == (1, "a copy")
        assert [song.song_id for song in candidate.equal_songs] == ["song-17", "z copy"]
        assert candidate.share == pytest.approx(once.near_copies[name].candidates[0].share, abs=0.03)
        assert candidate.share + found.unattributed == pytest.approx(1)


GROUPS = ((0, 1, 2, 3), (4, 40), (5, 59), (30, 31, 32))


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Snapshot, QueryFingerprint]:
    """A catalog with several recordings under several ids, and a query made of two of them.

    The vectors of equal audio differ in their last bits in half of the groups, and in more than that in the others, as
    where an approximate index misses one of them: some rank far behind.
    """
    folder = tmp_path_factory.mktemp("groups")
    worlds = {c: World(np.random.default_rng(50 + i), d) for i, (c, d) in enumerate(DIMS.items())}
    songs = {c: w.music(N_SONGS) for c, w in worlds.items()}
    codes = [f"codes {i}" for i in range(N_SONGS)]
    for n, (first, *others) in enumerate(GROUPS):
        for row in others:
            codes[row] = codes[first]
            for c, w in worlds.items():
                songs[c][row] = songs[c][first] if n % 2 else mixture(songs[c][first], w.music(1)[0], 0.5)
    store = write_store(folder / "store", songs, codes_sha256=codes)
    controls = write_store(folder / "controls", {c: w.music(50) for c, w in worlds.items()}, prefix="control")
    write_calibration(calibrate_store(store, controls), store.path)
    chunks = {c: mixture(songs[c][[0, 4]], w.music(2), 0.7) for c, w in worlds.items()}
    asked = query({c: unit(of_channel.mean(axis=0)).astype(np.float32) for c, of_channel in chunks.items()}, chunks)
    built = build_index(store, folder / "index")
    return built, load_snapshot(built), asked


def living(snapshot: Snapshot, index: Path) -> Snapshot:
    """The snapshot as if it were of the first generation of a living catalog."""
    return snapshot.withdrawn_as(Withdrawals(index, snapshot.songs, generation=1))


@given(
    policy=st.sampled_from(sorted(POLICIES)),
    top_k=st.integers(1, N_SONGS + 5),
    of=st.integers(1, 7),
    withdrawn=st.sets(st.sampled_from([row for group in GROUPS for row in group]), max_size=8),
)
@settings(max_examples=40)
def test_every_id_of_a_listed_song_is_named_once_and_none_that_is_withdrawn(
    groups: tuple[Path, Snapshot, QueryFingerprint], policy: str, top_k: int, of: int, withdrawn: set[int]
) -> None:
    folder, whole, asked = groups
    ids, codes = (whole.songs[name].to_pylist() for name in ("song_id", "codes_sha256"))
    gone = [(ids[row], codes[row], 2) for row in sorted(withdrawn)]
    (folder.parent / WITHDRAWN_FILE).write_text(json.dumps({"songs": gone}))
    snapshot = living(whole, folder.parent)
    report = attribute(asked, snapshot, policy, top_k, candidates=7)
    for channel in report.near_copies.values():
        named = []
        for candidate in channel.candidates:
            equal = [song.song_id for song in candidate.equal_songs]
            assert equal == sorted(equal)
            named += [candidate.song.song_id, *equal]
            of_audio = {i for i, c in zip(ids, codes, strict=True) if c == candidate.song.codes_sha256}
            assert {candidate.song.song_id, *equal} == of_audio - {i for i, *_ in gone}
        assert len(set(named)) == len(named)
        assert channel.retrieved == min(top_k, N_SONGS - len(gone)) == min(top_k, channel.searched)
        assert sum(c.share for c in channel.candidates) + channel.unattributed == pytest.approx(1)
    vectors = {c: of_channel.vector for c, of_channel in asked.channels.items()}
    parts = [living(load_snapshot(folder, Shard(i, i + 1, of)), folder.parent) for i in range(of)]
    holds_nothing = living(load_snapshot(folder, Shard(0, 0, of)), folder.parent)
    selection = together(holds_nothing, [select(part, vectors, top_k) for part in parts])
    assert to_json(attribute(asked, selection, policy, top_k, candidates=7)) == to_json(report)


def test_a_report_that_names_what_was_withdrawn_since_comes_out_the_same(
    groups: tuple[Path, Snapshot, QueryFingerprint],
) -> None:
    folder, whole, asked = groups
    removals = folder.parent / WITHDRAWN_FILE
    removals.write_text(json.dumps({"songs": []}))
    snapshot = living(whole, folder.parent)
    report = attribute(asked, snapshot, top_k=1)
    named = report.near_copies["P"].candidates[0].equal_songs
    assert named
    removals.write_text(json.dumps({"songs": [(song.song_id, song.codes_sha256, 2) for song in named]}))
    assert attribute(asked, snapshot, top_k=1).near_copies["P"].candidates[0].equal_songs == ()
    found = verify_query(report, asked, snapshot)
    assert (found.result, found.withdrawn_since) == ("identical", len(named))


def test_whoever_shows_it_names_all_ids_and_owners(catalogs: Catalogs, tmp_path: Path) -> None:
    values = attribute(catalogs.query, catalogs.often).model_dump(mode="json")
    for channel in values["near_copies"].values():
        for song, owner in zip(
            [channel["candidates"][0]["song"], *channel["candidates"][0]["equal_songs"]],
            ["One", "[b]Two", "One"],
            strict=True,
        ):
            song["publisher"] = song["master_owner"] = owner
    report = Report.model_validate(values)
    console = Console(width=100, record=True, file=io.StringIO())
    print_table(report, console)
    table = " ".join(console.export_text().split())
    for owner in ("publisher", "master owner"):
        assert f"same audio: song-17 · {owner} [b]Two" in table.replace("ISRC XX-AAA-26-00017 · ", "")
    page = render_html(report)
    assert page.count("same audio: song-17") == page.count("same audio: z copy") == 2
    row = to_frame(report, "P").iloc[0]
    assert (row["song_id"], row["equal_song_ids"], row["publisher"]) == (
        "a copy",
        "song-17 / z copy",
        "One / [b]Two / One",
    )
    write_csv([("q", report)], tmp_path / "found.csv")
    with (tmp_path / "found.csv").open(encoding="utf-8-sig", newline="") as file:
        best = [row for row in csv.DictReader(file) if row["rank"] == "1"]
    assert {row["equal_song_ids"] for row in best} == {"song-17 / z copy"}
