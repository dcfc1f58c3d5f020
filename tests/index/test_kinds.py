"""Approximate indexes: the rule, what is found, what is left out, what is refused."""

import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.index import IndexConfig, Snapshot, build_index, channel, load_snapshot, pieces, recall
from lumina_ray.index.approximate import ApproximateIndex
from lumina_ray.index.channel import top_k
from lumina_ray.index.exact import exact_nearest
from lumina_ray.index.kinds import choose_kind
from lumina_ray.index.recall import disturbed_songs
from lumina_ray.index.withdrawn import WITHDRAWN_FILE
from lumina_ray.store import Store
from tests.calibration.synthetic import DIMS, World, write_store

N = 1200
GIB = 2**30
KINDS = [
    "IVF16,Flat",
    "IVF16,SQ8",
    "IVF16,SQfp16",
    "IVF16,PQ16",
    "OPQ16,IVF16,PQ16",
    "PCA48,IVF16,SQ8",
    "HNSW16",
    "HNSW16,SQ8",
    "SQ8",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("stores")
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    catalog = write_store(folder / "catalog", {c: w.music(N) for c, w in worlds.items()})
    controls = write_store(folder / "controls", {c: w.music(20) for c, w in worlds.items()}, prefix="control")
    write_calibration(calibrate_store(catalog, controls), catalog.path)
    return catalog


@pytest.fixture(scope="module")
def indexes(store, tmp_path_factory) -> dict[str, Path]:
    """An index of each kind, and of one in three shards that were merged from several pieces."""
    made: dict[str, Path] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_PIECE_BYTES", 4 * 96 * 170)
        for kind in ["Flat", *KINDS]:
            made[kind] = tmp_path_factory.mktemp("index")
            build_index(store, made[kind], IndexConfig(kind))
        made["sharded"] = tmp_path_factory.mktemp("index")
        build_index(store, made["sharded"], IndexConfig("IVF16,SQ8", memory_bytes=2 * 56_000))
    return made


@pytest.fixture(scope="module")
def snapshots(indexes) -> dict[str, Snapshot]:
    return {kind: load_snapshot(folder) for kind, folder in indexes.items()}


def queries(channel: str, n: int = 40) -> np.ndarray:
    return World(np.random.default_rng(9), DIMS[channel]).music(n)


def brute_force(store: Store, channel: str, query_QD: np.ndarray) -> np.ndarray:
    return query_QD.astype(np.float64) @ store.vectors(channel).T.astype(np.float64)


def share_found(found: np.ndarray, truth: np.ndarray) -> float:
    pairs = zip(found.tolist(), truth.tolist(), strict=True)
    return float(np.mean([len(set(rows) & set(true)) / len(true) for rows, true in pairs]))


@pytest.mark.parametrize(
    ("n", "d", "memory_gib", "kind"),
    [
        (130, 4096, 8, "Flat"),
        (4096, 4096, 8, "Flat"),
        (4097, 4096, 8, "IVF128,SQ8"),
        (65_537, 4096, 8, "IVF512,SQ8"),
        (65_537, 4096, 0.2, "IVF512,PQ1024"),
        (1_000_000, 4096, 4, "IVF2048,SQ8"),
        (77_672, 216, 4, "Flat"),
        (1_000_000, 216, 4, "IVF2048,SQ8"),
        (10_000_000, 216, 4, "IVF8192,SQ8"),
        (10_000_000, 216, 2, "IVF8192,PQ54"),
        (10_000_000, 7, 0.1, "IVF8192,PQ1"),
    ],
)
def test_the_rule(n, d, memory_gib, kind):
    assert choose_kind(n, d, memory_gib * GIB) == kind


@given(n=st.integers(1, 10**8), d=st.integers(1, 8192), memory_gib=st.floats(0.001, 1000), more=st.floats(1, 10))
def test_more_memory_never_makes_a_coarser_index(n, d, memory_gib, more):
    fineness = ["PQ", "SQ8", "Flat"]
    found = [choose_kind(n, d, m * GIB) for m in (memory_gib, memory_gib * more)]
    coarse, fine = (next(i for i, codes in enumerate(fineness) if codes in kind) for kind in found)
    assert coarse <= fine
    for kind in found:
        faiss.index_factory(d, kind.split(",")[-1] if "," in kind else kind, faiss.METRIC_INNER_PRODUCT)


def test_no_kind_that_is_asked_for_is_the_rule(store, tmp_path):
    build_index(store, tmp_path)
    assert load_snapshot(tmp_path).record.indexes["P"].kind == "Flat"


@pytest.mark.parametrize("kind", [*KINDS, "sharded"])
def test_recall_is_what_the_manifest_says(store, snapshots, kind):
    snapshot = snapshots[kind]
    for c in ("P", "M"):
        facts = snapshot.record.indexes[c]
        disturbed = disturbed_songs(store.vectors(c))
        truth = np.argsort(-brute_force(store, c, disturbed), axis=1, kind="stable")[:, :100]
        _, rows = snapshot.search(c, disturbed, 100)
        assert share_found(rows, truth) == pytest.approx(facts.recall_at_100, abs=1e-9)
        assert facts.recall_at_100 >= facts.recall_bound == 0.99
        assert facts.recall_queries == 200
        assert len(facts.shards) == len(snapshot.indexes[c].shards)


def test_recall_is_measured_at_songs_with_as_much_noise():
    songs = World(np.random.default_rng(0), 512).music(200)
    disturbed = disturbed_songs(songs)
    assert (disturbed.shape, disturbed.dtype) == ((200, 512), np.float32)
    np.testing.assert_allclose(np.linalg.norm(disturbed, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.einsum("nd,nd->n", songs, disturbed), 0.5**0.5, atol=0.12)


@pytest.mark.parametrize("kind", [*KINDS, "sharded"])
def test_scores_are_exact_in_order_and_as_many_as_asked_for(store, snapshots, kind):
    query = queries("P")
    exact = brute_force(store, "P", query)
    for k in (1, 10, 2 * N):
        scores, rows = snapshots[kind].search("P", query, k)
        assert scores.shape == rows.shape == (40, min(k, N))
        np.testing.assert_array_equal(scores, np.take_along_axis(exact, rows, axis=1).astype(np.float32))
        assert (np.diff(scores, axis=1) <= 0).all()
        assert all(len(set(of_query)) == len(of_query) for of_query in rows.tolist())
    # All of the catalog is all of the catalog, however coarse the index.
    np.testing.assert_array_equal(rows, np.argsort(-exact, axis=1, kind="stable"))


@pytest.mark.parametrize("kind", [*KINDS, "sharded"])
@pytest.mark.parametrize("batch", [1, 17])
def test_the_batch_does_not_change_an_answer(snapshots, kind, batch):
    query = queries("M", 64)
    scores, rows = snapshots[kind].search("M", query, 20)
    several = [snapshots[kind].search("M", query[i : i + batch], 20) for i in range(0, 64, batch)]
    np.testing.assert_array_equal(np.concatenate([s for s, _ in several]), scores)
    np.testing.assert_array_equal(np.concatenate([r for _, r in several]), rows)


@pytest.mark.parametrize("kind", ["IVF16,Flat", "IVF16,SQ8", "sharded"])
def test_with_every_list_probed_the_answer_is_that_of_the_exact_index(snapshots, kind):
    index = snapshots[kind].indexes["P"]
    everywhere = replace(index, effort=16, oversampling=8)
    snapshot = replace(snapshots[kind], indexes={"P": everywhere})
    exact = snapshots["Flat"].search("P", queries("P"), 50)
    for found, expected in zip(snapshot.search("P", queries("P"), 50), exact, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_candidates_are_the_same_however_many_are_scored_at_once(snapshots, monkeypatch, size):
    snapshot, asked = snapshots["IVF16,PQ16"], queries("P")
    expected = list(snapshot.nearest("P", asked, 20))
    monkeypatch.setattr(channel, "_SCORED_AT_ONCE", size)
    for found, other in zip(snapshot.nearest("P", asked, 20), expected, strict=True):
        np.testing.assert_array_equal(found.rows, other.rows)
        np.testing.assert_array_equal(found.similarity, other.similarity)
        np.testing.assert_array_equal(found.vectors, other.vectors)


def test_memory_is_that_of_what_is_asked_for_and_not_of_all_candidates(tmp_path):
    n, d, k = 20_000, 256, 100
    vectors = World(np.random.default_rng(0), d).music(n)
    np.save(tmp_path / "P.npy", vectors)
    flat = faiss.IndexFlatIP(d)
    flat.add(vectors)
    index = ApproximateIndex((flat,), np.load(tmp_path / "P.npy", mmap_mode="r"), effort=0, oversampling=n // k)
    tracemalloc.start()
    found = channel.nearest(index, vectors[:2], k, np.empty(0, np.int64))
    next(found)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 4 * k * d * 8
    assert peak < n * d * 4


@pytest.mark.parametrize("kind", [*KINDS, "sharded"])
def test_withdrawn_songs_are_never_found(store, indexes, kind, tmp_path):
    query = queries("P")
    exact = brute_force(store, "P", query)
    gone = np.unique(np.argsort(-exact, axis=1)[:, :5])
    codes = store.songs["codes_sha256"].to_pylist()
    (indexes[kind] / WITHDRAWN_FILE).write_text(
        json.dumps({"songs": [(store.song_ids[row], codes[row], 2) for row in gone.tolist()]})
    )
    snapshot = load_snapshot(indexes[kind])
    snapshot.withdrawals._generation = 1  # of a living catalog
    assert snapshot.withdrawals.rows().tolist() == gone.tolist()
    exact[:, gone] = -np.inf
    truth = np.argsort(-exact, axis=1, kind="stable")
    for k in (10, N):
        _, rows = snapshot.search("P", query, k)
        assert rows.shape == (40, min(k, N - len(gone)))
        assert not np.isin(rows, gone).any()
        assert share_found(rows, truth[:, : rows.shape[1]]) >= 0.97


@pytest.mark.parametrize("kind", ["Flat", "IVF16,SQ8"])
def test_where_all_songs_are_withdrawn_nothing_is_found(snapshots, kind):
    scores, rows = top_k(snapshots[kind].indexes["P"], queries("P"), 0, np.arange(N))
    assert scores.shape == rows.shape == (40, 0)


def test_pieces_that_were_merged_are_the_index_that_was_built_at_once(store, indexes, tmp_path):
    at_once = load_snapshot(build_index(store, tmp_path, IndexConfig("IVF16,PQ16")))
    merged = load_snapshot(indexes["IVF16,PQ16"])
    for c in ("P", "M"):
        for found, same in zip(merged.search(c, queries(c), 30), at_once.search(c, queries(c), 30), strict=True):
            np.testing.assert_array_equal(found, same)
        assert merged.indexes[c].shards[0].ntotal == N


def test_a_shard_takes_no_more_than_a_host_has(snapshots):
    facts = snapshots["sharded"].record.indexes["P"]
    assert len(facts.shards) >= 3
    assert facts.memory_bytes / len(facts.shards) <= 56_000


def test_nothing_is_left_of_the_building(indexes):
    assert {path.name for path in (indexes["IVF16,SQ8"] / "v0001").iterdir()} == {
        "P-0.faiss", "P.npy", "M-0.faiss", "M.npy", "ids.parquet", "equal_songs.parquet", "centres.npz",
        "calibration.json", "manifest.json",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["P-0.faiss", "M.npy"])
def test_a_flipped_bit_is_found(store, tmp_path, name):
    file = build_index(store, tmp_path, IndexConfig("IVF4,SQ8")) / name
    with file.open("r+b") as opened:
        opened.seek(-5, os.SEEK_END)
        byte = opened.read(1)[0]
        opened.seek(-5, os.SEEK_END)
        opened.write(bytes([byte ^ 1]))
    with pytest.raises(StoreError, match=rf"{name} is missing or damaged"):
        load_snapshot(tmp_path)


def test_an_index_that_finds_too_little_is_refused(store, tmp_path, monkeypatch):
    # With the usual 32, all of so small a catalog would be candidates.
    monkeypatch.setattr(recall, "_OVERSAMPLING", (1, 2))
    out = tmp_path / "index"
    with pytest.raises(
        StoreError, match=r"channel P: .*'IVF16,PQ1x1' finds 0\.\d+ of the 100 .* 0\.999 .* nprobe = 16 .* --kind"
    ):
        build_index(store, out, IndexConfig("IVF16,PQ1x1", recall=0.999))
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("kind", ["IVF16,PQ7", "nonsense", "IVF5000,SQ8"])
def test_kinds_that_cannot_be_made_are_refused(store, tmp_path, kind):
    with pytest.raises(UsageError, match=kind):
        build_index(store, tmp_path / "index", IndexConfig(kind))


def test_a_kind_that_finds_withdrawn_songs_is_refused(store, tmp_path):
    with pytest.raises(StoreError, match="cannot leave out withdrawn songs"):
        build_index(store, tmp_path / "index", IndexConfig("IVF16,Flat,RFlat"))


def test_memory_that_holds_no_shard_is_refused(store, tmp_path):
    with pytest.raises(StoreError, match="--memory-gib"):
        build_index(store, tmp_path / "index", IndexConfig("IVF16,SQ8", memory_bytes=1000))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 300),
    k=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
    n_shards=st.integers(1, 4),
    share_gone=st.floats(0, 0.9),
)
def test_any_split_with_anything_withdrawn_is_brute_force(n, k, seed, n_shards, share_gone):
    rng = np.random.default_rng(seed)
    vectors = World(rng, 12).music(n)
    query = World(rng, 12).music(3)
    gone = np.flatnonzero(rng.random(n) < share_gone)[: n - 1].astype(np.int64)
    k = min(k, n - len(gone))
    scores = query.astype(np.float64) @ vectors.T.astype(np.float64)
    scores[:, gone] = -np.inf
    truth = np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :k], axis=1)
    np.testing.assert_array_equal(np.sort(exact_nearest(vectors, query, k, gone), axis=1), truth)
    shards = []
    for piece in np.array_split(vectors, min(n_shards, n)):
        shard = faiss.index_factory(12, "IVF1,Flat", faiss.METRIC_INNER_PRODUCT)
        shard.train(vectors)
        shard.add(piece)
        shards.append(shard)
    index = ApproximateIndex(tuple(shards), vectors, effort=1, oversampling=1)
    np.testing.assert_array_equal(np.sort(index.nearest(query, k, gone), axis=1), truth)
