"""Songs, neighbours and versions over HTTP, and fingerprints that clients made."""

import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lumina_ray.answers import FingerprintQuery
from lumina_ray.attribution import Report, attribute
from lumina_ray.attribution.schema import SongFacts
from lumina_ray.index import Snapshot, load_snapshot
from lumina_ray.index.withdrawn import Withdrawals
from lumina_ray.report import to_json
from serve import cursors
from serve.app import ServeArgs
from serve.catalog import as_query, find_song, list_songs, list_versions, nearest_songs
from serve.live import probe
from serve.problems import Problem
from tests.serve.app import asking, make_services
from tests.serve.conftest import N_SONGS, fingerprint_of
from tests.serve.problems import assert_problem

BY_FINGERPRINT = "/v1/attributions/by-fingerprint"


def test_pages_hold_every_song_once(client: httpx.Client, snapshot: Snapshot) -> None:
    ids, cursor, pages = [], None, 0
    while pages == 0 or cursor:
        page = client.get("/v1/songs", params={"limit": 10} | ({"cursor": cursor} if cursor else {})).json()
        assert page["index_version"] == snapshot.version
        ids += [song["song_id"] for song in page["songs"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert ids == snapshot.songs["song_id"].to_pylist()
    assert (len(ids), pages) == (N_SONGS, 3)
    for options in ({"limit": 0}, {"limit": 1001}, {"cursor": "ä"}, {"cursor": "abcde"}, {"limits": 3}):
        assert_problem(client.get("/v1/songs", params=options), 422, "request.invalid")


@pytest.mark.parametrize("position", ["", "a", "song/1", "Ünïcödé ♪", "x" * 513])
def test_cursors_are_read_back(position: str) -> None:
    assert cursors.decode(cursors.encode(position)) == position


def test_a_song_by_its_id(client: httpx.Client, snapshot: Snapshot) -> None:
    found = client.get("/v1/songs/song-0007").json()
    row = snapshot.songs["song_id"].to_pylist().index("song-0007")
    assert found["index_version"] == snapshot.version
    assert found["song"] == snapshot.songs.select(list(SongFacts.model_fields)).to_pylist()[row]
    for unknown in ("/v1/songs/nothing", "/v1/songs/no/such/song", "/v1/songs/nothing/nearest"):
        assert_problem(client.get(unknown), 404, "song.unknown")


def test_the_end_of_an_id_is_no_question_about_its_neighbours(client: httpx.Client) -> None:
    assert client.get("/v1/songs/song-0004").status_code == 200
    for path, found in (
        ("song-0004/nearest", 200),
        # The neighbours of it, whichever way it is written, and songs of other names.
        ("song%2D0004/%6Eearest?limit=1", 200),
        ("song-0004%2Fnearest", 404),
        ("song-0004%2fnearest/nearest", 404),
    ):
        answer = client.get(f"/v1/songs/{path}")
        assert answer.status_code == found
        if found == 200:
            assert answer.json()["neighbours"]
        else:
            assert_problem(answer, 404, "song.unknown")


@pytest.mark.parametrize("unknown", [20, 300_000])
def test_a_fingerprint_of_nothing_but_unknown_names_is_refused_for_a_few(unknown: int) -> None:
    body = b"{" + b",".join(b'"%x":0' % i for i in range(unknown)) + b"}"
    with asking(make_services()) as client:
        answer = client.post(BY_FINGERPRINT, content=body, headers={"Content-Type": "application/json"})
    assert_problem(answer, 422, "request.invalid")
    assert len(answer.content) < 4000


@pytest.mark.parametrize("channel", ["P", "M"])
def test_the_nearest_songs_are_those_of_exact_search(client: httpx.Client, snapshot: Snapshot, channel: str) -> None:
    vectors_ND = snapshot.vectors(channel, np.arange(N_SONGS)).astype(np.float64)
    similarity_N = vectors_ND @ vectors_ND[4]
    order = [row for row in np.argsort(-similarity_N, kind="stable").tolist() if row != 4][:5]
    answer = client.get("/v1/songs/song-0004/nearest", params={"channel": channel, "limit": 5}).json()
    assert (answer["channel"], answer["index_version"]) == (channel, snapshot.version)
    ids = snapshot.songs["song_id"].to_pylist()
    assert [near["song"]["song_id"] for near in answer["neighbours"]] == [ids[row] for row in order]
    np.testing.assert_allclose([near["similarity"] for near in answer["neighbours"]], similarity_N[order], atol=1e-6)
    bad = client.get("/v1/songs/song-0004/nearest", params={"channel": "X"})
    assert_problem(bad, 422, "request.invalid")


def test_a_withdrawn_song_is_gone(index_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(next(index_dir.glob("v*")), tmp_path / "v0001")
    snapshot = load_snapshot(folder)
    songs = snapshot.songs.to_pylist()
    withdrawn = {"songs": [[songs[3]["song_id"], songs[3]["codes_sha256"], 2]]}
    (tmp_path / "withdrawn.json").write_text(json.dumps(withdrawn))
    # As of a living catalog, in whose second generation the song was removed.
    snapshot = replace(snapshot, withdrawals=Withdrawals(tmp_path, snapshot.songs, 1))
    listed = [song.song_id for song in list_songs(snapshot, "", 100).songs]
    assert listed == [song["song_id"] for song in songs if song is not songs[3]]
    assert len(nearest_songs(snapshot, songs[4]["song_id"], "P", 100).neighbours) == N_SONGS - 2
    for gone in (find_song, lambda *a: nearest_songs(*a, "P", 5)):
        with pytest.raises(Problem, match="no such song"):
            gone(snapshot, songs[3]["song_id"])


class Ids:
    """A column of ids that can only be looked up one by one, and counts how often it was."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column, self.lookups = column, 0

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, row: int) -> pa.Scalar:
        self.lookups += 1
        return self.column[row]


class Songs:
    """A table of songs with such a column."""

    def __init__(self, ids: list[str], facts: dict) -> None:
        columns = {name: pa.repeat(pa.scalar(value), len(ids)) for name, value in facts.items()}
        self._table = pa.table(columns | {"song_id": pa.array(ids)})
        self._ids = Ids(self._table["song_id"])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, name: str) -> Ids:
        assert name == "song_id"
        return self._ids

    def select(self, columns: list[str]) -> pa.Table:
        return self._table.select(columns)


def catalog_of(snapshot: Snapshot, ids: list[str], withdrawn: list[int]) -> Snapshot:
    """A catalog of such songs, some of whose rows are withdrawn."""
    facts = snapshot.songs.select(list(SongFacts.model_fields)).to_pylist()[0]
    withdrawals = SimpleNamespace(rows=lambda: np.array(withdrawn, np.int64))
    return replace(snapshot, songs=Songs(ids, facts), withdrawals=withdrawals)


def test_a_page_of_a_million_songs_looks_at_few_of_them(snapshot: Snapshot) -> None:
    ids = [f"song-{row:07}" for row in range(1_000_000)]
    large = catalog_of(snapshot, ids, [0, *range(500_000, 600_000), 999_999])
    for after, first, more in (
        ("", 1, True),
        ("song-0499998", 499_999, True),
        # Between two ids, and of a song that is gone.
        ("song-0555555x", 600_000, True),
        ("song-0999989", 999_990, False),
    ):
        page = list_songs(large, after, 9)
        expected = [row for row in range(first, first + 9) if not 500_000 <= row < 600_000]
        expected += range(600_000, 600_000 + 9 - len(expected))
        assert [song.song_id for song in page.songs] == [ids[row] for row in expected]
        assert (page.next_cursor is not None) is more
    assert list_songs(large, "song-0999998", 9).songs == list_songs(large, "z", 9).songs == ()
    assert 0 < large.songs["song_id"].lookups < 6 * 21


@pytest.mark.parametrize(
    "withdrawn", [[], [0], [11], [0, 1, 2, 10, 11], [3, 5, 6, 7, 9], list(range(11)), list(range(12))]
)
@pytest.mark.parametrize("limit", [1, 2, 5, 12, 100])
def test_pages_are_those_of_a_list(snapshot: Snapshot, withdrawn: list[int], limit: int) -> None:
    # Beyond the first plane of Unicode as well, where UTF-16 has another order than UTF-8.
    ids = sorted(["", "A", "a", "a/b", "aa", "b", "z", "é", "夜", "\uffee", "\U0001f3b5", "\U0001f3b5a"])
    assert pc.sort_indices(pa.array(ids)).to_pylist() == list(range(12))
    small = catalog_of(snapshot, ids, withdrawn)
    present = [song for row, song in enumerate(ids) if row not in withdrawn]
    for after in (*ids, "0", "ab", "\uffff", "\U0010ffff"):
        page, left = list_songs(small, after, limit), [song for song in present if song > after]
        assert [song.song_id for song in page.songs] == left[:limit]
        assert page.next_cursor == (cursors.encode(left[limit - 1]) if len(left) > limit else None)


def test_health_is_asked_of_the_first_song_that_is_not_withdrawn(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, vectors = [], Snapshot.vectors
    monkeypatch.setattr(Snapshot, "vectors", lambda *given: asked.append(given[2].tolist()) or vectors(*given))
    monkeypatch.setattr("serve.live.attribute", lambda *_, **__: SimpleNamespace(near_copies={}))
    large = catalog_of(snapshot, ["song"] * 1_000_000, [0, 1, 2, 4])
    tracemalloc.start()
    probe(large)
    # A number for every song would be 8 MB.
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert asked == [[3]] * len(snapshot.indexes)
    probe(replace(snapshot, withdrawals=SimpleNamespace(rows=lambda: np.arange(N_SONGS))))


def test_versions_beside_the_live_one(
    client: httpx.Client, snapshot: Snapshot, index_dir: Path, tmp_path: Path
) -> None:
    (version,) = client.get("/v1/indexes").json()["indexes"]
    assert (version["version"], version["live"], version["songs"]) == (snapshot.version, True, N_SONGS)
    assert (version["key"], version["specification_sha256"]) == (snapshot.key, snapshot.specification_sha256)

    first = next(index_dir.glob("v*"))
    for name in ("v0001", "v0002", "v0003", "v0004"):
        shutil.copytree(first, tmp_path / name)
    (tmp_path / "v0003" / "P.faiss").unlink()
    (tmp_path / "v0004" / "manifest.json").write_text("{")
    found = list_versions(tmp_path / "v0001")
    assert found.unusable == ("v0004", "v0003")
    assert [(version.version, version.live) for version in found.indexes] == [("v0002", False), ("v0001", True)]


def test_a_fingerprint_is_attributed_as_its_song_is(
    client: httpx.Client, snapshot: Snapshot, serve_args: ServeArgs
) -> None:
    query = fingerprint_of(snapshot, 3)
    answer = client.post(BY_FINGERPRINT, json=query, params={"policy": "v8", "top_k": 5})
    assert answer.status_code == 200
    local = attribute(as_query(FingerprintQuery(**query), snapshot), snapshot, "v8", 5)
    assert answer.text == to_json(local)
    report = Report.model_validate(answer.json())
    assert report.query.audio_sha256 == query["audio_sha256"]
    assert "client" in report.basis.environment["fingerprint"]
    for channel in report.near_copies.values():
        assert channel.candidates[0].song.song_id == "song-0003"
        assert channel.candidates[0].similarity == pytest.approx(1, abs=1e-5)
    one = client.post(BY_FINGERPRINT, json=query | {"channels": {"M": query["channels"]["M"]}}).json()
    assert list(one["near_copies"]) == ["M"]


def test_a_fingerprint_that_does_not_fit_is_refused(client: httpx.Client, snapshot: Snapshot) -> None:
    query = fingerprint_of(snapshot, 3)
    vector = query["channels"]["P"]
    for change, code in (
        ({"specification_sha256": "0" * 64}, "fingerprint.specification"),
        ({"channels": {"P": vector[:-1]}}, "fingerprint.invalid"),
        ({"channels": {"P": [2 * x for x in vector]}}, "fingerprint.invalid"),
        ({"channels": {"P": [0.0] * len(vector)}}, "fingerprint.invalid"),
        ({"channels": {"P": [1e300, *vector[1:]]}}, "fingerprint.invalid"),
        ({"channels": {"X": vector}}, "request.invalid"),
        ({"channels": {}}, "request.invalid"),
        ({"channels": {"P": ["a"]}}, "request.invalid"),
        ({"duration_s": -1}, "request.invalid"),
        ({"extra": 1}, "request.invalid"),
    ):
        assert_problem(client.post(BY_FINGERPRINT, json=query | change), 422, code)
    typed = {"headers": {"Content-Type": "application/json"}}
    not_a_number = json.dumps(query | {"channels": {"P": [float("nan"), *vector[1:]]}})
    assert_problem(client.post(BY_FINGERPRINT, content=not_a_number, **typed), 422, "request.invalid")
    assert_problem(client.post(BY_FINGERPRINT, content="{", **typed), 422, "request.invalid")
    assert_problem(client.post(BY_FINGERPRINT, content="{}"), 415, "request.not_json")
    assert_problem(client.post(BY_FINGERPRINT, content=b" " * (5 << 20), **typed), 413, "fingerprint.too_large")
