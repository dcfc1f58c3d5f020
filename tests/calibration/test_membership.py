"""Membership evidence: p-values against counting, the file beside a store, and what index and report make of it."""

import json
import math
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats

from lumina_ray.attribution import attribute
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.calibration.membership import (
    EARLIER_FILE,
    MAX_REFERENCES,
    MEMBERSHIP_FILE,
    MembershipBasis,
    check_references,
    current_membership,
    evidence_of,
    judge_membership,
    membership_p_values,
    read_membership,
    write_membership,
)
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.fingerprint.observed import Observed
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.report import sentences
from tests.calibration.synthetic import (
    DIMS,
    REFERENCES,
    demo_stores,
    membership_evidence,
    mixture,
    query,
    specification,
    write_store,
)

HASHES = ("weights_sha256", "catalog_sha256", "controls_sha256")


def test_p_values_are_counts_over_controls() -> None:
    rng = np.random.default_rng(0)
    controls, songs = rng.integers(0, 8, 30) / 4, rng.integers(-1, 9, 50) / 4
    expected = [(1 + sum(c >= s for c in controls)) / 31 for s in songs]
    np.testing.assert_array_equal(membership_p_values(songs, controls), expected)


@pytest.mark.parametrize("n_controls", [20, 39, 52])
def test_of_songs_like_controls_as_many_are_found_as_chance_says(n_controls: int) -> None:
    rng, n = np.random.default_rng(1), 4000
    found = (
        sum(membership_p_values(rng.gumbel(size=1), rng.gumbel(size=n_controls)).item() <= 0.05 for _ in range(n)) / n
    )
    named = {"references": ("a",), "references_weights_sha256": ("b",), "control_evidence": (0.0,) * n_controls}
    chance = MembershipBasis(**dict.fromkeys(HASHES, ""), **named).chance
    assert 0.02 < chance <= 0.05
    assert abs(found - chance) < 4 * np.sqrt(chance / n)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A catalog of which the model learned songs 10 to 29, its controls, and the evidence."""
    store, controls, worlds = demo_stores(tmp_path_factory.mktemp("stores"))
    write_calibration(calibrate_store(store, controls), store.path)
    return store, controls, worlds, membership_evidence(store, controls, range(10, 30))


def test_the_file_holds_what_was_found(made, tmp_path: Path) -> None:
    store, controls, _, evidence = made
    assert evidence.songs["song_id"].to_pylist() == store.song_ids
    columns = {
        name: evidence.songs[name].to_numpy() for name in ("audited", "reference", "excess", "evidence", "p_value")
    }
    np.testing.assert_array_equal(columns["excess"], columns["audited"] - columns["reference"])
    # All tracks have 20 windows of variance 0.01.
    np.testing.assert_allclose(columns["evidence"], columns["excess"] / (0.1 * np.sqrt(0.1 + 1 / 20)))
    expected = membership_p_values(columns["evidence"], np.array(evidence.basis.control_evidence))
    np.testing.assert_array_equal(columns["p_value"], expected)
    assert set(np.flatnonzero(columns["p_value"] == 1 / 51)) == set(range(10, 30))
    assert list(evidence.basis.control_evidence) == sorted(evidence.basis.control_evidence, reverse=True)
    write_membership(evidence, tmp_path)
    read = read_membership(tmp_path)
    assert (read.basis, read.songs.to_pylist()) == (evidence.basis, evidence.songs.to_pylist())
    assert read_membership(tmp_path / "nowhere") is None
    (tmp_path / MEMBERSHIP_FILE).write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match="run `lumina use` again"):
        read_membership(tmp_path)
    # Before the version was written, evidence was of one reference, and p-values were of the excess itself.
    older = {"weights_sha256": "a", "reference": "b", "control_excess": [0.1]}
    table = evidence.songs.drop_columns("evidence").replace_schema_metadata({b"lumina_ray": json.dumps(older)})
    pq.write_table(table, tmp_path / MEMBERSHIP_FILE)
    with pytest.raises(StoreError, match=r"of version 1, and .* reads version 2: run `lumina use` on its store again"):
        read_membership(tmp_path)


def by_hand(tracks: list[Observed]) -> list[float]:
    """Evidence, a track at a time, in the words of the docstring."""
    R = len(tracks[0].references)
    degrees = [of.n_windows - 1 for of in tracks]
    pooled = sum(d * of.window_variance for d, of in zip(degrees, tracks, strict=True)) / sum(degrees)
    squares = [(pooled + d * of.window_variance) / (1 + d) for d, of in zip(degrees, tracks, strict=True)]
    within = [s2 * (0.1 + 1 / of.n_windows) for s2, of in zip(squares, tracks, strict=True)]
    if R == 1:
        return [of.window_mean / math.sqrt(w) for of, w in zip(tracks, within, strict=True)]
    between = [statistics.variance(of.references) for of in tracks]
    factor = sum(between) / sum(within)
    return [
        (of.audited - statistics.mean(of.references))
        / math.sqrt((8 * w * factor + (R - 1) * v) / (8 + R - 1))
        / math.sqrt(1 + 1 / R)
        for of, w, v in zip(tracks, within, between, strict=True)
    ]


@pytest.mark.parametrize("n_references", [1, 2, 4])
def test_evidence_is_the_excess_in_standard_errors(n_references: int) -> None:
    rng, tracks = np.random.default_rng(2), []
    for _ in range(40):
        windows = rng.normal(rng.normal(), rng.uniform(0.1, 2), int(rng.integers(2, 50)))
        references = tuple(rng.normal(size=n_references))
        tracks.append(Observed(rng.normal(), references, len(windows), windows.mean(), windows.var(ddof=1)))
    np.testing.assert_allclose(evidence_of(tracks), by_hand(tracks))
    # What is given in another order, or in bits, has the same evidence.
    np.testing.assert_allclose(evidence_of(tracks[::-1]), evidence_of(tracks)[::-1])
    bits = [
        Observed(2 * a, tuple(2 * one for one in r), n, 2 * mean, 4 * variance) for a, r, n, mean, variance in tracks
    ]
    np.testing.assert_allclose(evidence_of(bits), evidence_of(tracks))
    if n_references == 1:
        # Of one track alone the pooled variance is its own: a t-test, but for what long tracks differ by.
        t = scipy.stats.ttest_1samp(windows, 0).statistic
        alone = evidence_of(tracks[-1:]).item()
        assert alone == pytest.approx(t / math.sqrt(1 + 0.1 * len(windows)))
    else:
        # About a track of which references disagree, the same excess is less evidence.
        wide = tracks[0]._replace(
            references=tuple(3 * (one - np.mean(tracks[0].references)) for one in tracks[0].references)
        )
        narrow = wide._replace(references=tuple(one / 9 for one in wide.references))
        of_wide, of_narrow = evidence_of([wide, narrow, *tracks[1:]])[:2]
        assert 0 < of_wide / of_narrow < 1


def test_tracks_of_one_window_or_none_are_judged_by_the_scatter_of_all() -> None:
    many = [Observed(-3.0, (-3.5,), 11, 0.5, 0.04)] * 4
    one, none = Observed(-3.0, (-3.5,), 1, 0.3, 0.0), Observed(-3.0, (-3.2,), 0, float("nan"), 0.0)
    expected = np.array([0.3, 0.2]) / (0.2 * math.sqrt(0.1 + 1))
    assert evidence_of([*many, one, none])[4:] == pytest.approx(expected)
    # No scatter at all is no infinite evidence.
    assert np.isfinite(evidence_of([Observed(-3.0, (-3.5, -3.5), 0, float("nan"), 0.0)] * 2)).all()


@pytest.mark.parametrize("n_references", [1, 4])
def test_p_values_stay_exact_where_tracks_differ_in_what_scatters(n_references: int) -> None:
    rng, n, found = np.random.default_rng(3), 400, 0
    for _ in range(n):
        scale = rng.gamma(1, size=41)[:, None]
        references = rng.normal(-4, 1, (41, 1)) + scale * rng.normal(size=(41, n_references))
        audited = references.mean(axis=1) + scale[:, 0] * rng.normal(size=41)
        windows = (audited - references.mean(axis=1))[:, None] + scale * rng.normal(size=(41, 6))
        tracks = [
            Observed(a, tuple(r), 6, w.mean(), w.var(ddof=1))
            for a, r, w in zip(audited, references, windows, strict=True)
        ]
        evidence = evidence_of(tracks)
        found += membership_p_values(evidence[:1], evidence[1:]).item() <= 0.05
    chance = 2 / 41
    assert abs(found / n - chance) < 4 * np.sqrt(chance / n)


def test_several_references_are_named_by_hash_and_bounded(made, tmp_path: Path) -> None:
    store, controls, _, _ = made
    several = membership_evidence(store, controls, range(10, 30), n_references=3)
    assert several.basis.references == ("a reference", "another", "a third")
    assert several.basis.references_weights_sha256 == ("e" * 64, "d" * 64, "c" * 64)
    assert set(np.flatnonzero(several.songs["p_value"].to_numpy() == 1 / 51)) == set(range(10, 30))
    # Three references 0.02 apart.
    excess, evidence = (several.songs[name].to_numpy() for name in ("excess", "evidence"))
    np.testing.assert_allclose(evidence, excess / (0.02 * np.sqrt(1 + 1 / 3)))
    write_membership(several, tmp_path)
    assert read_membership(tmp_path).basis == several.basis
    check_references(["m"])
    check_references([str(i) for i in range(MAX_REFERENCES)])
    for names in ([], [str(i) for i in range(MAX_REFERENCES + 1)]):
        with pytest.raises(UsageError, match=f"{len(names)} reference models; membership evidence takes 1 to 16"):
            check_references(names)
    with pytest.raises(UsageError, match="reference 'm' is given twice"):
        check_references(["m", "n", "m"])


def test_evidence_of_an_earlier_version_is_refused_with_the_command_that_helps(made, snapshots, tmp_path: Path) -> None:
    _, _, _, evidence = made
    (tmp_path / EARLIER_FILE).write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"use\.parquet holds .* of an earlier version: run `lumina use` again"):
        read_membership(tmp_path)
    write_membership(evidence, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MEMBERSHIP_FILE]
    assert read_membership(tmp_path) is not None
    _, with_evidence = snapshots
    old = Path(shutil.copytree(with_evidence.withdrawals._file.parent / with_evidence.version, tmp_path / "v0001"))
    manifest = json.loads((old / "manifest.json").read_text())
    manifest["files"][EARLIER_FILE] = manifest["files"].pop(MEMBERSHIP_FILE)
    (old / MEMBERSHIP_FILE).rename(old / EARLIER_FILE)
    (old / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="run `lumina use` on its store again, and build the index again"):
        load_snapshot(old)


def test_a_control_twice_is_one_and_too_few_are_refused(made, tmp_path: Path) -> None:
    store, controls, worlds, _ = made
    vectors = {c: controls.vectors(c)[:22] for c in DIMS}
    codes = [f"control{i // 2}" if i < 4 else f"control{i}" for i in range(22)]
    doubled = write_store(tmp_path / "doubled", vectors, prefix="c", codes_sha256=codes)
    assert membership_evidence(store, doubled, ()).basis.n_controls == 20
    few = write_store(tmp_path / "few", {c: v[:21] for c, v in vectors.items()}, prefix="c", codes_sha256=codes[:21])
    with pytest.raises(UsageError, match="19 distinct controls; membership evidence needs at least 20"):
        membership_evidence(store, few, ())


def test_controls_of_another_kind_or_from_the_catalog_are_refused(made, tmp_path: Path) -> None:
    store, controls, _, _ = made
    with pytest.raises(StoreError, match="are catalog songs"):
        membership_evidence(store, store, ())
    vectors = {c: controls.vectors(c) for c in DIMS}
    other = write_store(tmp_path / "other", vectors, prefix="control", spec=specification("f" * 64))
    with pytest.raises(SpecificationMismatch, match="fingerprint both with the same model"):
        membership_evidence(store, other, ())
    with pytest.raises(StoreError, match="changed while it was read"):
        judge_membership(store, controls, {}, {}, REFERENCES[:1])


@pytest.mark.parametrize("shift", [1.5, -1.5])
def test_nothing_is_claimed_where_the_reference_tells_songs_from_controls(made, shift: float) -> None:
    store, controls, _, _ = made
    rng = np.random.default_rng(4)

    def likelihoods(ids: list[str], *levels: float) -> dict[str, Observed]:
        # What the audited model finds beyond the first reference is the same for all.
        found = rng.normal(levels, 1, (len(ids), len(levels)))
        return {
            song_id: Observed(of[0] + 0.1, tuple(of), 20, 0.1, 0.01) for song_id, of in zip(ids, found, strict=True)
        }

    alike = judge_membership(
        store, controls, likelihoods(store.song_ids, -4), likelihoods(controls.song_ids, -4), REFERENCES[:1]
    )
    assert len(alike.songs) == len(store.song_ids)
    with pytest.raises(UsageError, match=r"a reference finds .*% of the songs likelier than a control"):
        judge_membership(
            store, controls, likelihoods(store.song_ids, -4 + shift), likelihoods(controls.song_ids, -4), REFERENCES[:1]
        )
    # Of several references, one that tells them apart is enough, and is the one that is named.
    known = likelihoods(store.song_ids, -4, -4 + shift)
    with pytest.raises(UsageError, match=r"the reference model another finds .*% of the songs likelier"):
        judge_membership(store, controls, known, likelihoods(controls.song_ids, -4, -4), REFERENCES[:2])


def test_a_store_that_changed_is_refused_with_the_command_that_helps(made, tmp_path: Path) -> None:
    store, controls, worlds, evidence = made
    grown = {c: np.concatenate([store.vectors(c), worlds[c].music(1)]) for c in DIMS}
    changed = write_store(tmp_path / "changed", grown)
    write_calibration(calibrate_store(changed, controls), changed.path)
    assert current_membership(changed, "0" * 64) is None
    write_membership(evidence, changed.path)
    with pytest.raises(StoreError, match=r"run `lumina use .* --controls CONTROL_STORE --reference a ref"):
        build_index(changed, tmp_path / "index")


@pytest.fixture(scope="module")
def snapshots(made, tmp_path_factory: pytest.TempPathFactory):
    """The catalog's index without and with membership evidence."""
    store, _, _, evidence = made
    out = tmp_path_factory.mktemp("index")
    without = load_snapshot(build_index(store, out))
    write_membership(evidence, store.path)
    with_evidence = load_snapshot(build_index(store, out))
    (store.path / MEMBERSHIP_FILE).unlink()
    return without, with_evidence


