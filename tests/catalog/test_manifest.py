"""Manifests: what goes in comes out, and every contradiction is named with its row and its remedy."""

import csv
import gzip
import os
import re
import unicodedata
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lumina_ray.catalog.manifest import METADATA_COLUMNS, alike, manifest_of, read_manifest, write_manifest
from lumina_ray.errors import ManifestError

AWKWARD = st.sampled_from(list(",\n\r\"';=+-@\t \v\x85\u2028＝"))
ANY_TEXT = st.text(AWKWARD | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(str.strip)
ID = TEXT.filter(alike)


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
    assert [read.schema.field(name).type for name in METADATA_COLUMNS] == [pa.string()] * len(METADATA_COLUMNS)
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
@given(
    rows=st.lists(st.tuples(ID, TEXT, st.none() | TEXT), min_size=1, max_size=8, unique_by=lambda row: alike(row[0]))
)
def test_any_text_survives_a_round_trip(
    tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list[tuple[str, str, str | None]]
) -> None:
    path = tmp_path_factory.mktemp("trip") / f"ö {ending}.{ending}"
    write_manifest(manifest_of({"song_id": i, "path": f"/music/{p}", "title": t} for i, p, t in rows), path)
    read = read_manifest(path)
    assert read["song_id"].to_pylist() == [i for i, _, _ in rows]
    assert read["title"].to_pylist() == [t for _, _, t in rows]
    assert read["path"].to_pylist() == [str(Path(f"/music/{p}")) for _, p, _ in rows]


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(ANY_TEXT, ANY_TEXT, st.none() | st.floats(0, 1e6)), min_size=1, max_size=5),
    name=ANY_TEXT.filter(lambda text: alike(text) not in manifest_of([]).column_names),
)
@example(rows=[("Two\n1,/x,a,b,c,d,e,f,g,h,i,j,k,l,m,n", "", 1e-7)], name="=x\n,,,,,,,,,,,,,,,,")
def test_what_is_written_in_one_format_is_read_as_from_the_other(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, float | None]], name: str
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    written = manifest_of(
        {"song_id": f"={i}", "path": "/x", "title": title, "caption": caption, "duration_s": duration_s}
        for i, (title, caption, duration_s) in enumerate(rows)
    ).append_column(name, pa.array([text for text, _, _ in rows]))
    paths = folder / "songs.csv", folder / "songs.parquet"
    for path in paths:
        write_manifest(written, path)
    read, other = map(read_manifest, paths)
    assert read.equals(other)
    for column in ("title", name):
        assert read[column].to_pylist() == [text or None for text, _, _ in rows]
    assert read["duration_s"].to_pylist() == [duration_s for _, _, duration_s in rows]


