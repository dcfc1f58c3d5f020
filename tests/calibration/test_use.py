"""Evidence of use: p-values against counting, the file beside a store, and what index and report make of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.attribution import attribute
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.calibration.use import (
    USE_FILE,
    UseBasis,
    current_use,
    judge_use,
    read_use,
    use_p_values,
    write_use,
)
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.index import build_index, load_snapshot
from tests.calibration.synthetic import DIMS, demo_stores, evidence_of_use, mixture, query, specification, write_store

REFERENCE = ("a reference", "e" * 64)
HASHES = ("weights_sha256", "reference", "reference_weights_sha256", "catalog_sha256", "controls_sha256")


def test_p_values_are_counts_over_controls() -> None:
    rng = np.random.default_rng(0)
    controls, songs = rng.integers(0, 8, 30) / 4, rng.integers(-1, 9, 50) / 4
    expected = [(1 + sum(c >= s for c in controls)) / 31 for s in songs]
    np.testing.assert_array_equal(use_p_values(songs, controls), expected)


@pytest.mark.parametrize("n_controls", [20, 39, 52])
def test_of_songs_like_controls_as_many_are_found_as_chance_says(n_controls: int) -> None:
    rng, n = np.random.default_rng(1), 4000
    found = sum(use_p_values(rng.gumbel(size=1), rng.gumbel(size=n_controls)).item() <= 0.05 for _ in range(n)) / n
    chance = UseBasis(**dict.fromkeys(HASHES, ""), control_excess=(0.0,) * n_controls).chance
    assert 0.02 < chance <= 0.05
    assert abs(found - chance) < 4 * np.sqrt(chance / n)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A catalog of which the model learned songs 10 to 29, its controls, and the evidence."""
    store, controls, worlds = demo_stores(tmp_path_factory.mktemp("stores"))
    write_calibration(calibrate_store(store, controls), store.path)
    return store, controls, worlds, evidence_of_use(store, controls, range(10, 30))


def test_the_file_holds_what_was_found(made, tmp_path: Path) -> None:
    store, controls, _, use = made
    assert use.songs["song_id"].to_pylist() == store.song_ids
    columns = {name: use.songs[name].to_numpy() for name in ("audited", "reference", "excess", "p_value")}
    np.testing.assert_array_equal(columns["excess"], columns["audited"] - columns["reference"])
    expected = use_p_values(columns["excess"], np.array(use.basis.control_excess))
    np.testing.assert_array_equal(columns["p_value"], expected)
    assert set(np.flatnonzero(columns["p_value"] == 1 / 51)) == set(range(10, 30))
    assert list(use.basis.control_excess) == sorted(use.basis.control_excess, reverse=True)
    write_use(use, tmp_path)
    read = read_use(tmp_path)
    assert (read.basis, read.songs.to_pylist()) == (use.basis, use.songs.to_pylist())
    assert read_use(tmp_path / "nowhere") is None
    (tmp_path / USE_FILE).write_bytes(b"PAR1 no more")
    with pytest.raises(StoreError, match="run `lumina use` again"):
        read_use(tmp_path)


def test_a_control_twice_is_one_and_too_few_are_refused(made, tmp_path: Path) -> None:
    store, controls, worlds, _ = made
    vectors = {c: controls.vectors(c)[:22] for c in DIMS}
    codes = [f"control{i // 2}" if i < 4 else f"control{i}" for i in range(22)]
    doubled = write_store(tmp_path / "doubled", vectors, prefix="c", codes_sha256=codes)
    assert evidence_of_use(store, doubled, ()).basis.n_controls == 20
    few = write_store(tmp_path / "few", {c: v[:21] for c, v in vectors.items()}, prefix="c", codes_sha256=codes[:21])
    with pytest.raises(UsageError, match="19 distinct controls; evidence of use needs at least 20"):
        evidence_of_use(store, few, ())


