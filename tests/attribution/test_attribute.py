import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from lumina_ray.attribution import POLICIES, Report, attribute, attribute_all, kernel_scores
from lumina_ray.attribution.candidates import driving_chunks
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.report import render_html, sentences, to_json
from tests.calibration.synthetic import DIMS, World, demo_stores, mixture, query, unit, write_store


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    store, controls, worlds = demo_stores(folder)
    write_calibration(calibrate_store(store, controls), store.path)
    return store, load_snapshot(build_index(store, folder / "index")), worlds


def derived(catalog, row: int = 17, weight: float = 0.6):
    """A query of four chunks of which the second and third are partly song `row`."""
    store, _, worlds = catalog
    chunks, whole = {}, {}
    for c in DIMS:
        chunks[c] = worlds[c].music(4)
        for i in (1, 2):
            chunks[c][i] = mixture(store.vectors(c)[row], chunks[c][i], weight)
        whole[c] = unit(chunks[c].mean(axis=0)).astype(np.float32)
    return query(whole, chunks)


def test_report_of_a_derived_query(catalog):
    store, snapshot, _ = catalog
    q = derived(catalog, weight=0.8)
    report = attribute(q, snapshot, candidates=130)
    assert report.policy.name == "calibrated"
    for c in ("P", "M"):
        channel = report.near_copies[c]
        assert (channel.searched, channel.retrieved, len(channel.candidates)) == (130, 130, 130)
        top = channel.candidates[0]
        assert top.song.song_id == "song-0017"
        assert top.qualified
        assert top.share > 0.1
        assert top.rank == 1
        assert set(top.driving_chunks) == {1, 2}
        expected = q.channels[c].chunk_vectors.astype(np.float64) @ store.vectors(c)[17].astype(np.float64)
        np.testing.assert_allclose(top.chunk_similarities, expected, atol=6e-7)
        assert top.similarity == pytest.approx(float(q.channels[c].vector @ store.vectors(c)[17]), abs=1e-6)
        assert top.z == pytest.approx((top.similarity - channel.noise.mean) / channel.noise.std)
        assert sum(x.share for x in channel.candidates) + channel.unattributed == pytest.approx(1, abs=1e-12)
        assert channel.attributed == pytest.approx(1 - channel.unattributed)
        assert [x.rank for x in channel.candidates] == list(range(1, 131))
        by_id = {x.song.song_id: x.kernel_score for x in channel.candidates}
        scores = kernel_scores(store.vectors(c), q.channels[c].vector)
        np.testing.assert_allclose([by_id[s] for s in store.song_ids], scores, atol=1e-9)


def test_a_catalog_of_one_channel(catalog, tmp_path):
    store, snapshot, _ = catalog
    spec = replace(store.specification, dims={"P": DIMS["P"]}, layers={"P": []})
    stores = []
    for name, n in (("catalog", 130), ("controls", 50)):
        vectors = {"P": store.vectors("P")[:n] if name == "catalog" else World(np.random.default_rng(9), 96).music(n)}
        stores.append(write_store(tmp_path / name, vectors, prefix=name, spec=spec))
    write_calibration(calibrate_store(*stores), stores[0].path)
    alone = load_snapshot(build_index(stores[0], tmp_path / "index"))
    both = derived(catalog)
    q = query({"P": both.channels["P"].vector}, {"P": both.channels["P"].chunk_vectors}, spec_sha256=spec.sha256)
    report = attribute(q, alone)
    assert list(report.near_copies) == ["P"]
    assert report.near_copies["P"].candidates[0].song.song_id == "catalog-0017"
    assert Report.model_validate_json(to_json(report)) == report
    assert "master right" not in render_html(report)


def test_queries_together_get_the_reports_that_they_get_alone(catalog):
    store, snapshot, worlds = catalog
    queries = [derived(catalog, row, weight) for row, weight in ((17, 0.8), (3, 0.3), (17, 0.6))]
    queries.append(query({c: w.music(1)[0] for c, w in worlds.items()}))
    for options in ({}, {"policy": "v7", "top_k": 7}):
        assert attribute_all(queries, snapshot, **options) == [attribute(q, snapshot, **options) for q in queries]
    assert attribute_all([], snapshot) == []


