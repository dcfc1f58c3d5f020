"""Groups of near copies: who belongs together, who is paid, and that copies change nothing for the original."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lumina_ray.attribution import attribute
from lumina_ray.attribution.evidence import evidence_on_all
from lumina_ray.attribution.groups import Claim, divide, linked, paid
from lumina_ray.attribution.intervals import share_intervals
from lumina_ray.attribution.policies import calibrated
from lumina_ray.calibration import calibrate, calibrate_store, write_calibration
from lumina_ray.index import Shard, build_index, load_snapshot
from lumina_ray.index.shards import select, together
from lumina_ray.report import from_json, print_table, render_html, to_json
from tests.calibration.synthetic import DIMS, World, mixture, query, write_store

CHANNELS = ("P", "M")


@pytest.mark.parametrize(
    ("claims", "parts", "rule"),
    [
        ([("2020-05-01", "B"), ("2019-12-31", "A"), (None, "C")], [0, 1, 0], "earliest"),
        ([("2020-05-01", "B"), ("2020-05-01", "A"), ("2021-01-01", "A")], [0.5, 0.5, 0], "earliest"),
        ([(None, "A"), (None, "A")], [0.5, 0.5], "one_owner"),
        ([(None, "A"), (None, "B"), (None, "B")], [0.5, 0.25, 0.25], "even"),
        ([(None, None), (None, None), (None, "B"), (None, "B")], [1 / 3, 1 / 3, 1 / 6, 1 / 6], "even"),
        ([(None, None)], [1], "even"),
    ],
)
def test_the_first_rule_that_applies_divides_a_share(claims, parts, rule):
    found, by = divide([Claim(*claim) for claim in claims])
    np.testing.assert_allclose(found, parts)
    assert by == rule


CLAIM = st.builds(Claim, st.sampled_from([None, "2020-01-01", "2021-01-01"]), st.sampled_from([None, "A", "B"]))


@given(st.lists(CLAIM, min_size=1, max_size=9), st.data())
def test_songs_are_in_one_group_each_with_all_that_they_are_linked_to(claims, data):
    n = len(claims)
    near = np.array(data.draw(st.lists(st.booleans(), min_size=n * n, max_size=n * n))).reshape(n, n)
    near |= np.eye(n, dtype=bool)
    places = np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    groups = linked(places, near[places])
    # Links of the others are not looked at.
    either = near & np.isin(np.arange(n), places)[:, None]
    reached = np.linalg.matrix_power((either | either.T | np.eye(n, dtype=bool)).astype(int), n) > 0
    assert {frozenset(members.tolist()) for members in groups} == {
        frozenset(np.flatnonzero(reached[place]).tolist()) for place in places
    }
    score = np.arange(n)[::-1].astype(float)
    alone = np.isin(np.arange(n), places)
    for members, group in zip(groups, paid(groups, score, alone, lambda of: [claims[i] for i in of]), strict=True):
        dated = any(claims[i].registered for i in members)
        assert set(group.members) == {i for i in members.tolist() if dated or alone[i]}
        assert group.parts.sum() == pytest.approx(1)
        standing = group.members[group.parts > 0] if group.rule == "earliest" else group.members
        assert group.representative == standing.min()


@pytest.fixture(scope="module")
def world():
    worlds = {c: World(np.random.default_rng(i), 192) for i, c in enumerate(CHANNELS)}
    catalog = {c: of.music(150) for c, of in worlds.items()}
    controls = {c: of.music(60) for c, of in worlds.items()}
    return worlds, catalog, controls


def judged(world, copies, query, claims=None):
    _, catalog, controls = world
    with_copies = {c: np.concatenate([catalog[c], copies[c]]) for c in CHANNELS}
    noise = calibrate(with_copies, controls)
    of = evidence_on_all(noise, with_copies, query, claims)
    return of, {c: calibrated(e) for c, e in of.items()}


def copies_of(world, song: int, n: int, rng) -> dict:
    worlds, catalog, _ = world
    weights = rng.uniform(0.65, 0.95, size=n)
    return {
        c: np.concatenate(
            [mixture(catalog[c][song : song + 1], worlds[c].music(1), w) for w in weights]
            or [np.empty((0, 192), np.float32)]
        )
        for c in CHANNELS
    }


def earliest_is(song: int):
    """Song 5's owner registered first; the owner of all copies later."""

    def claims(rows):
        return [Claim("2019-01-01", "A") if row == song else Claim("2023-01-01", "copier") for row in rows.tolist()]

    return claims


def test_copies_that_somebody_else_registers_take_nothing_from_the_earliest(world):
    worlds, catalog, _ = world
    query = {c: mixture(catalog[c][5], worlds[c].music(1)[0], 0.75) for c in CHANNELS}
    rng = np.random.default_rng(0)
    before = None
    for n in (0, 1, 2, 5, 30):
        _, verdicts = judged(world, copies_of(world, 5, n, rng), query, earliest_is(5))
        shares = {c: verdict.shares[5] for c, verdict in verdicts.items()}
        of_group = {c: verdict.shares[[5, *range(150, 150 + n)]].sum() for c, verdict in verdicts.items()}
        before = before or of_group
        for c in CHANNELS:
            assert before[c] > 0.2
            assert shares[c] == pytest.approx(of_group[c])
            assert of_group[c] == pytest.approx(before[c], abs=0.02)
            assert shares[c] >= before[c] - 0.02