@pytest.mark.parametrize("ending", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("column", "text", "message"),
    [
        ("title", "a\0b", "NUL"),
        ("mood", "a\0b", "NUL"),
        ("mood", "x" * 131_073, "131072"),
        ("title", "x" * 65_537, "65536"),
        ("splits", "A 50 / B 50; C 50", "may be more than one entry"),
        ("registered", "31.12.2024", "a year, a month and a day, such as 2024-03-31"),
        ("registered", "2024-02-30", "a year, a month and a day"),
        ("song_id", "1.23457E+11", "is a number that a spreadsheet has shortened"),
        ("song_id", "\u200b", "song_id has nothing to be seen"),
    ],
)
def test_what_one_format_refuses_the_other_does_too(
    tmp_path: Path, ending: str, column: str, text: str, message: str
) -> None:
    columns = {"song_id": ["a", "b"], "path": ["x", "y"], "title": ["", ""]}
    path = tmp_path / f"songs.{ending}"
    write_manifest(
        pa.table(columns | {column: ["c", text] if column not in ("splits", "registered") else [None, text]}), path
    )
    with pytest.raises(ManifestError, match=rf"{message}(.|\n)*(row 2|line 3)|(row 2|line 3)(.|\n)*{message}"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("song_id,path\n1,a\n".encode("utf-16"), "it is UTF-16; save it as UTF-8"),
        (gzip.compress(b"song_id,path\n1,a\n", mtime=0), "it is compressed by gzip; unpack it"),
        (b"PK\x03\x04 and more", "it is a ZIP archive or a workbook"),
        (b"PAR1 and more", "it is Parquet; name it .parquet"),
        (b"song_id;path\n1;a\n", "has columns separated by ';'; export it with commas"),
        (b"song_id\tpath\n1\ta\n", r"has columns separated by '\\t'"),
        (b"sep=,\nsong_id,path\n1,a\n", "begins with the line 'sep='"),
        (b"song_id,path" + b",x" * 400_000, "400002 columns, the limit is 1000"),
        (b"\xef\xbb\xbf\xef\xbb\xbfsong_id,path\n1,a\n", "rename it to 'song_id'"),
        (b"song_id\xc2\xa0,path\n1,a\n", "rename it to 'song_id'"),
        (b"song_id,path,\n1,a\n", "line 2 has 2 values, the header 3"),
        (b"song_id,path\n1,a\n,\n", "song_id is missing in row 2"),
        (b'song_id,path,duration_s\n1,a,"1,234.5"\n', "duration_s is '1,234.5' in row 1"),
        (b"song_id,path,duration_s\n1,a,NULL\n", "duration_s is 'NULL' in row 1"),
    ],
)
def test_what_other_programs_export_is_read_whole_or_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


def test_empty_and_blank_durations_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_bytes(b"song_id,path,duration_s\r\n1,a, \n2,b,\r3,c,7\n")
    assert read_manifest(path)["duration_s"].to_pylist() == [None, None, 7.0]


@pytest.mark.parametrize("kind", [pa.bool_(), pa.timestamp("s"), pa.duration("s"), pa.time32("s")])
def test_durations_are_numbers(tmp_path: Path, kind: pa.DataType) -> None:
    duration = pa.nulls(1, kind)
    with pytest.raises(ManifestError, match=r"column 'duration_s' holds .*; write it as a number of seconds"):
        read_manifest(parquet(tmp_path, song_id=["a"], path=["x"], duration_s=duration))
    decimal = pa.array([Decimal("12.50")])
    assert (
        read_manifest(parquet(tmp_path, song_id=["a"], path=["x"], duration_s=decimal))["duration_s"][0].as_py() == 12.5
    )


@settings(max_examples=150)
@given(data=st.data())
def test_a_damaged_parquet_file_is_read_whole_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = parquet(tmp_path_factory.mktemp("damage"), song_id=["a", "b"], path=["x", "y"])
    content = bytearray(path.read_bytes())
    # The names of columns are in the footer.
    for place in data.draw(
        st.lists(st.integers(0, len(content) - 1) | st.just(content.rindex(b"song_id")), max_size=3)
    ):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    try:
        read = read_manifest(path)
    except ManifestError:
        return
    assert len(read) == 2


@pytest.mark.parametrize("name", ["songs.csv", "songs.parquet"])
def test_a_pipe_is_no_manifest_and_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ManifestError, match="is a pipe, socket or device, not a file; write the manifest to a file"):
        read_manifest(tmp_path / name)


TEXT_TYPES = st.sampled_from([pa.string(), pa.large_string(), pa.string_view()])
INDEX_TYPES = st.sampled_from([None, pa.int8(), pa.uint32(), pa.int64()])


