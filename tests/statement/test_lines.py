"""What is read of a report, against the whole report and against how reports make their intervals."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from lumina_ray.attribution import Report, attribute
from lumina_ray.calibration import Guarantee, calibrate_store, write_calibration
from lumina_ray.errors import StatementError
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.report import from_json, report_sha256, to_json
from lumina_ray.statement import lines
from lumina_ray.statement.lines import LEVELS, drawn_shares, read_clip
from tests.calibration.synthetic import DIMS, World, mixture, query, write_store
from tests.statement.making import canonical, changed


def test_a_clip_has_what_its_report_has(reports: list[bytes]) -> None:
    for data in reports:
        report, clip = from_json(data), read_clip(data, "r")
        assert clip.report_sha256.hex() == report_sha256(report)
        assert clip.audio_sha256.hex() == report.query.audio_sha256
        assert clip.settings.weights_sha256 == report.basis.weights_sha256
        for channel, shares in clip.channels:
            given = [c for c in report.near_copies[channel].candidates if c.share > 0]
            assert [s.share for s in shares] == [c.share for c in given]
            assert [s.songs[0]._asdict() for s in shares] == [
                c.song.model_dump(include=set(s.songs[0]._fields)) for c, s in zip(given, shares, strict=True)
            ]


def _two_songs(values: dict) -> None:
    candidates = values["near_copies"]["P"]["candidates"]
    candidates[0]["share"] = 0.9
    candidates[1]["share"] = 0.9


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda d: d[: len(d) // 2], "not an attribution report"),
        (lambda d: b"", "not an attribution report"),
        (lambda d: b"[]", "of this software version"),
        (lambda d: b"\xff\xfe", "not an attribution report"),
        (lambda d: d + b"\n", "not the bytes"),
        (lambda d: json.dumps(json.loads(d), indent=1).encode(), "not the bytes"),
        (lambda d: b'{"format_version":7,' + d[1:], "not the bytes"),
        (lambda d: changed(d, lambda v: v.update(more=1)), "not the bytes"),
        (lambda d: changed(d, lambda v: v["query"].update(more=1)), "not the bytes"),
        (
            lambda d: changed(d, lambda v: v["near_copies"]["P"]["candidates"][0]["song"].update(more=1)),
            "not the bytes",
        ),
        (lambda d: changed(d, lambda v: v["query"].update(duration_s="10.0")), "not the bytes"),
        (lambda d: changed(d, lambda v: v.update(format_version=6)), "attribute the audio again"),
        (lambda d: changed(d, lambda v: v["query"].update(audio_sha256="x")), "no SHA-256 of its audio"),
        (lambda d: changed(d, _two_songs), "do not add up to 1"),
        (lambda d: changed(d, lambda v: v["near_copies"]["M"].update(unattributed=0.5)), "channel M: shares"),
        (lambda d: d.replace(b'"share":', b'"share":NaN,"x":', 1), "not an attribution report"),
    ],
)
def test_what_is_no_report_as_it_was_written_is_refused_by_name(
    reports: list[bytes], change: Callable[[bytes], bytes], cause: str
) -> None:
    with pytest.raises(StatementError, match=r"^clip 7.json") as refused:
        read_clip(change(reports[1]), "clip 7.json")
    assert cause in str(refused.value)
    assert "\n" not in str(refused.value)


def test_keys_in_another_order_are_refused_wherever_they_are(reports: list[bytes]) -> None:
    def reversed_at(place: Callable[[dict], tuple[dict, str]]) -> bytes:
        values = json.loads(reports[1])
        parent, key = place(values)
        parent[key] = dict(reversed(parent[key].items()))
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()

    for place in (
        lambda v: (v, "query"),
        lambda v: (v["near_copies"], "P"),
        lambda v: (v["near_copies"]["P"], "noise"),
        lambda v: (v["near_copies"]["M"]["candidates"], 3),
        lambda v: (v["near_copies"]["M"]["candidates"][2], "song"),
        lambda v: (v["query"]["chunks"], 0),
        lambda v: (v["basis"], "software"),
    ):
        with pytest.raises(StatementError, match="not the bytes"):
            read_clip(reversed_at(place), "r")


def test_a_report_on_a_part_of_the_catalog_is_refused(reports: list[bytes]) -> None:
    def partial(values: dict) -> None:
        values["unsearched"] = [{"first_row": 0, "n_songs": 3}]
        for channel in values["near_copies"].values():
            channel["warnings"].append({"code": "part_not_searched", "not_searched": 3, "n_songs": 130})

    with pytest.raises(StatementError, match="about a part of the catalog"):
        read_clip(changed(reports[1], partial), "r")


NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1e-5, 1e-7, 1.5e-05, 1e16, 1e22]
)
TEXTS = st.text(st.characters(codec="utf-8")) | st.sampled_from([",0.00001,", "1e-7]", ":0.00002}", 'é\u2028\x7f\\"/'])


@given(st.dictionaries(TEXTS, NUMBERS | TEXTS | st.lists(NUMBERS) | st.integers(-(2**60), 2**60), max_size=8))
def test_canonical_bytes_are_those_that_python_writes(values: dict) -> None:
    values = {"near_copies": {}, "values": values}
    data = canonical(values)
    assert lines._is_canonical(values, data)
    assert not lines._is_canonical(values, data + b" ")
    assert not lines._is_canonical(values, data.replace(b'"values"', b' "values"'))


def test_drawn_shares_are_those_of_other_thresholds(reports: list[bytes]) -> None:
    """Against the share of a single song, worked out again under each draw of the controls."""
    seen = 0
    for data in reports:
        report = from_json(data)
        for channel in report.near_copies.values():
            given = [c for c in channel.candidates if c.share > 0]
            if len(given) != 1:
                continue
            band, (c,) = channel.noise, given
            ranks = lines._drawn_ranks(band.n_controls, band.guarantee)
            t = np.clip(c.threshold + c.threshold_slope * (np.array(band.control_maxima)[ranks] - band.critical), 0, 1)
            r = 1.0 if channel.self_likeness is None else channel.self_likeness
            above = c.explained * np.clip((c.similarity**2 - t**2) / (c.similarity**2 * (1 - t**2)), 0, 1)
            expected = np.minimum(1, above / np.clip((r - t**2) / (1 - t**2), 0.5, 1))
            (drawn,) = drawn_shares([c], channel)
            np.testing.assert_allclose(np.sort(drawn), np.sort(expected), atol=1e-9)
            assert min(drawn) - 1e-9 <= c.share <= max(drawn) + 1e-9
            seen += 1
    assert seen > 3


def test_errors_of_their_own_are_those_of_the_stretches_or_the_largest(reports: list[bytes]) -> None:
    seen = set()
    for data in reports:
        report = from_json(data)
        n = len(report.query.chunks)
        for channel, shares in read_clip(data, "r").channels:
            given = [c for c in report.near_copies[channel].candidates if c.share > 0]
            for share, c in zip(shares, given, strict=True):
                if n == 1:
                    assert c.share_low is None
                    assert share.own_sd == pytest.approx(math.sqrt(c.share * (1 - c.share)), abs=1e-9)
                else:
                    half = (c.share_high - c.share_low) / 2
                    assert share.own_sd == pytest.approx(half / student.ppf(0.975, n - 1))
                seen.add(n)
    assert seen == {1, 4}


def as_near_copies(report: bytes, rule: str, parts: list[float]) -> bytes:
    """A report whose first song in P is divided among it and the songs behind it, which it stands for."""

    def divide(values: dict) -> None:
        members = values["near_copies"]["P"]["candidates"][: len(parts)]
        whole = {name: members[0][name] for name in ("share", "share_low", "share_high", "explained")}
        group = {
            "rule": rule,
            "share": whole["share"],
            "song_ids": sorted(candidate["song"]["song_id"] for candidate in members),
        }
        # Candidates behind them give up what they have, so that the channel adds up.
        for candidate in values["near_copies"]["P"]["candidates"][1:]:
            values["near_copies"]["P"]["unattributed"] += candidate["share"]
            candidate |= {"share": 0.0, "share_low": 0.0, "share_high": 0.0, "explained": 0.0}
        for candidate, part in zip(members, parts, strict=True):
            candidate |= {name: part * of for name, of in whole.items()} | {"group": group}

    return changed(report, divide)


def with_a_share(reports: list[bytes]) -> bytes:
    return next(data for data in reports if from_json(data).near_copies["P"].candidates[0].share > 0.1)


@pytest.mark.parametrize("parts", [[0.5, 0.5], [0.25, 0.5, 0.25]])
def test_near_copies_are_paid_once_and_move_with_the_one_that_stands_for_them(
    reports: list[bytes], parts: list[float]
) -> None:
    data = with_a_share(reports)
    (alone,) = (s for c, shares in read_clip(data, "r").channels if c == "P" for s in shares[:1])
    grouped = as_near_copies(data, "even", parts)
    shares = dict(read_clip(grouped, "r").channels)["P"]
    assert [s.share for s in shares] == [part * alone.share for part in parts]
    assert alone.drawn is not None
    assert alone.own_sd is not None
    for share, part in zip(shares, parts, strict=True):
        # They were of other similarity and threshold: those of the best one count.
        assert share.drawn == pytest.approx([part * drawn for drawn in alone.drawn])
        assert share.own_sd == pytest.approx(part * alone.own_sd, abs=1e-9)


def test_near_copies_that_are_paid_more_than_once_are_refused(reports: list[bytes]) -> None:
    grouped = as_near_copies(with_a_share(reports), "even", [0.5, 0.5])

    def pay_more(values: dict) -> None:
        for candidate in values["near_copies"]["P"]["candidates"][:2]:
            candidate["group"]["share"] /= 2

    def another(values: dict) -> None:
        values["near_copies"]["P"]["candidates"][0]["group"]["song_ids"] = ["song-9999"]

    def reversed_group(values: dict) -> None:
        candidate = values["near_copies"]["P"]["candidates"][0]
        candidate["group"] = dict(reversed(candidate["group"].items()))

    for change in (pay_more, another):
        with pytest.raises(StatementError, match="channel P: the shares of near copies do not add up"):
            read_clip(changed(grouped, change), "r")
    values = json.loads(grouped)
    reversed_group(values)
    with pytest.raises(StatementError, match="not the bytes"):
        read_clip(json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode(), "r")


def test_a_real_group_is_read_as_its_report_has_it(tmp_path: Path) -> None:
    """Re-encodings of a song, of which nobody is known to be the first."""
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    songs = {c: world.music(80) for c, world in worlds.items()}
    for c, world in worlds.items():
        songs[c][[20, 40, 60]] = mixture(songs[c][[7] * 3], world.music(3), 0.85)
    store = write_store(tmp_path / "catalog", songs)
    controls = write_store(tmp_path / "controls", {c: w.music(60) for c, w in worlds.items()}, prefix="control")
    write_calibration(calibrate_store(store, controls), store.path)
    asked = query({c: mixture(songs[c][40], worlds[c].music(1)[0], 0.8) for c in DIMS})
    report = attribute(replace(asked, audio_sha256="b" * 64), load_snapshot(build_index(store, tmp_path / "index")))
    clip = read_clip(to_json(report).encode(), "r")
    for channel, shares in clip.channels:
        given = [c for c in report.near_copies[channel].candidates if c.share > 0]
        assert len({c.group for c in given if c.group}) == 1
        assert len([c for c in given if c.group]) > 1
        assert sum(s.share for s in shares) == pytest.approx(report.near_copies[channel].attributed)
        for share, candidate in zip(shares, given, strict=True):
            assert share.drawn is not None
            assert min(share.drawn) <= candidate.share + 1e-12
            assert candidate.share <= max(share.drawn) + 1e-12
            assert share.own_sd == pytest.approx(math.sqrt(candidate.share * (1 - candidate.share)))


@pytest.mark.parametrize(
    ("n_controls", "guarantee", "m"), [(20, "mean", 1), (53, "mean", 2), (200, "mean", 10), (200, "tolerance", 5)]
)
def test_ranks_of_draws_are_those_of_drawing(n_controls: int, guarantee: Guarantee, m: int) -> None:
    rng = np.random.default_rng(1)
    found = np.sort(rng.integers(n_controls, size=(20_000, n_controls)), axis=1)[:, m - 1]
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    ours = lines._drawn_ranks(n_controls, guarantee)[::-1]
    # At each level, as many draws lie at or below the rank, to the precision of 20 000 draws.
    for level, rank in zip(levels, ours, strict=True):
        assert (found < rank).mean() - 0.015 <= level <= (found <= rank).mean() + 0.015


def test_published_rules_have_no_intervals(reports: list[bytes]) -> None:
    def v8(values: dict) -> None:
        values["policy"] |= {"name": "v8", "published": True}
        for channel in values["near_copies"].values():
            for candidate in channel["candidates"]:
                candidate |= {"share_low": None, "share_high": None, "explained": None}

    clip = read_clip(changed(reports[1], v8), "r")
    assert clip.published
    assert all(share.drawn is None and share.own_sd is None for _, shares in clip.channels for share in shares)
    assert isinstance(Report.model_validate(json.loads(reports[1])), Report)