def test_nobody_s_date_is_known_so_owners_share_alike_however_many_copies_one_has(world):
    worlds, catalog, _ = world
    query = {c: mixture(catalog[c][5], worlds[c].music(1)[0], 0.8) for c in CHANNELS}

    def claims(rows):
        return [Claim(None, "copier" if row >= 150 else "A") for row in rows.tolist()]

    copies = copies_of(world, 5, 6, np.random.default_rng(1))
    _, verdicts = judged(world, copies, query, claims)
    for verdict in verdicts.values():
        group = next(group for group in verdict.groups if 5 in group.members)
        assert (group.rule, len(group.members)) == ("even", 7)
        assert verdict.shares[5] == pytest.approx(verdict.shares[150:].sum())
        assert verdict.shares.sum() + verdict.unattributed == pytest.approx(1)


def test_intervals_are_divided_as_shares_are(world):
    worlds, catalog, _ = world
    chunks = {c: mixture(np.repeat(catalog[c][5:6], 4, 0), worlds[c].music(4), 0.75) for c in CHANNELS}
    query = {c: x.sum(axis=0) / np.linalg.norm(x.sum(axis=0)) for c, x in chunks.items()}
    of, _ = judged(world, copies_of(world, 5, 3, np.random.default_rng(2)), query)
    for c in CHANNELS:
        e = replace(of[c], stretches=chunks[c], stretch_weights=np.full(4, 0.25))
        verdict = calibrated(e)
        low, high = share_intervals(e, verdict)
        group = next(group for group in verdict.groups if 5 in group.members)
        ends = low[group.members], verdict.shares[group.members], high[group.members]
        assert (ends[0] <= ends[1]).all()
        assert (ends[1] <= ends[2]).all()
        for end in ends:
            np.testing.assert_allclose(end / end.sum(), group.parts)


def test_songs_that_are_not_alike_stay_apart(world):
    worlds, catalog, _ = world
    query = {c: mixture(catalog[c][5] + catalog[c][9], worlds[c].noise(1)[0], 0.6) for c in CHANNELS}
    of, verdicts = judged(world, copies_of(world, 5, 0, np.random.default_rng(3)), query)
    for c, verdict in verdicts.items():
        assert {5, 9} <= set(np.flatnonzero(verdict.qualified))
        assert all(len(group.members) == 1 for group in verdict.groups)
        alone = calibrated(replace(of[c], near=lambda places: places[:, None] == np.arange(150)))
        np.testing.assert_array_equal(alone.shares, verdict.shares)


def test_a_report_shows_the_collision_and_pays_the_earliest(tmp_path: Path):
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    songs = {c: world.music(80) for c, world in worlds.items()}
    for c, world in worlds.items():
        songs[c][[20, 40, 60]] = mixture(songs[c][[7] * 3], world.music(3), 0.85)
    facts: list[dict] = [{"publisher": f"Publisher {i}", "master_owner": f"Label {i}"} for i in range(80)]
    facts[7]["registered"], facts[40]["registered"] = "2020-02-03", "2024-01-01"
    store = write_store(tmp_path / "catalog", songs, facts=facts)
    controls = write_store(tmp_path / "controls", {c: w.music(60) for c, w in worlds.items()}, prefix="control")
    write_calibration(calibrate_store(store, controls), store.path)
    folder = build_index(store, tmp_path / "index")
    snapshot = load_snapshot(folder)
    asked = query({c: mixture(songs[c][40], worlds[c].music(1)[0], 0.8) for c in DIMS})
    report = attribute(asked, snapshot)
    for channel in report.near_copies.values():
        group = {c.song.song_id: c for c in channel.candidates if c.group}
        assert set(group) == {"song-0007", "song-0020", "song-0040", "song-0060"}
        assert group["song-0040"].similarity > group["song-0007"].similarity
        for candidate in group.values():
            assert candidate.group.rule == "earliest"
            assert candidate.group.song_ids == tuple(sorted(group))
            assert candidate.group.share == pytest.approx(group["song-0007"].share)
            assert (candidate.share > 0) == (candidate.song.song_id == "song-0007")
        assert sum(c.share for c in channel.candidates) + channel.unattributed == pytest.approx(1)
    assert from_json(to_json(report)) == report
    console = Console(width=100, record=True, file=io.StringIO())
    print_table(report, console)
    shown = "to the earliest registered): this and song-0020, song-0040, song-0060"
    assert shown in " ".join(console.export_text().split())
    assert shown in " ".join(render_html(report).split())
    vectors = {c: of_channel.vector for c, of_channel in asked.channels.items()}
    parts = [select(load_snapshot(folder, Shard(i, i + 1, 3)), vectors, 256) for i in range(3)]
    selection = together(load_snapshot(folder, Shard(0, 0, 3)), parts)
    assert to_json(attribute(asked, selection)) == to_json(report)