@st.composite
def text_columns(draw: st.DrawFn, values: list[str | None]) -> pa.ChunkedArray:
    """The values in any of Arrow's types for text, in chunks, each with categories of its own."""
    kind, index = draw(TEXT_TYPES), draw(INDEX_TYPES)
    cut = draw(st.integers(0, len(values)))
    chunks = [pa.array(part, pa.string()) for part in (values[:cut], values[cut:])]
    if index is None:
        return pa.chunked_array([chunk.cast(kind) for chunk in chunks], kind)
    # PyArrow cannot write categories of this type.
    kind = pa.string() if kind == pa.string_view() else kind
    dictionaries = []
    for chunk in chunks:
        encoded = chunk.dictionary_encode()
        # Programs leave categories that no row has.
        categories = pa.array([*encoded.dictionary.to_pylist(), "no row's"], pa.string()).cast(kind)
        dictionaries.append(pa.DictionaryArray.from_arrays(encoded.indices.cast(index), categories))
    return pa.chunked_array(dictionaries, pa.dictionary(index, kind))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_type_of_text_is_text(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    values = {"song_id": ["a", "b", "c"], "path": ["/1", "/2", "/2"], "creator": ["x", None, "x"], "mood": ["m"] * 3}
    columns = {name: data.draw(text_columns(column)) for name, column in values.items()}
    read = read_manifest(parquet(tmp_path_factory.mktemp("types"), **columns, publisher=pa.nulls(3)))
    assert {name: read[name].to_pylist() for name in values} == values
    assert {read.schema.field(name).type for name in (*values, *METADATA_COLUMNS)} == {pa.string()}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('1,a,"Love (12 Mix)\n2,b,ok\n3,c,ok', r"unexpected end of data, in the row of line 2"),
        ('1,a,x\n2,b,"Two"s\n3,c,ok', r"in the row of line 3"),
        ('1,a,x\n2,b,"Two\n3,c,"\n4,d,ok', r"line 4 is inside quotes that were opened in line 3"),
        ('1,a,"x\n\n2,b",ok\n4,d,ok', r"line 4 is inside quotes that were opened in line 2"),
        ("1,a,x\n2,b\n3,c,x", r"line 3 has 2 values, the header 3"),
        ("1,a,x\n\n2,b,Hello, World\n", r"line 4 has 4 values, the header 3"),
        ("1,a,x\n2,b\0,x\n", r"line 3 has a NUL character"),
        ("1,a,x\r2,b,y\r3,c\udcff,x\r", r"line 4 has bytes that are not UTF-8"),
        ("1,a,{4194304}", r"line 2 has 4194304 characters or more"),
        ("1,a,{140000}", r"field larger than field limit \(131072\), in the row of line 2"),
    ],
)
def test_what_would_lose_rows_is_refused_with_its_line(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "songs.csv"
    rows = re.sub(r"\{(\d+)\}", lambda found: "x" * int(found[1]), rows)
    path.write_bytes(f"song_id,path,title\n{rows}".encode(errors="surrogateescape"))
    with pytest.raises(ManifestError, match=message):
        read_manifest(path)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.text('ab ",;\n\r2', max_size=6)] * 2), min_size=1, max_size=6),
    place=st.integers(0, 300),
    junk=st.sampled_from(['"', '""', ",", "\0", "\n", '"\n', ',"', '","', '"\n"', None]),
    header=st.sampled_from(["song_id,path,title,mood", '"song_id","path","title","mood"']),
)
def test_rows_in_are_rows_out_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], place: int, junk: str | None, header: str
) -> None:
    """A sound file in which one thing goes wrong: every song is there that was, or the file is refused.

    A character is lost, or junk comes in.
    """
    folder = tmp_path_factory.mktemp("junk")
    lines = [
        f'"{i}","/{i}",' + ",".join('"{}"'.format(t.replace('"', '""')) for t in row) for i, row in enumerate(rows)
    ]
    text = "\n".join(lines) + "\n"
    place %= len(text)
    damaged = text[:place] + (text[place + 1 :] if junk is None else junk + text[place:])
    (folder / "songs.csv").write_text(f"{header}\n{damaged}", newline="")
    try:
        read = read_manifest(folder / "songs.csv")
    except ManifestError:
        return
    assert len(read) == len(rows)


