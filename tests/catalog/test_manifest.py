"""Manifests: what goes in comes out, and every contradiction is named with its row and its remedy."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumina_ray.catalog.manifest import METADATA_COLUMNS, manifest_of, read_manifest, write_manifest
from lumina_ray.errors import ManifestError

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(str.strip)


def parquet(folder: Path, **columns: object) -> Path:
    path = folder / "songs.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_columns_are_completed_and_ordered(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"songs.{ending}"
    table = pa.table(
        {
            "mood": ["calm", None],
            "duration_s": [12.5, None],
            "path": ["audio/one song.flac", "/elsewhere/two.flac"],
            "title": ["Übung", None],
            "song_id": ["00123", "2"],
        }
    )
    write_manifest(table, path)
    read = read_manifest(path)
    assert read.column_names == ["song_id", "path", *METADATA_COLUMNS, "mood", "duration_s"]
    assert [read.schema.field(name).type for name in METADATA_COLUMNS] == [pa.string()] * 9
    assert read["song_id"].to_pylist() == ["00123", "2"]
    assert read["path"].to_pylist() == [f"{tmp_path}/audio/one song.flac", "/elsewhere/two.flac"]
    assert read["title"].to_pylist() == ["Übung", None]
    assert read["creator"].null_count == 2
    assert read["mood"].to_pylist() == ["calm", None]
    assert read["duration_s"].to_pylist() == [12.5, None]


def test_paths_are_relative_to_the_manifest_and_not_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet(tmp_path, song_id=["a"], path=["x.wav"])
    monkeypatch.chdir(tmp_path.parent)
    assert read_manifest(Path(tmp_path.name) / "songs.parquet")["path"].to_pylist() == [str(tmp_path / "x.wav")]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT), min_size=1, max_size=8, unique_by=lambda row: row[0]))
def test_any_text_survives_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list[tuple[str, str, str | None]]
) -> None:
    path = tmp_path_factory.mktemp("trip") / f"ö {ending}.{ending}"
    write_manifest(manifest_of({"song_id": i, "path": f"/music/{p}", "title": t} for i, p, t in rows), path)
    read = read_manifest(path)
    assert read["song_id"].to_pylist() == [i for i, _, _ in rows]
    assert read["title"].to_pylist() == [t for _, _, t in rows]
    assert read["path"].to_pylist() == [str(Path(f"/music/{p}")) for _, p, _ in rows]


def test_dictionary_and_large_strings_are_text(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        song_id=pa.array(["a", "b"], pa.large_string()),
        path=["a.wav", "b.wav"],
        creator=pa.array(["x", "x"]).dictionary_encode(),
        publisher=pa.nulls(2),
    )
    table = read_manifest(path)
    assert table["creator"].to_pylist() == ["x", "x"]
    assert {table.schema.field(name).type for name in ("song_id", "path", *METADATA_COLUMNS)} == {pa.string()}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"song_id": ["a", "b", "a"], "path": ["x", "y", "z"]},
            r"more than once: 'a' in rows 1, 3; ids must",
        ),
        ({"song_id": ["a", None], "path": ["x", "y"]}, r"song_id is missing in row 2"),
        ({"song_id": ["a", " \t"], "path": ["x", "y"]}, r"song_id is blank in row 2"),
        ({"song_id": ["a" * 513], "path": ["x"]}, r"song_id has more than 512 characters in row 1"),
        ({"song_id": ["a\nb"], "path": ["x"]}, r"song_id holds control characters in row 1"),
        ({"song_id": ["a"], "path": ["x\0y"]}, r"path holds control characters in row 1"),
        ({"song_id": ["a"], "path": pa.nulls(1)}, r"path is missing in row 1"),
        ({"song_id": list("abcdefgh"), "path": [""] * 8}, r"path is blank in rows 1, 2, 3, 4, 5 and 3 more"),
        ({"song_id": [1, 2], "path": ["x", "y"]}, r"'song_id' holds int64, text is needed"),
        ({"song_id": ["a"], "path": [["x"]]}, r"'path' holds list<"),
        ({"song_id": ["a"], "path": ["x"], "isrc": [12]}, r"'isrc' holds int64, text is needed"),
        ({"song_id": ["a"], "path": ["x"], "duration_s": ["long"]}, r"'duration_s' is not double"),
        ({"id": ["a"], "path": ["x"]}, r"lacks the column 'song_id'; it has id, path"),
        ({"song_id": ["a"]}, r"lacks the column 'path'; it has song_id"),
        ({"song_id": pa.array([], pa.string()), "path": pa.array([], pa.string())}, r"holds no songs"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    path = parquet(tmp_path, **columns)
    with pytest.raises(ManifestError, match=message) as raised:
        read_manifest(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    broken = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    with pytest.raises(ManifestError, match="cannot be read as Parquet"):
        read_manifest(parquet(tmp_path, song_id=broken, path=["x"]))


def test_a_repeated_column_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text("song_id,path,title,title\na,x,one,two\n")
    with pytest.raises(ManifestError, match="column 'title' is there more than once"):
        read_manifest(path)


def test_a_csv_from_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes('\ufeffsong_id,path,title\r\n007,"a, b.wav","He said ""no"""\r\n8,ü.wav,\r\n'.encode())
    table = read_manifest(path)
    assert table["song_id"].to_pylist() == ["007", "8"]
    assert table["path"].to_pylist() == [f"{tmp_path}/a, b.wav", f"{tmp_path}/ü.wav"]
    assert table["title"].to_pylist() == ['He said "no"', None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("songs.parquet", b"this is not Parquet", "cannot be read as Parquet"),
        ("songs.parquet", b"", "cannot be read as Parquet"),
        ("songs.csv", b"", "cannot be read as CSV"),
        ("songs.csv", b"song_id,path\na,b,c\n", "cannot be read as CSV"),
        ("songs.csv", b"song_id,path\n\xff\xfe,b\n", "cannot be read as CSV"),
        ("songs.csv", b"song_id,path\n", "holds no songs"),
        ("songs.txt", b"song_id,path\na,b\n", r"must end in \.parquet or \.csv"),
    ],
)
def test_files_that_are_no_manifests(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file"):
        read_manifest(tmp_path / "none.parquet")
    with pytest.raises(ManifestError, match="is a folder; `lumina catalog scan"):
        read_manifest(tmp_path)


def test_sizes_are_bounded_before_anything_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path, song_id=[str(number) for number in range(1000)], path=["x"] * 1000)
    monkeypatch.setattr("lumina_ray.catalog.manifest.MAX_SONGS", 999)
    with pytest.raises(ManifestError, match=r"1000 songs in .* the limits are 999"):
        read_manifest(path)
    csv = tmp_path / "songs.csv"
    pacsv.write_csv(pq.read_table(path), csv)
    with pytest.raises(ManifestError, match="1000 songs, the limit is 999"):
        read_manifest(csv)
    monkeypatch.setattr("lumina_ray.catalog.manifest.MAX_BYTES", 100)
    with pytest.raises(ManifestError, match="bytes, the limit is 100"):
        read_manifest(csv)


