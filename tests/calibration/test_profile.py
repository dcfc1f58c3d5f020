"""Provenance: p-values that are right, a statistic against its own definition, and reports that say it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lumina_ray.attribution import Report, attribute
from lumina_ray.calibration import ALPHA, Reference, calibrate_store, read_calibration, write_calibration
from lumina_ray.calibration.profile import ModelProfile, profile_of
from lumina_ray.calibration.standard import excess_of_controls, song_noise
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.index import Snapshot, build_index, load_snapshot
from lumina_ray.report import from_json, print_table, render_html, sentences, to_json
from tests.calibration.synthetic import DIMS, World, query, specification, unit, write_store

N_SONGS, N_CONTROLS = 100, 79


def made_by(world: World, taste: int, n: int, strength: float = 0.6) -> np.ndarray:
    """Pieces of a model with a direction of its own, beside music."""
    own = unit(np.random.default_rng(taste).normal(size=world.dims))
    return unit(world.music(n) + strength * own * world.rng.uniform(0.5, 1, (n, 1))).astype(np.float32)


def references_of(songs: np.ndarray, controls: np.ndarray) -> Reference:
    songs = songs.astype(np.float64)
    return Reference(songs, song_noise(controls.astype(np.float64) @ songs.T, np.arange(len(songs))))


def test_controls_are_left_out_of_their_own_noise() -> None:
    similarity = np.random.default_rng(0).normal(size=(30, 12))
    excess = excess_of_controls(similarity)
    for i in (0, 7, 29):
        others = np.delete(similarity, i, axis=0)
        np.testing.assert_allclose(excess[i], song_noise(others, np.arange(12)).excess(similarity[i]), rtol=1e-9)


def test_likeness_and_p_are_those_of_the_definition() -> None:
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    songs = {c: w.music(40) for c, w in worlds.items()}
    controls = {c: w.music(59) for c, w in worlds.items()}
    pieces = {c: made_by(w, 5, 9) for c, w in worlds.items()}
    references = {c: references_of(songs[c], controls[c]) for c in DIMS}
    found = profile_of("m", pieces, controls, references, "a" * 64, audited=True)

    def profile(x: dict[str, np.ndarray]) -> np.ndarray:
        return np.concatenate([references[c].noise.excess(x[c].astype(float) @ references[c].vectors.T) for c in DIMS])

    each = np.stack([profile({c: pieces[c][i] for c in DIMS}) for i in range(9)])
    mean = each.mean(axis=0)
    np.testing.assert_allclose(np.concatenate([found.mean["P"], found.mean["M"]]), mean)
    clip = {c: made_by(w, 5, 1)[0] for c, w in worlds.items()}
    expected = profile(clip) @ mean / np.linalg.norm(profile(clip)) / np.linalg.norm(mean)
    of_clip = {c: references[c].noise.excess(clip[c].astype(float) @ references[c].vectors.T) for c in DIMS}
    assert found.likeness(of_clip) == pytest.approx(expected)
    assert found.p_value(-2) == 1
    assert found.p_value(2) == 1 / 60
    assert found.p_value(found.controls[2]) == pytest.approx(4 / 60)
    # Canonical JSON sorts the channels; the number stays the same to the bit.
    turned = found.model_copy(update={"mean": dict(reversed(found.mean.items()))})
    again = ModelProfile.model_validate_json(turned.model_dump_json())
    assert again.likeness(of_clip) == found.likeness(of_clip)


def test_unrelated_music_is_found_as_often_as_said_and_the_models_as_often_as_its_power() -> None:
    """False alarms over many draws of everything, and the power that a profile tells against that on new pieces."""
    rng = np.random.default_rng(1)
    alarms, powers, hits = [], [], []
    for _ in range(40):
        world = World(rng, 64)
        songs, controls, taste = world.music(50), world.music(N_CONTROLS), int(rng.integers(1 << 30))
        reference = references_of(songs, controls)
        profile = profile_of(
            "m", {"P": made_by(world, taste, 16, 0.5)}, {"P": controls}, {"P": reference}, "a" * 64, audited=True
        )
        for clips, into in ((world.music(25), alarms), (made_by(world, taste, 25, 0.5), hits)):
            for clip in clips:
                excess = {"P": reference.noise.excess(reference.vectors @ clip.astype(float))}
                into.append(profile.p_value(profile.likeness(excess)) <= ALPHA)
        powers.append(profile.power)
    assert np.mean(alarms) == pytest.approx(ALPHA, abs=0.025)
    assert np.mean(hits) > 0.25
    assert np.mean(powers) == pytest.approx(np.mean(hits), abs=0.08)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, dict[str, World], Path]:
    folder = tmp_path_factory.mktemp("provenance")
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    store = write_store(folder / "catalog", {c: w.music(N_SONGS) for c, w in worlds.items()})
    write_store(folder / "controls", {c: w.music(N_CONTROLS) for c, w in worlds.items()}, prefix="control")
    for name, taste in (("own", 1), ("rival", 2)):
        write_store(folder / name, {c: made_by(w, taste, 20, 1.0) for c, w in worlds.items()}, prefix=name)
    calibration = calibrate_store(
        store, folder / "controls", pieces=folder / "own", other_pieces={"rival": folder / "rival"}
    )
    write_calibration(calibration, store.path)
    return load_snapshot(build_index(store, folder / "index")), worlds, folder


def ask(snapshot: Snapshot, vectors: dict[str, np.ndarray]) -> Report:
    return attribute(query(vectors), snapshot)


def test_a_report_names_the_model_or_says_that_this_shows_nothing(catalog, capsys) -> None:
    snapshot, worlds, _ = catalog
    answers = {
        name: [ask(snapshot, {c: made_by(w, taste, 1, 1.0)[0] for c, w in worlds.items()}) for _ in range(12)]
        for name, taste in (("nano", 1), ("rival", 2))
    }
    for name, reports in answers.items():
        found = [report.provenance.found for report in reports]
        assert found.count((name,)) >= 10
        assert set(found) <= {(name,), ()}
    music = [ask(snapshot, {c: w.music(1)[0] for c, w in worlds.items()}) for _ in range(20)]
    assert [r.provenance.found for r in music].count(()) >= 17
    own = next(r for r in answers["nano"] if r.provenance.found)
    unfound = next(r for r in music if not r.provenance.found)
    assert own.provenance.alpha == ALPHA / 2
    assert [(one.model, one.audited) for one in own.provenance.models] == [("nano", True), ("rival", False)]
    assert from_json(to_json(own)) == own
    for report, told in (
        (own, "Like an output of nano:"),
        (unfound, "That does not show that it is none"),
    ):
        assert told in " ".join(sentences.provenance(report))
        assert told in render_html(report)
        print_table(report, Console(width=200))
        assert told in capsys.readouterr().out


def test_of_two_models_that_are_alike_neither_is_named_alone(catalog) -> None:
    snapshot, worlds, _ = catalog
    own, rival = snapshot.calibration.profiles
    twin = rival.model_copy(update={"mean": own.mean, "controls": own.controls})
    alike = replace(snapshot, calibration=snapshot.calibration.model_copy(update={"profiles": (own, twin)}))
    reports = [ask(alike, {c: made_by(w, 1, 1, 1.0)[0] for c, w in worlds.items()}) for _ in range(5)]
    found = next(report for report in reports if report.provenance.found)
    assert found.provenance.found == ("nano", "rival")
    assert "Which of them made it, if any, this cannot tell." in sentences.provenance(found)


def test_without_pieces_nothing_is_asked_and_that_is_said(catalog) -> None:
    snapshot, worlds, folder = catalog
    before = replace(snapshot, calibration=snapshot.calibration.model_copy(update={"profiles": ()}))
    report = ask(before, {c: w.music(1)[0] for c, w in worlds.items()})
    assert report.provenance is None
    assert sentences.provenance(report) == [
        "Not asked: no pieces by the model were given when the catalog was calibrated."
    ]


def test_profiles_are_read_back_as_they_were_written(catalog) -> None:
    snapshot, _, folder = catalog
    assert read_calibration(folder / "catalog").profiles == snapshot.calibration.profiles
    assert len(snapshot.calibration.profiles) == 2


def test_what_can_be_no_profile_is_refused(catalog, tmp_path: Path) -> None:
    _, worlds, folder = catalog
    store, controls = folder / "catalog", folder / "controls"
    vectors = {c: made_by(w, 1, 10) for c, w in worlds.items()}
    few = write_store(tmp_path / "few", {c: v[:7] for c, v in vectors.items()}, prefix="few")
    with pytest.raises(UsageError, match="7 distinct pieces by nano are too few"):
        calibrate_store(store, controls, pieces=few)
    with pytest.raises(UsageError, match="nano is the audited model itself"):
        calibrate_store(store, controls, other_pieces={"nano": few})
    shared = write_store(tmp_path / "shared", vectors, codes_sha256=[f"control{i}" for i in range(10)])
    with pytest.raises(StoreError, match=r"10 of the pieces in .* are controls"):
        calibrate_store(store, controls, pieces=shared)
    other = write_store(tmp_path / "other", vectors, spec=specification("b" * 64))
    with pytest.raises(SpecificationMismatch, match=r"pieces .*fingerprint both"):
        calibrate_store(store, controls, pieces=other)