def test_channels_in_threads_give_the_same_bytes(catalog, monkeypatch):
    _, snapshot, _ = catalog
    queries = [derived(catalog, row, 0.8) for row in (17, 3)]
    before = threading.active_count()
    texts = []
    for worth in (0, 1 << 62):
        monkeypatch.setattr(sys.modules[attribute.__module__], "_WORTH_A_THREAD", worth)
        texts.append([to_json(report) for report in attribute_all(queries, snapshot)])
    assert texts[0] == texts[1]
    assert threading.active_count() == before


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("candidates", [1, 20, 129, 500])
def test_the_best_are_listed_and_all_that_qualify_or_have_a_share(catalog, policy, candidates):
    _, snapshot, _ = catalog
    q = derived(catalog, weight=0.8)
    whole, some = (attribute(q, snapshot, policy, candidates=n) for n in (130, candidates))
    assert some.policy.candidates == candidates
    for c in DIMS:
        everything, listed = whole.near_copies[c], some.near_copies[c]
        assert len(everything.candidates) == 130
        wanted = [x for x in everything.candidates if x.rank <= candidates or x.qualified or x.share > 0]
        assert list(listed.candidates) == wanted
        assert listed.model_copy(update={"candidates": everything.candidates}) == everything
        assert sum(x.share for x in listed.candidates) + listed.unattributed == pytest.approx(1, abs=1e-12)


def test_channels_are_two_rights_and_never_merged(catalog):
    store, snapshot, worlds = catalog
    vectors = {"P": store.vectors("P")[3], "M": store.vectors("M")[90]}
    report = attribute(query(vectors), snapshot)
    assert report.near_copies["P"].candidates[0].song.song_id == "song-0003"
    assert report.near_copies["M"].candidates[0].song.song_id == "song-0090"
    assert (report.near_copies["P"].subject, report.near_copies["P"].right) == ("composition", "publishing")
    assert (report.near_copies["M"].subject, report.near_copies["M"].right) == ("production", "master")
    other = query(vectors | {"M": store.vectors("M")[5]})
    for policy in ("v8", "v7"):
        of_both = [attribute(q, snapshot, policy, candidates=130).near_copies["P"] for q in (query(vectors), other)]
        shares = [{c.song.song_id: c.share for c in channel.candidates} for channel in of_both]
        assert shares[0] == shares[1]
    # `calibrated` asks once, of both channels, what stands out; each channel shares that out by its own likeness.
    mine = {c.song.song_id: c for c in report.near_copies["P"].candidates}
    others = {c.song.song_id: c for c in attribute(other, snapshot).near_copies["P"].candidates}
    assert mine["song-0003"].similarity == others["song-0003"].similarity
    assert mine["song-0003"].standard_score != others["song-0003"].standard_score


def test_an_unrelated_query_is_left_unattributed_and_says_so(catalog):
    _, snapshot, worlds = catalog
    report = attribute(query({c: w.music(1)[0] for c, w in worlds.items()}), snapshot)
    for channel in report.near_copies.values():
        if channel.qualified == 0:
            assert channel.unattributed == 1
            assert "No near copy of a catalog song found" in sentences.verdict(report, channel)
            assert "othing is attributed" not in sentences.verdict(report, channel)
    assert any(channel.qualified == 0 for channel in report.near_copies.values())


def test_published_policies_carry_a_warning_with_their_error_rate(catalog):
    _, snapshot, worlds = catalog
    q = query({c: w.music(1)[0] for c, w in worlds.items()})
    for policy in ("v8", "v7"):
        report = attribute(q, snapshot, policy)
        first = sentences.warnings(report, report.near_copies["P"])[0]
        assert "published, not proven, and not corrected for the 130 songs searched" in first
    assert attribute(q, snapshot, "v8").near_copies["P"].noise.expected_false_positives > 10
    assert attribute(q, snapshot, "v7").near_copies["P"].candidates[0].confidence is not None
    assert attribute(q, snapshot).near_copies["P"].candidates[0].confidence is None


def test_a_query_unlike_all_controls_is_warned_about(catalog):
    _, snapshot, worlds = catalog
    q = query({c: w.music(1, common=4.0)[0] for c, w in worlds.items()})
    report = attribute(q, snapshot)
    told = sentences.warnings(report, report.near_copies["P"])
    assert any("resembles the catalog more than the controls" in warning for warning in told)