@pytest.mark.parametrize("dictionary", [False, True], ids=["text", "categories"])
def test_a_text_that_a_small_file_has_once_counts_for_each_song(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dictionary: bool
) -> None:
    title = pa.array(["x" * 20_000] * 3000)
    path = parquet(
        tmp_path,
        song_id=[str(i) for i in range(3000)],
        path=["x"] * 3000,
        title=title.dictionary_encode() if dictionary else title,
    )
    assert path.stat().st_size < 100_000
    assert read_manifest(path)["title"].type == pa.string()
    monkeypatch.setattr("lumina_ray.catalog.manifest.MAX_BYTES", 50_000_000)
    with pytest.raises(ManifestError, match=r"3000 songs in more than 6\d{7} bytes uncompressed.*split the manifest"):
        read_manifest(path)
    # Of 1024 songs together it stops at the first that are too many.
    monkeypatch.setattr("lumina_ray.catalog.manifest.MAX_BYTES", 10_000_000)
    with pytest.raises(ManifestError, match=r"3000 songs in more than 2\d{7} bytes"):
        read_manifest(path)


def test_metadata_of_any_length_is_none(tmp_path: Path) -> None:
    path = parquet(tmp_path, song_id=["a", "b"], path=["x", "y"], title=[None, "x" * 65_537])
    with pytest.raises(ManifestError, match="title has more than 65536 characters in row 2; shorten it"):
        read_manifest(path)


def test_a_manifest_is_written_in_full_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    write_manifest(pa.table({"song_id": ["a"], "path": ["x"]}), path)
    before = path.read_bytes()
    with pytest.raises(pa.ArrowException):
        write_manifest(pa.table({"song_id": ["b"], "path": [["no CSV for lists"]]}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_where_nothing_can_be_written_the_error_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    table = pa.table({"song_id": ["a"], "path": ["x"]})
    with pytest.raises(ManifestError, match="cannot be written"):
        write_manifest(table, tmp_path / "file" / "songs.parquet")
    with pytest.raises(ManifestError, match=r"must end in \.parquet or \.csv"):
        write_manifest(table, tmp_path / "songs.json")