def test_controls_of_another_kind_or_from_the_catalog_are_refused(made, tmp_path: Path) -> None:
    store, controls, _, _ = made
    with pytest.raises(StoreError, match="are catalog songs"):
        evidence_of_use(store, store, ())
    vectors = {c: controls.vectors(c) for c in DIMS}
    other = write_store(tmp_path / "other", vectors, prefix="control", spec=specification("f" * 64))
    with pytest.raises(SpecificationMismatch, match="fingerprint both with the same model"):
        evidence_of_use(store, other, ())
    with pytest.raises(StoreError, match="changed while it was read"):
        judge_use(store, controls, {}, {}, REFERENCE)


def test_a_store_that_changed_is_refused_with_the_command_that_helps(made, tmp_path: Path) -> None:
    store, controls, worlds, use = made
    grown = {c: np.concatenate([store.vectors(c), worlds[c].music(1)]) for c in DIMS}
    changed = write_store(tmp_path / "changed", grown)
    write_calibration(calibrate_store(changed, controls), changed.path)
    assert current_use(changed, "0" * 64) is None
    write_use(use, changed.path)
    with pytest.raises(StoreError, match=r"run `lumina use .* --controls CONTROL_STORE --reference a ref"):
        build_index(changed, tmp_path / "index")


@pytest.fixture(scope="module")
def snapshots(made, tmp_path_factory: pytest.TempPathFactory):
    """The catalog's index without and with evidence of use."""
    store, _, _, use = made
    out = tmp_path_factory.mktemp("index")
    without = load_snapshot(build_index(store, out))
    write_use(use, store.path)
    with_use = load_snapshot(build_index(store, out))
    (store.path / USE_FILE).unlink()
    return without, with_use


def test_the_index_takes_it_in_row_by_row(made, snapshots, tmp_path: Path) -> None:
    _, _, _, use = made
    without, with_use = snapshots
    assert without.use is None
    assert with_use.use.songs["song_id"].to_pylist() == with_use.songs["song_id"].to_pylist()
    some = with_use.songs["song_id"].take([5, 90, 17])
    assert use.aligned(some).songs["song_id"].to_pylist() == some.to_pylist()
    # What is not in the manifest is not believed.
    folder = tmp_path / "v0001"
    folder.mkdir()
    for file in without.withdrawals._file.parent.joinpath(without.version).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    write_use(use, folder)
    assert load_snapshot(folder).use is None


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
        plain, judged = likeness.channels[c], both.channels[c]
        assert [x.share for x in plain.candidates] == [x.share for x in judged.candidates]
        assert "likeness alone: there is no reference model" in plain.basis
        assert {x.use for x in plain.candidates} == {None}
        qualified = [x for x in judged.candidates if x.qualified]
        numbers = {int(x.song.song_id[-4:]): x.use.p_value <= 0.05 for x in qualified}
        assert {17, 60} <= set(numbers)
        assert numbers == {number: 10 <= number < 30 for number in numbers}
        n, found = len(numbers), sum(numbers.values())
        assert judged.basis == (
            f"The shares rest on likeness and, for {found} of the {n} songs that qualify, on evidence that the model "
            f"was trained on {'it' if found == 1 else 'them'} (p ≤ 0.05 by 50 controls; {n * 2 / 51:.2g} expected by "
            "chance)."
        )
    assert likeness.provenance.use is None
    provenance = both.provenance.use
    assert (provenance.reference_weights_sha256, provenance.n_controls) == ("e" * 64, 50)
    assert provenance.file_sha256 == snapshots[1].manifest["files"][USE_FILE]
    assert "not that it made use of it for this query" in both.evidence
    assert both.evidence.startswith(likeness.evidence)


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ({17: 0.8}, "The shares rest on likeness and, for the one song that qualifies, on evidence that the model was"),
        ({60: 0.8}, "likeness alone: there is no evidence that the model was trained on the one song that qualifies"),
        ({60: 0.6, 70: 0.6}, "no evidence that the model was trained on any of the 2 songs that qualify (p > 0.05"),
        ({}, "No song qualifies: there are no shares"),
    ],
)
def test_the_sentence_fits_the_songs(made, snapshots, weights: dict[int, float], sentence: str) -> None:
    q = asked_for(made, weights)
    if not weights:
        q = replace(q, channels={c: replace(v, vector=-v.vector) for c, v in q.channels.items()})
    assert sentence in attribute(q, snapshots[1]).channels["P"].basis
