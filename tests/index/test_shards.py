"""A catalog that is searched in parts answers as it does in one piece."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.attribution import POLICIES, attribute
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.calibration.membership import write_membership
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.index import IndexConfig, Shard, Snapshot, build_index, load_snapshot
from lumina_ray.index.shards import Selected, select, together
from lumina_ray.index.withdrawn import WITHDRAWN_FILE
from lumina_ray.report import to_json
from lumina_ray.store import Store
from lumina_ray.vocabulary import QueryFingerprint
from tests.calibration.synthetic import DIMS, World, membership_evidence, mixture, query, unit, write_store

N = 301
NOTHING = Shard(0, 0, 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """A catalog in which some songs are there three times, so that equal scores meet across parts."""
    folder = tmp_path_factory.mktemp("stores")
    worlds = {c: World(np.random.default_rng(i), d) for i, (c, d) in enumerate(DIMS.items())}
    vectors = {c: w.music(N) for c, w in worlds.items()}
    for of_channel in vectors.values():
        of_channel[100:130] = of_channel[200:230] = of_channel[:30]
    catalog = write_store(folder / "catalog", vectors)
    controls = write_store(folder / "controls", {c: w.music(40) for c, w in worlds.items()}, prefix="control")
    write_calibration(calibrate_store(catalog, controls), catalog.path)
    write_membership(membership_evidence(catalog, controls, [17, 117]), catalog.path)
    return catalog


@pytest.fixture(scope="module")
def index(store, tmp_path_factory) -> Path:
    return build_index(store, tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def asked(store) -> QueryFingerprint:
    """Two of four chunks are partly song 17, which is there three times."""
    chunks = {c: World(np.random.default_rng(7), d).music(4) for c, d in DIMS.items()}
    for c in DIMS:
        chunks[c][1:3] = mixture(store.vectors(c)[17], chunks[c][1:3], 0.85)
    return query({c: unit(chunks[c].mean(axis=0)).astype(np.float32) for c in DIMS}, chunks)


def selected(parts: list[Snapshot], asked: QueryFingerprint, k: int) -> list[Selected]:
    vectors = {c: of_channel.vector for c, of_channel in asked.channels.items()}
    return [select(part, vectors, k) for part in parts]


@pytest.mark.parametrize("of", [1, 2, 7])
def test_parts_hold_every_song_once(index, of):
    whole = load_snapshot(index)
    parts = [load_snapshot(index, Shard(i, i + 1, of)) for i in range(of)]
    assert [song for part in parts for song in part.songs.to_pylist()] == whole.songs.to_pylist()
    for c in DIMS:
        joined = np.concatenate([part.vectors(c, np.arange(len(part))) for part in parts])
        np.testing.assert_array_equal(joined, whole.vectors(c, np.arange(N)))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("of", "k"), [(1, 20), (2, 1), (3, 256), (7, 20)])
def test_the_report_is_byte_for_byte_that_of_one_piece(index, asked, policy, of, k):
    parts = [load_snapshot(index, Shard(i, i + 1, of)) for i in range(of)]
    merged = together(load_snapshot(index, NOTHING), selected(parts, asked, k))
    assert to_json(attribute(asked, merged, policy, k)) == to_json(attribute(asked, load_snapshot(index), policy, k))


def test_a_query_of_one_channel(index, asked):
    alone = query({"P": asked.channels["P"].vector})
    parts = [load_snapshot(index, Shard(i, i + 1, 3)) for i in range(3)]
    merged = together(load_snapshot(index, NOTHING), selected(parts, alone, 9))
    assert to_json(attribute(alone, merged, top_k=9)) == to_json(attribute(alone, load_snapshot(index), top_k=9))


def test_withdrawn_songs_are_left_out_of_every_part(store, asked, tmp_path):
    index = build_index(store, tmp_path)
    codes = store.songs["codes_sha256"].to_pylist()
    gone = [17, 117, 118, 300]
    text = json.dumps({"songs": [(store.song_ids[row], codes[row], 2) for row in gone]})
    (tmp_path / WITHDRAWN_FILE).write_text(text)
    whole, *parts = (load_snapshot(index, shard) for shard in (None, Shard(0, 1, 2), Shard(1, 2, 2)))
    for snapshot in (whole, *parts):
        snapshot.withdrawals._generation = 1  # of a living catalog
    merged = together(load_snapshot(index, NOTHING), selected(parts, asked, 30))
    report = attribute(asked, merged, top_k=30)
    assert to_json(report) == to_json(attribute(asked, whole, top_k=30))
    for channel in report.near_copies.values():
        assert channel.searched == N - len(gone)
        assert not {store.song_ids[row] for row in gone} & {c.song.song_id for c in channel.candidates}


def test_parts_of_an_approximate_index_find_at_least_what_it_finds_as_a_whole(store, asked, tmp_path):
    index = build_index(store, tmp_path, IndexConfig("IVF8,SQ8", memory_bytes=2 * 22_000, recall=0.9))
    whole = load_snapshot(index)
    files = {c: len(facts.shards) for c, facts in whole.record.indexes.items()}
    assert files == {"P": 2, "M": 2}
    parts = [load_snapshot(index, Shard(i, i + 1, 2)) for i in range(2)]
    merged = together(load_snapshot(index, NOTHING), selected(parts, asked, 40))
    for c, of_channel in asked.channels.items():
        found, _ = merged.search(c, of_channel.vector[None], 40)
        as_a_whole, _ = whole.search(c, of_channel.vector[None], 40)
        assert (found >= as_a_whole).all()
    with pytest.raises(UsageError, match="cannot be spread evenly"):
        load_snapshot(index, Shard(0, 1, 3))


def test_more_parts_than_songs_are_refused(index):
    for shard in (Shard(0, 0, N + 1), Shard(0, 1, N + 1)):
        with pytest.raises(UsageError, match=f"{N} songs cannot be spread over {N + 1} shards: take fewer"):
            load_snapshot(index, shard)
    assert [len(load_snapshot(index, Shard(i, i + 1, N))) for i in (0, N - 1)] == [1, 1]


def test_what_holds_no_songs_reads_no_vectors(index, tmp_path):
    copy = Path(shutil.copytree(index, tmp_path / "v0001"))
    (copy / "P.faiss").write_bytes(b"damaged")
    assert len(load_snapshot(copy, NOTHING)) == 0
    with pytest.raises(StoreError, match=r"P\.faiss"):
        load_snapshot(copy, Shard(0, 1, 2))
