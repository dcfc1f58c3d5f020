"""Tables of features: by names of columns, in the order of the scores, and refused by name."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lumina_ray.catalog.tables import write_csv
from lumina_ray.diagnostics.feature_tables import read_features, read_genres
from lumina_ray.diagnostics.features import RootsFeature, VectorFeature
from lumina_ray.errors import LuminaError, UsageError
from tests.diagnostics.synthetic import SONGS, feature_table, write

TABLE = feature_table()


def test_columns_become_features(tmp_path: Path) -> None:
    wanted = SONGS[::-1][:40]
    table = read_features(write(TABLE, tmp_path / "features.parquet"), wanted)
    assert {aspect: [one.name for one in of] for aspect, of in table.aspects.items()} == {
        "timbre": ["mfcc"],
        "rhythm": ["onsets", "density"],
        "harmony": ["chords"],
    }
    rows = {row["song_id"]: row for row in TABLE.to_pylist()}
    mfcc, onsets, density, chords = table.features
    assert isinstance(mfcc, VectorFeature)
    assert isinstance(onsets, VectorFeature)
    assert isinstance(density, VectorFeature)
    assert isinstance(chords, RootsFeature)
    for i, song in enumerate(wanted):
        assert mfcc.values_ND[i].tolist() == [rows[song][f"timbre.mfcc.{d}"] for d in range(3)]
        assert onsets.values_ND[i].tolist() == rows[song]["rhythm.onsets"]
        assert density.values_ND[i, 0] == rows[song]["rhythm.density"]
        assert list(chords.roots[i]) == rows[song]["harmony.chords.roots"]
    assert len(table.notes) == 2
    assert table.notes[0].startswith("20 songs of ")
    assert table.notes[1].endswith("left out: title.")


def test_csv_is_the_same(tmp_path: Path) -> None:
    plain = TABLE.drop_columns("rhythm.onsets")
    roots = [" ".join(map(str, one)) for one in plain["harmony.chords.roots"].to_pylist()]
    text = plain.set_column(plain.column_names.index("harmony.chords.roots"), "harmony.chords.roots", pa.array(roots))
    write_csv(text, tmp_path / "features.csv")
    of_csv = read_features(tmp_path / "features.csv", SONGS)
    of_parquet = read_features(write(plain, tmp_path / "features.parquet"), SONGS)
    for one, other in zip(of_csv.features, of_parquet.features, strict=True):
        if isinstance(one, VectorFeature):
            np.testing.assert_array_equal(one.values_ND, other.values_ND)  # type: ignore[union-attr]
        else:
            assert one == other


def test_dimensions_are_in_the_order_of_their_numbers_and_constant_ones_left_out(tmp_path: Path) -> None:
    values_ND = np.random.default_rng(0).standard_normal((60, 12))
    values_ND[:, 4] = 7
    columns = {f"timbre.cqt.{d}": values_ND[:, d] for d in (11, 2, 10, *range(2), *range(3, 10))}
    table = read_features(write(pa.table({"song_id": SONGS, **columns}), tmp_path / "features.parquet"), SONGS)
    (cqt,) = table.features
    assert isinstance(cqt, VectorFeature)
    np.testing.assert_array_equal(cqt.values_ND, np.delete(values_ND, 4, axis=1))
    assert table.notes == ("1 of 12 dimensions of timbre.cqt are the same for all songs, and are left out.",)


def replaced(name: str, values: list) -> pa.Table:
    return TABLE.set_column(TABLE.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (replaced("song_id", [f"other {i}" for i in range(60)]), r"features of another catalog: .* 60 songs \(such as"),
        (TABLE.slice(3), "no features of songs that have scores: 'song 000', 'song 001', 'song 002'; add"),
        (TABLE.slice(8), "'song 002' and 5 more; add"),
        (pa.concat_tables([TABLE, TABLE.slice(2, 1)]), "song 'song 002' has 2 rows"),
        (replaced("rhythm.density", [1.0, float("nan"), *[2.0] * 58]), "rhythm.density of song 'song 001' is missing"),
        (replaced("rhythm.density", [None, *[2.0] * 59]), "rhythm.density of song 'song 000' is missing"),
        (replaced("rhythm.density", [2.0] * 60), "rhythm.density is the same for all songs"),
        (replaced("rhythm.density", ["x"] * 60), "rhythm.density holds what is no number"),
        (
            replaced("rhythm.onsets", [[1.0, 2.0], [1.0], *[[2.0, 1.0]] * 58]),
            "song 'song 001' has 1 numbers, .* 2; every",
        ),
        (replaced("harmony.chords.roots", [[1, 12], *[[0, 1]] * 59]), "of song 'song 000' is no list of pitch classes"),
        (replaced("harmony.chords.roots", [[0.0, 1.5], *[[0.0, 1.0]] * 59]), "of song 'song 000' is no list of pitch"),
        (replaced("harmony.chords.roots", ["1 two", *["0 1"] * 59]), "of song 'song 000' is no list of pitch classes"),
        (TABLE.select(["song_id", "title"]), "has no features: its columns need names such as"),
        (TABLE.drop_columns("song_id"), "has a column `song_id`"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(table: pa.Table, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        read_features(write(table, tmp_path / "features.parquet"), SONGS)
    assert "features.parquet" in str(raised.value)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "junk.parquet").write_bytes(b"PAR1 junk PAR1")
    for name in ("junk.parquet", "nothing.parquet", "x.txt"):
        with pytest.raises(LuminaError, match=name):
            read_features(tmp_path / name, SONGS)


def test_genres_come_from_the_manifest_of_the_queries(tmp_path: Path) -> None:
    manifest = tmp_path / "queries.csv"
    manifest.write_text("song_id,path,genre\nb,b.wav,rock\na,a.wav,folk\nc,c.wav,\n")
    assert read_genres(manifest, ["a", "b", "c", "d"]) == ["folk", "rock", "", ""]
    with pytest.raises(UsageError, match=r"no genre of any query \(such as 'x'\)"):
        read_genres(manifest, ["x"])
    manifest.write_text("song_id,path\nb,b.wav\n")
    with pytest.raises(UsageError, match="no column `genre`"):
        read_genres(manifest, ["b"])