def test_a_text_of_several_lines_is_one_value(tmp_path: Path) -> None:
    path = tmp_path / "songs.csv"
    path.write_text('song_id,path,title,mood\n1,a,"one,\ntwo\n\nthree",x\n\n2,b,,y\n')
    assert read_manifest(path)["title"].to_pylist() == ["one,\ntwo\n\nthree", None]


def test_a_footer_that_counts_other_rows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path, song_id=["a", "b"], path=["x", "y"])
    whole = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda self, n: (b.slice(1) for b in whole(self, n)))
    with pytest.raises(ManifestError, match="its footer says 2 rows, 1 are there"):
        read_manifest(path)


@settings(max_examples=60, deadline=None)
@given(
    # Of the dotless i, the capital letter is that of another one.
    song_id=ID.filter(lambda text: "ı" not in text),
    change=st.sampled_from([str.upper, str.lower, str.title, str.casefold, lambda t: f" {t} ", lambda t: t + "\ufeff"]),
    form=st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]),
)
def test_ids_that_look_alike_are_refused_with_their_rows(
    tmp_path_factory: pytest.TempPathFactory, song_id: str, change: Callable[[str], str], form: Any
) -> None:
    other = unicodedata.normalize(form, change(song_id))
    path = parquet(tmp_path_factory.mktemp("alike"), song_id=[song_id, "0 none", other], path=["x", "y", "z"])
    with pytest.raises(ManifestError, match=r"rows 1, 3; ids must|in row 1, .* in row 3; ids must"):
        read_manifest(path)


def test_codes_and_splits_are_written_in_one_way(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        song_id=list("abcd"),
        path=["x"] * 4,
        isrc=["gb-aaa-24-00042", "ISRC: IS-RC1-24-00042", " ", None],
        iswc=["t0345246801", "T-034.524.680-1", "", None],
        splits=["A. Writer: 50%, B. Singer = 50", "50 % A. Writer; 50 % B. Singer", " ", None],
    )
    table = read_manifest(path)
    assert table["isrc"].to_pylist() == ["GBAAA2400042", "ISRC12400042", None, None]
    assert table["iswc"].to_pylist() == ["T-034.524.680-1", "T-034.524.680-1", None, None]
    assert table["splits"].to_pylist() == ["A. Writer 50 %; B. Singer 50 %"] * 2 + [None, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"song_id": ["a", "b", "a"], "path": ["x", "y", "z"]},
            r"'a' is there more than once, in rows 1, 3; ids must",
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
        ({"song_id": ["a"], "path": ["x"], "duration_s": ["long"]}, r"duration_s is 'long' in row 1; it must be"),
        ({"song_id": ["a"], "path": ["x"], "duration_s": [float("inf")]}, r"duration_s is inf in row 1"),
        (
            {"song_id": ["a", "b"], "path": ["x", "x"], "duration_s": [None, float("nan")]},
            r"duration_s is nan in row 2",
        ),
        ({"song_id": ["a"], "path": ["x"], "duration_s": ["-1"]}, r"duration_s is -1.0 in row 1"),
        ({"song_id": ["a"], "path": ["x"], "duration_s": [1e300]}, r"duration_s is 1e\+300 in row 1; it must be"),
        ({"song_id": ["a"], "path": ["x"], "sha256": ["12"]}, r"sha256 has not 64 hexadecimal digits in row 1"),
        ({"song_id": ["a"], "path": ["x"], "title": ["a\0b"]}, r"title holds a NUL character in row 1"),
        ({"song_id": ["a"], "path": ["x"], "isrc": ["GBAAA24"]}, r"isrc 'GBAAA24' in row 1: an ISRC has"),
        ({"song_id": ["a"], "path": ["x"], "iswc": ["T0345246802"]}, r"in row 1: its check digit is 2, and 1 would"),
        ({"song_id": list("ab"), "path": list("xy"), "splits": [None, "A 60; B 60"]}, r"in row 2: .* add up to 120"),
        ({"song_id": ["a"], "path": ["x"], "splits": ["as agreed"]}, r"is no name with a percentage; write NAME 50 %"),
        ({"id": ["a"], "path": ["x"]}, r"lacks the column 'song_id'; it has id, path"),
        ({"song_id": ["a"]}, r"lacks the column 'path'; it has song_id"),
        (
            {"song_id": ["a"], "path": ["x"], "duration_s": ["3:25"]},
            r"duration_s is '3:25' in row 1; it must be a number",
        ),
        ({"Song_ID": ["a"], "path": ["x"]}, r"column 'Song_ID' is not known; rename it to 'song_id', or drop it"),
        ({"song_id": ["a"], "path": ["x"], "SHA256 ": ["0"]}, r"column 'SHA256 ' is not known; rename it to 'sha256'"),
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
    monkeypatch.setattr("lumina_ray.catalog.tables.MAX_SONGS", 999)
    with pytest.raises(ManifestError, match=r"1000 songs in .* the limits are 999"):
        read_manifest(path)
    csv = tmp_path / "songs.csv"
    pacsv.write_csv(pq.read_table(path), csv)
    with pytest.raises(ManifestError, match="more than 999 songs, the limit"):
        read_manifest(csv)
    monkeypatch.setattr("lumina_ray.catalog.tables.MAX_BYTES", 100)
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
    monkeypatch.setattr("lumina_ray.catalog.tables.MAX_BYTES", 50_000_000)
    with pytest.raises(ManifestError, match=r"3000 songs in more than 6\d{7} bytes uncompressed.*split the manifest"):
        read_manifest(path)
    # Of 1024 songs together it stops at the first that are too many.
    monkeypatch.setattr("lumina_ray.catalog.tables.MAX_BYTES", 10_000_000)
    with pytest.raises(ManifestError, match=r"3000 songs in more than 2\d{7} bytes"):
        read_manifest(path)


