"""Reliability of a store's scores: in the calibration, and said loudly by the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.calibration import (
    CALIBRATION_FILE,
    calibrate,
    calibrate_store,
    read_calibration,
    song_noise_of,
    write_calibration,
)
from lumina_ray.calibration.reliability import STANDARD, measure_reliability
from lumina_ray.diagnostics.reliability import ScoreSums, judge
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.vocabulary import CHANNELS
from tests.calibration.synthetic import DIMS, World, demo_stores, specification, unit, write_store
from tests.cli.running import run_lumina

RNG = np.random.default_rng(0)


def music(n: int, seed: int) -> np.ndarray:
    return World(np.random.default_rng(seed), 96).music(n)


def one_ranking(n: int, seed: int, prefix: str = "song") -> dict[str, np.ndarray]:
    """Music that differs in nothing but how much of one direction it has: every song's likeness follows that alone."""
    rng = np.random.default_rng(seed)
    out = {}
    for channel, dims in DIMS.items():
        vectors = 0.02 * rng.standard_normal((n, dims))
        angle = rng.uniform(0.2, 1.3, n)
        vectors[:, 0] += np.cos(angle)
        vectors[:, 1] += np.sin(angle) * (channel == "M") + 0.02 * rng.standard_normal(n)
        vectors[:, 2] += np.sin(angle) * (channel == "P")
        out[channel] = unit(vectors).astype(np.float32)
    return out


def test_it_is_the_reliability_of_the_whole_matrix() -> None:
    songs_ND, queries_QD = music(5000, 0), music(30, 1)
    noise = calibrate({"P": songs_ND}, {"P": queries_QD}).songs["P"]
    found = measure_reliability(songs_ND, queries_QD, noise, "controls")
    similarity_NQ = songs_ND.astype(float) @ queries_QD.astype(float).T
    for name, scores_NQ in (
        ("controls", similarity_NQ),
        ("controls" + STANDARD, (similarity_NQ - noise.mean[:, None]) / noise.spread[:, None]),
    ):
        expected = judge(ScoreSums.of(scores_NQ))
        assert found[name].kappa == pytest.approx(expected.found.kappa, abs=1e-12)
        assert found[name].r1 == pytest.approx(expected.found.r1_centred, abs=1e-12)
        assert found[name].collapse == pytest.approx(expected.collapse, abs=1e-12)
        assert (found[name].queries, found[name].kappa_chance) == (30, expected.chance.kappa)


def test_of_many_queries_some_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lumina_ray.calibration.reliability._MOST_QUERIES", 10)
    songs_ND, queries_QD = music(50, 0), music(30, 1)
    noise = calibrate({"P": songs_ND}, {"P": queries_QD}).songs["P"]
    found = measure_reliability(songs_ND, queries_QD, noise, "x")
    assert found == measure_reliability(songs_ND, queries_QD[:10], noise, "x")
    assert measure_reliability(songs_ND[:19], queries_QD, noise, "x") == {}


def test_a_calibration_keeps_it(tmp_path: Path) -> None:
    catalog, controls, _ = demo_stores(tmp_path)
    calibration = calibrate_store(catalog, controls)
    noise = song_noise_of(calibration, catalog.song_ids, catalog.path)
    for c in CHANNELS:
        expected = measure_reliability(catalog.vectors(c), controls.vectors(c), noise[c], "controls")
        assert calibration.reliability[c] == expected
    write_calibration(calibration, tmp_path)
    assert read_calibration(tmp_path) == calibration
    assert (tmp_path / CALIBRATION_FILE).read_text() == calibration.to_json()


def test_queries_are_measured_too(tmp_path: Path) -> None:
    catalog, controls, worlds = demo_stores(tmp_path)
    asked = {c: world.music(12) for c, world in worlds.items()}
    queries = write_store(tmp_path / "queries", asked, "query")
    found = calibrate_store(catalog, controls, queries=queries)
    noise = song_noise_of(found, catalog.song_ids, catalog.path)
    expected = measure_reliability(catalog.vectors("P"), asked["P"], noise["P"], "queries")
    assert expected.items() <= found.reliability["P"].items()
    assert found.channels == calibrate_store(catalog, controls).channels
    other = write_store(tmp_path / "other", asked, "query", specification("b" * 64))
    with pytest.raises(SpecificationMismatch, match="other have"):
        calibrate_store(catalog, controls, queries=other)
    one = write_store(tmp_path / "one", {c: v[:1] for c, v in asked.items()}, "query")
    with pytest.raises(UsageError, match="one: 1 distinct queries; 2 are needed"):
        calibrate_store(catalog, controls, queries=one)


def test_a_collapsed_fingerprint_is_told_loudly_and_not_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", one_ranking(120, 0))
    controls = write_store(tmp_path / "controls", one_ranking(40, 1), "control")
    done = run_lumina("calibrate", str(store.path), "--controls", str(controls.path))
    assert done.exit_code == 0, done.stderr
    assert "WARNING: channel P has COLLAPSED" in done.stderr
    assert "rankings of 40 controls by similarity have collapse 0." in done.stdout
    built = run_lumina("index", str(store.path), "--out", str(tmp_path / "index"), "--json")
    assert built.exit_code == 0, built.stderr
    assert json.loads(built.stdout)["songs"] == 120
    assert "WARNING: channel P has COLLAPSED" in built.stderr
    assert "WARNING: channel M has COLLAPSED" in built.stderr


def test_sound_fingerprints_are_not(tmp_path: Path) -> None:
    vectors = {c: unit(RNG.standard_normal((120, d))).astype(np.float32) for c, d in DIMS.items()}
    others = {c: unit(RNG.standard_normal((40, d))).astype(np.float32) for c, d in DIMS.items()}
    store = write_store(tmp_path / "store", vectors)
    controls = write_store(tmp_path / "controls", others, "control")
    done = run_lumina("calibrate", str(store.path), "--controls", str(controls.path), "--json")
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    of = json.loads(done.stdout)["reliability"]["P"]
    # Vectors of 96 numbers cannot point into more than 96 unrelated directions: √(2 / 96π) is 0.08.
    assert abs(of["controls"]["collapse"]) < 0.06
    assert abs(of["controls" + STANDARD]["collapse"]) < 0.06
    assert "WARNING" not in run_lumina("index", str(store.path), "--out", str(tmp_path / "index")).stderr