def test_more_songs_than_intervals_can_be_worked_out_for_have_none_and_that_is_said(catalog, monkeypatch):
    _, snapshot, _ = catalog
    q = derived(catalog, weight=0.8)
    report = attribute(q, snapshot)
    with_intervals = report.near_copies["P"]
    assert with_intervals.qualified > 0
    assert with_intervals.candidates[0].share_high is not None
    monkeypatch.setattr("lumina_ray.attribution.intervals.MAX_SONGS", with_intervals.qualified - 1)
    without = attribute(q, snapshot).near_copies["P"]
    assert {(c.share_low, c.share_high) for c in without.candidates} == {(None, None)}
    assert [c.share for c in without.candidates] == [c.share for c in with_intervals.candidates]
    told = set(sentences.warnings(report, without)) - set(sentences.warnings(report, with_intervals))
    assert [warning.startswith("The shares have no intervals: ") for warning in told] == [True]


def test_top_k(catalog):
    _, snapshot, _ = catalog
    report = attribute(derived(catalog), snapshot, top_k=5)
    channel = report.near_copies["P"]
    assert channel.retrieved == 5
    assert "Only the 5 most similar of 130 songs were judged" in sentences.warnings(report, channel)[-1]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_equal_input_gives_equal_bytes(catalog, policy):
    store, snapshot, _ = catalog
    q = derived(catalog)
    text = to_json(attribute(q, snapshot, policy))
    assert to_json(attribute(q, snapshot, policy)) == text
    assert Report.model_validate_json(text) == attribute(q, snapshot, policy)
    assert str(store.path) not in text


@pytest.mark.parametrize("n_songs", [1, 2, 3])
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_the_smallest_catalogs(tmp_path, n_songs, policy):
    store, controls, _ = demo_stores(tmp_path, n=n_songs, c=20)
    write_calibration(calibrate_store(store, controls), store.path)
    snapshot = load_snapshot(build_index(store, tmp_path / "index"))
    own = {c: store.vectors(c)[0] for c in DIMS}
    channel = attribute(query(own), snapshot, policy).near_copies["P"]
    assert channel.candidates[0].song.song_id == "song-0000"
    assert channel.candidates[0].share > 0.98
    opposite = attribute(query({c: -v for c, v in own.items()}), snapshot, policy).near_copies["P"]
    assert opposite.unattributed == 1


def test_numbers_do_not_depend_on_threads(catalog):
    """Ray starts its workers with other thread settings than a shell has."""
    _, snapshot, _ = catalog
    attribute(derived(catalog), snapshot)
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}


def test_the_basis_is_complete(catalog):
    _, snapshot, _ = catalog
    basis = attribute(derived(catalog), snapshot).basis
    assert basis.index_version == "v0001"
    assert basis.index_key == snapshot.key
    assert basis.calibration_sha256 == snapshot.calibration.sha256
    assert basis.specification["kind"] == "influence"
    assert {"numpy", "scipy", "lumina_ray"} <= set(basis.software)
    assert basis.environment == {"torch": "2.11.0", "device": "x86_64"}


def test_other_specification(catalog):
    store, snapshot, _ = catalog
    q = query({c: store.vectors(c)[0] for c in DIMS}, spec_sha256="f" * 64)
    with pytest.raises(SpecificationMismatch, match=f"{'f' * 64}.*{snapshot.specification_sha256}"):
        attribute(q, snapshot)


def test_bad_arguments(catalog):
    store, snapshot, _ = catalog
    q = query({c: store.vectors(c)[0] for c in DIMS})
    with pytest.raises(UsageError, match="policy must be one of calibrated, v8, v7, got 'v9'"):
        attribute(q, snapshot, "v9")
    with pytest.raises(UsageError, match="top_k must be at least 1, got 0"):
        attribute(q, snapshot, top_k=0)
    with pytest.raises(UsageError, match="candidates must be at least 1, got 0"):
        attribute(q, snapshot, candidates=0)
    with pytest.raises(StoreError, match="query, channel M: row 0 is not a finite unit vector"):
        attribute(query({"P": store.vectors("P")[0], "M": np.zeros(64, np.float32)}), snapshot)


def test_driving_chunks():
    of_songs = np.array([[0.1, 0.9, 0.2, -0.5], [0.4, 0.4, 0.4, 0.4], [-0.4, 0.0, -1.0, 0.0]])
    assert driving_chunks(of_songs, np.full(4, 0.25)) == [(1,), (0, 1), ()]
    assert driving_chunks(np.array([[0.5, 0.5, 0.5]]), np.array([0.2, 0.2, 0.6])) == [(2,)]
