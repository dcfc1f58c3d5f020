"""Tables and searches: similarities by brute force, p-values by simulation, files that are no tables."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from lumina_ray.errors import SpecificationMismatch, StoreError, UsageError
from lumina_ray.evidence import EVIDENCE, Evidence, EvidenceTable, find, noise_band, read_table, write_table
from lumina_ray.evidence import kept as module
from lumina_ray.evidence.search import song_similarities
from lumina_ray.evidence.vectors import DIMS


def draw(rng: np.random.Generator, n_songs: int, name: str, most: int = 5, speeds: int = 1) -> EvidenceTable:
    chunks = rng.integers(1, most + 1, n_songs)
    vectors: dict[Evidence, np.ndarray] = {}
    for evidence in EVIDENCE:
        rows = rng.normal(size=(chunks.sum(), speeds, DIMS[evidence]))
        vectors[evidence] = (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float32)
    return EvidenceTable(tuple(f"{name}-{i}" for i in range(n_songs)), tuple(chunks.tolist()), vectors)


@given(st.integers(0, 10_000))
def test_similarities_by_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    queries, catalog = draw(rng, 3, "q", speeds=3), draw(rng, 4, "s", speeds=2)
    found = song_similarities(queries, catalog, "sound")
    rows_q = np.split(queries.vectors["sound"], np.cumsum(queries.chunks)[:-1])
    rows_n = np.split(catalog.vectors["sound"], np.cumsum(catalog.chunks)[:-1])
    expected = [
        [max(np.mean([max(float(a[v] @ b[0]) for b in song) for a in query]) for v in range(3)) for song in rows_n]
        for query in rows_q
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_long_queries_are_taken_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    queries, catalog = draw(rng, 2, "q", most=9), draw(rng, 3, "s")
    whole = song_similarities(queries, catalog, "sound")
    monkeypatch.setattr("lumina_ray.evidence.search._BLOCK", 2)
    np.testing.assert_allclose(song_similarities(queries, catalog, "sound"), whole, atol=1e-12)


def test_p_values_of_unrelated_music_are_exact() -> None:
    """Over draws of everything, p ≤ 0.1 for one unrelated query in ten."""
    alarms = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        catalog, controls, query = draw(rng, 6, "s"), draw(rng, 29, "c", speeds=2), draw(rng, 1, "q", speeds=2)
        alarms += find(query, catalog, noise_band(catalog, controls, "sound"), "sound")[0].p_value <= 0.1
    assert binomtest(alarms, 400, 0.1).pvalue > 0.01


def test_what_is_in_the_catalog_is_found() -> None:
    rng = np.random.default_rng(1)
    catalog, controls = draw(rng, 10, "s"), draw(rng, 30, "c")
    first, n = int(catalog.firsts[7]), catalog.chunks[7]
    query = EvidenceTable(("q",), (n,), {name: rows[first : first + n] for name, rows in catalog.vectors.items()})
    for name in EVIDENCE:
        best, *others = find(query, catalog, noise_band(catalog, controls, name), name)
        assert best.song_id == "s-7"
        assert best.similarity == pytest.approx(1, abs=1e-5)
        assert best.p_value == pytest.approx(1 / 31)
        assert all(best.z > other.z for other in others)


def test_noise_needs_enough_controls_that_are_none_of_the_songs() -> None:
    rng = np.random.default_rng(2)
    catalog, controls = draw(rng, 5, "s"), draw(rng, 20, "c")
    with pytest.raises(UsageError, match="at least 20"):
        noise_band(catalog, draw(rng, 19, "c"), "sound")
    with pytest.raises(UsageError, match="'c-0'"):
        noise_band(draw(rng, 5, "c"), controls, "sound")
    with pytest.raises(UsageError, match="asks at 5 speeds"):
        find(draw(rng, 1, "q", speeds=5), catalog, noise_band(catalog, controls, "sound"), "sound")
    with pytest.raises(UsageError, match="one song"):
        noise_band(draw(rng, 1, "s"), controls, "sound")


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = draw(np.random.default_rng(3), 7, "s", speeds=4)
    write_table(table, tmp_path / "t.parquet")
    read = read_table(tmp_path / "t.parquet")
    assert (read.song_ids, read.chunks) == (table.song_ids, table.chunks)
    for name in EVIDENCE:
        np.testing.assert_array_equal(read.vectors[name], table.vectors[name])


def test_files_that_are_no_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = draw(np.random.default_rng(4), 3, "s")
    with pytest.raises(StoreError, match="lumina evidence build"):
        read_table(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(StoreError, match="damaged"):
        read_table(tmp_path / "text.parquet")
    pq.write_table(pa.table({"song_id": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(StoreError, match="no table of evidence"):
        read_table(tmp_path / "other.parquet")
    longer = EvidenceTable(table.song_ids, table.chunks, {name: 2 * rows for name, rows in table.vectors.items()})
    write_table(longer, tmp_path / "longer.parquet")
    with pytest.raises(StoreError, match="length 1"):
        read_table(tmp_path / "longer.parquet")
    write_table(table, tmp_path / "old.parquet")
    monkeypatch.setattr(module, "ALGORITHM_VERSION", 2)
    with pytest.raises(SpecificationMismatch, match="another version"):
        read_table(tmp_path / "old.parquet")


def test_songs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(UsageError, match=r"bad\.wav"):
        EvidenceTable.of_songs([("bad", tmp_path / "bad.wav")])