FORMULA = st.text("=+-@'＝ \t\r\n\"x1", max_size=6)


@settings(max_examples=60, deadline=None)
@given(titles=st.lists(FORMULA, min_size=1, max_size=4), mood=FORMULA)
def test_no_cell_of_a_csv_file_is_a_formula(
    tmp_path_factory: pytest.TempPathFactory, titles: list[str], mood: str
) -> None:
    path = tmp_path_factory.mktemp("formulas") / "songs.csv"
    table = manifest_of({"song_id": f"={i}", "path": "/x", "title": title} for i, title in enumerate(titles))
    write_manifest(table.append_column("mood", pa.array([mood] * len(titles))), path)
    with path.open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if re.match(r"[\t\r]|[\s\"]*[=+\-@＝]", cell)]
    read = read_manifest(path)
    assert read["song_id"].to_pylist() == [f"={i}" for i in range(len(titles))]
    assert read["title"].to_pylist() == [title or None for title in titles]
    assert read["mood"].to_pylist() == [mood or None] * len(titles)


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


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_captions_are_text_and_bounded(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"songs.{ending}"
    captions = ["slow piano, =strings", None]
    write_manifest(manifest_of({"song_id": str(i), "path": "/x", "caption": c} for i, c in enumerate(captions)), path)
    read = read_manifest(path)
    assert read.schema.field("caption").type == pa.string()
    assert read["caption"].to_pylist() == captions
    write_manifest(manifest_of([{"song_id": "a", "path": "/x", "caption": "x" * 1025}]), path)
    with pytest.raises(ManifestError, match=r"caption has more than 1024 characters in row 1; shorten it"):
        read_manifest(path)
    write_manifest(pa.table({"song_id": ["a"], "path": ["/x"], "caption": [7]}), tmp_path / "numbers.parquet")
    with pytest.raises(ManifestError, match=r"column 'caption' holds int64, text is needed"):
        read_manifest(tmp_path / "numbers.parquet")
