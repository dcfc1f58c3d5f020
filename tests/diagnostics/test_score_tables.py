"""Tables of scores: what `lumina scores` writes comes back as a matrix, and anything else is refused by name."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lumina_ray.diagnostics.score_tables import read_scores
from lumina_ray.errors import UsageError
from lumina_ray.methods.table import METHOD_KEY
from lumina_ray.methods.table import score_table as scores_of_stores
from tests.diagnostics.synthetic import QUERIES, SONGS, clustered_scores, score_table, write
from tests.methods.test_table import store

SCORES_NQ = clustered_scores()


def test_a_table_comes_back_as_a_matrix_in_any_order(tmp_path: Path) -> None:
    table = score_table(SCORES_NQ)
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    for one in (table, shuffled):
        p, m = read_scores(write(one, tmp_path / "scores.parquet"))
        assert (p.channel, m.channel, p.method) == ("P", "M", "influence")
        assert (p.query_ids, p.song_ids) == (QUERIES, SONGS)
        assert p.song_R.tolist() == list(range(60))
        np.testing.assert_array_equal(p.scores_RQ, SCORES_NQ)


def test_what_lumina_scores_makes_is_read(tmp_path: Path) -> None:
    catalog, queries = store(tmp_path / "catalog", 12, 0, "song"), store(tmp_path / "queries", 3, 1, "query")
    file = write(scores_of_stores("influence", [catalog], [queries], top=99), tmp_path / "all.parquet")
    for matrix in read_scores(file):
        c = matrix.channel
        expected = catalog.vectors(c).astype(float) @ queries.vectors(c).astype(float).T  # type: ignore[arg-type]
        order, of_queries = np.argsort(catalog.song_ids), np.argsort(queries.song_ids)
        np.testing.assert_allclose(matrix.scores_RQ, expected[order][:, of_queries], atol=1e-6)
    short = write(scores_of_stores("influence", [catalog], [queries], top=5), tmp_path / "top.parquet")
    with pytest.raises(UsageError, match=r"scores for 5 of 12 songs .* run `lumina scores` with --top 12"):
        read_scores(short)


def test_the_best_songs_alone_are_no_catalog_even_if_all_queries_have_the_same(tmp_path: Path) -> None:
    """So they do in a collapsed matrix, which must not pass for a small catalog."""
    table = score_table(np.outer(np.arange(5.0), np.ones(4)))
    table = table.replace_schema_metadata(table.schema.metadata | {b"lumina.songs": b"60"})
    with pytest.raises(UsageError, match="scores for 5 of 60 songs"):
        read_scores(write(table, tmp_path / "scores.parquet"))


def test_segments_are_rows_of_their_song(tmp_path: Path) -> None:
    table = pa.table({
        "query_id": ["q", "q", "q", "r", "r", "r"],
        "song_id": ["b", "a", "b", "a", "b", "b"],
        "segment": [1, 0, 0, 0, 0, 1],
        "score": [1.0, 2, 3, 4, 5, 6],
    })  # fmt: skip
    (matrix,) = read_scores(write(table, tmp_path / "scores.parquet"))
    assert (matrix.channel, matrix.method) == ("", "")
    assert matrix.song_R.tolist() == [0, 1, 1]
    assert matrix.scores_RQ.tolist() == [[2, 4], [3, 5], [1, 6]]


def test_a_new_song_and_query_in_every_row_takes_no_memory(tmp_path: Path) -> None:
    ids = [str(i) for i in range(200_000)]
    table = pa.table({"query_id": ids, "song_id": ids, "score": [1.0] * len(ids)})
    with pytest.raises(UsageError, match="has scores for 1 of 200000 songs"):
        read_scores(write(table, tmp_path / "scores.parquet"))


def test_segments_need_numbers(tmp_path: Path) -> None:
    table = pa.table({"query_id": ["q", "r"], "song_id": ["a", "a"], "segment": [0, None], "score": [1.0, 2]})
    with pytest.raises(UsageError, match="a segment is missing"):
        read_scores(write(table, tmp_path / "scores.parquet"))


def change(table: pa.Table, name: str, row: int, value: object) -> pa.Table:
    values = table[name].to_pylist()
    values[row] = value
    return table.set_column(table.column_names.index(name), name, pa.array(values))


TABLE = score_table(SCORES_NQ[:4, :2], channels="P")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop_columns("score"), "lacks the column 'score'"),
        (
            change(TABLE, "score", 5, float("nan")),
            "channel P: the score of song 'song 001' for query 'query 01' is nan",
        ),
        (change(TABLE, "score", 0, None), "song 'song 000' for query 'query 00' is nan"),
        (change(TABLE, "song_id", 0, "song 001"), "song 'song 001' has 2 scores for query 'query 00'"),
        (change(TABLE, "song_id", 0, None), "song_id is missing in 1 rows"),
        (TABLE.slice(1), "query 'query 00' has scores for 3 of 4 songs"),
        (TABLE.slice(0, 0), "holds no scores"),
        (TABLE.set_column(4, "score", pa.array(["x"] * 8)), "score holds what is no number"),
        (TABLE.set_column(0, "query_id", pa.array([[1]] * 8)), "query_id is no text"),
    ],
)
def test_tables_that_are_no_whole_matrix_are_refused(table: pa.Table, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        read_scores(write(table, tmp_path / "scores.parquet"))
    assert "scores.parquet" in str(raised.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.parquet").write_bytes(b"PAR1 junk PAR1")
    for name in ("junk.parquet", "nothing.parquet", "."):
        with pytest.raises(UsageError, match="cannot be read as a Parquet table of scores"):
            read_scores(tmp_path / name)


def test_large_tables_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(TABLE, tmp_path / "scores.parquet")
    assert TABLE.schema.metadata[METHOD_KEY] == b"influence"
    monkeypatch.setattr("lumina_ray.diagnostics.score_tables.MAX_ROWS", 7)
    with pytest.raises(UsageError, match="8 scores, the limit is 7"):
        read_scores(file)
    monkeypatch.setattr("lumina_ray.diagnostics.score_tables.MAX_ROWS", 8)
    monkeypatch.setattr("lumina_ray.diagnostics.score_tables.MAX_BYTES", 10)
    with pytest.raises(UsageError, match="more than 10 bytes"):
        read_scores(file)