def test_the_index_takes_it_in_row_by_row(made, snapshots, tmp_path: Path) -> None:
    _, _, _, evidence = made
    without, with_evidence = snapshots
    assert without.membership is None
    assert with_evidence.membership.songs["song_id"].to_pylist() == with_evidence.songs["song_id"].to_pylist()
    some = with_evidence.songs["song_id"].take([5, 90, 17])
    assert evidence.aligned(some).songs["song_id"].to_pylist() == some.to_pylist()
    # What is not in the manifest is not believed.
    folder = tmp_path / "v0001"
    folder.mkdir()
    for file in without.withdrawals._file.parent.joinpath(without.version).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    write_membership(evidence, folder)
    assert load_snapshot(folder).membership is None


def asked_for(made, weights: dict[int, float]):
    """A query that is partly some songs."""
    store, _, worlds, _ = made
    vectors = {}
    for c in DIMS:
        vectors[c] = worlds[c].music(1)[0]
        for row, weight in weights.items():
            vectors[c] = mixture(store.vectors(c)[row], vectors[c], weight)
    return query(vectors)


def test_a_report_says_what_its_shares_rest_on_and_keeps_them(made, snapshots) -> None:
    q = asked_for(made, {60: 0.6, 17: 0.6})
    likeness, both = (attribute(q, snapshot) for snapshot in snapshots)
    for c in DIMS:
        plain, judged = likeness.near_copies[c], both.near_copies[c]
        assert [x.share for x in plain.candidates] == [x.share for x in judged.candidates]
        assert "likeness alone: there is no reference model" in sentences.basis(likeness, plain)
        assert {x.membership for x in plain.candidates} == {None}
        qualified = [x for x in judged.candidates if x.qualified]
        numbers = {int(x.song.song_id[-4:]): x.membership.p_value <= 0.05 for x in qualified}
        assert {17, 60} <= set(numbers)
        assert numbers == {number: 10 <= number < 30 for number in numbers}
        n, found = len(numbers), sum(numbers.values())
        assert sentences.basis(both, judged) == (
            f"The shares rest on likeness and, for {found} of the {n} songs that qualify, on evidence that the model "
            f"was trained on {'it' if found == 1 else 'them'} (p ≤ 0.05 by 50 controls; {n * 2 / 51:.2g} expected by "
            "chance)."
        )
    assert likeness.basis.membership is None
    basis = both.basis.membership
    assert (basis.reference_weights_sha256, basis.n_controls) == ("e" * 64, 50)
    assert basis.file_sha256 == snapshots[1].record.files[MEMBERSHIP_FILE]
    assert "not that it made use of it for this query" in sentences.evidence(both)
    assert sentences.evidence(both).startswith(sentences.evidence(likeness))


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({17: 0.8}, "The shares rest on likeness and, for the one song that qualifies, on evidence that the model was"),
        ({60: 0.8}, "likeness alone: there is no evidence that the model was trained on the one song that qualifies"),
        ({60: 0.6, 70: 0.6}, "no evidence that the model was trained on any of the 2 songs that qualify (p > 0.05"),
        ({}, "No song was found to be a near copy, so there are no shares"),
    ],
)
def test_the_sentence_fits_the_songs(made, snapshots, weights: dict[int, float], sentence: str) -> None:
    q = asked_for(made, weights)
    if not weights:
        q = replace(q, channels={c: replace(v, vector=-v.vector) for c, v in q.channels.items()})
    report = attribute(q, snapshots[1])
    assert sentence in sentences.basis(report, report.near_copies["P"])
