"""Shared evidence from stores to reports: hubs, likeness and p-values by brute force, and stores that have none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest
from typer.testing import CliRunner

from lumina_ray.attribution import Report, attribute
from lumina_ray.calibration import calibrate_store, read_calibration, write_calibration
from lumina_ray.calibration.shared import SHARED_FILE, Shared, measure_shared, read_shared, similarities
from lumina_ray.cli.main import app
from lumina_ray.diagnostics.feature_tables import read_features
from lumina_ray.diagnostics.features import VectorFeature
from lumina_ray.errors import StoreError
from lumina_ray.evidence import read_table
from lumina_ray.evidence.kept import MAX_ASKING, asking, from_columns, to_columns
from lumina_ray.evidence.vectors import DIMS
from lumina_ray.index import build_index, load_snapshot
from lumina_ray.index.shards import select, together
from lumina_ray.index.snapshot import Shard, Snapshot
from lumina_ray.report import from_json, to_json
from lumina_ray.report.verify import verify_query
from lumina_ray.report.words import shared as shared_words
from lumina_ray.store import Store, read_store, stream_store
from lumina_ray.vocabulary import COMPARED, EVIDENCE, EVIDENCE_COLUMNS, Compared, Evidence, QueryFingerprint
from tests.calibration.synthetic import DIMS as FINGERPRINT_DIMS
from tests.calibration.synthetic import World, query, write_store

N_SONGS, N_CONTROLS = 24, 45
Drawn = dict[Evidence, np.ndarray]


def draw(rng: np.random.Generator, n_chunks: int) -> Drawn:
    rows = {name: rng.normal(size=(n_chunks, DIMS[name])) for name in EVIDENCE}
    return {name: (of / np.linalg.norm(of, axis=1, keepdims=True)).astype("<f2") for name, of in rows.items()}


def music(n: int, seed: int) -> dict[str, np.ndarray]:
    worlds = {c: World(np.random.default_rng(seed + i), dims) for i, (c, dims) in enumerate(FINGERPRINT_DIMS.items())}
    return {c: world.music(n) for c, world in worlds.items()}


def make_store(folder: Path, prefix: str, n: int, seed: int, evidence: bool = True) -> Store:
    rng = np.random.default_rng(seed)
    facts = [to_columns(draw(rng, int(rng.integers(1, 9)))) if evidence else {} for _ in range(n)]
    return write_store(folder / prefix, music(n, 10 * seed), prefix=prefix, facts=facts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    store, controls = make_store(folder, "song", N_SONGS, 0), make_store(folder, "control", N_CONTROLS, 1)
    write_calibration(calibrate_store(store, controls), store.path)
    build_index(stream_store(store.path), folder / "index")
    return folder


@pytest.fixture(scope="module")
def snapshot(folder: Path) -> Snapshot:
    return load_snapshot(folder / "index")


def asked(evidence: Drawn | None) -> QueryFingerprint:
    """A query that is no song by its fingerprint, with this evidence."""
    made = query({c: vectors[0] for c, vectors in music(1, 70).items()})
    return replace(made, evidence=evidence)


def of(store: Store) -> list[Drawn]:
    return [vectors for _, vectors in store.evidence() if vectors is not None]


def parts(vectors: Drawn) -> dict[Compared, np.ndarray]:
    """By the definition: the first 224 numbers of a composition are harmony, the last 48 rhythm."""
    composition = vectors["composition"].astype(np.float64)
    halves = {"harmony": composition[:, :224], "rhythm": composition[:, 224:]}
    return {**vectors} | {name: of / np.linalg.norm(of, axis=1, keepdims=True) for name, of in halves.items()}


def brute(track: np.ndarray, song: np.ndarray) -> float:
    track, song = track.astype(np.float64), song.astype(np.float64)
    return float(np.mean([max(float(a @ b) for b in song) for a in track[asking(len(track))]]))


def test_half_of_the_chunks_ask_and_six_at_most() -> None:
    assert asking(1) == asking(2) == [0]
    assert asking(3) == [0, 2]
    assert asking(100) == [0, 20, 40, 59, 79, 99]
    for n in range(1, 361):
        assert len(set(asking(n))) == min(MAX_ASKING, (n + 1) // 2)


def test_noise_by_brute_force(folder: Path) -> None:
    store, controls = read_store(folder / "song"), read_store(folder / "control")
    shared = read_shared(folder / "song")
    assert shared is not None
    songs, others = of(store), of(controls)
    assert shared.songs["chunks"].to_pylist() == [len(one["sound"]) for one in songs]
    assert shared.basis.n_controls == N_CONTROLS
    noise = read_calibration(folder / "song").songs
    assert noise is not None
    references = np.flatnonzero(noise["reference"].to_numpy())
    assert shared.basis.n_references == len(references) > 10
    songs, others = [parts(one) for one in songs], [parts(one) for one in others]
    for name in COMPARED:
        within = np.array([[brute(songs[i][name], b[name]) for b in songs] for i in references])
        off = references[:, None] != np.arange(N_SONGS)
        hubs = within.mean(axis=0, where=off)
        np.testing.assert_allclose(shared.songs[f"{name}_hub"].to_numpy(), hubs, atol=1e-5)
        variance = (((within - hubs) ** 2) * off).sum() / (off.sum() - N_SONGS)
        assert shared.basis.noise[name].std == pytest.approx(variance**0.5, rel=1e-4)
        alike = (within - hubs)[off] >= 2 * variance**0.5
        assert shared.basis.noise[name].chance == pytest.approx(alike.mean(), abs=1e-9)
        best = sorted(max(brute(a[name], b[name]) - hub for b, hub in zip(songs, hubs, strict=True)) for a in others)
        np.testing.assert_allclose(shared.basis.noise[name].control_maxima, best[::-1], atol=1e-5)


def test_a_song_in_other_sound_shares_notes_alone(folder: Path, snapshot: Snapshot) -> None:
    song = of(read_store(folder / "song"))[7]
    unrelated = draw(np.random.default_rng(5), len(song["sound"]))
    report = attribute(asked({"composition": song["composition"], "sound": unrelated["sound"]}), snapshot)
    assert report.shared is not None
    listed = {candidate.song.song_id for channel in report.near_copies.values() for candidate in channel.candidates}
    assert [one.song_id for one in report.shared.songs] == sorted(listed)
    by_id = {one.song_id: one for one in report.shared.songs}
    found = by_id["song-0007"]
    assert found.shares == ("composition",)
    assert found.composition is not None
    assert found.composition.p_value == pytest.approx(1 / (N_CONTROLS + 1))
    assert found.composition.z > 5
    assert all(one.shares == () for song_id, one in by_id.items() if song_id != "song-0007")
    words = shared_words(report, "song-0007")
    assert words is not None
    assert words.startswith("shares notes (z ")
    assert words.endswith(", within chance")
    assert (shared_words(report, "song-0003") or "").endswith("within chance: right open")
    assert from_json(to_json(report)) == report


def test_numbers_of_a_report_by_brute_force(folder: Path, snapshot: Snapshot) -> None:
    evidence = draw(np.random.default_rng(6), 3)
    report = attribute(asked({name: rows[asking(3)] for name, rows in evidence.items()}), snapshot)
    shared, songs = read_shared(folder / "song"), of(read_store(folder / "song"))
    assert report.shared is not None
    assert shared is not None
    asking_parts, songs_parts = parts(evidence), [parts(one) for one in songs]
    for one in report.shared.songs[:4]:
        row = int(one.song_id[-4:])
        assert list(one.aspects) == list(report.shared.chance) == ["harmony", "rhythm", "timbre"]
        for name in COMPARED:
            noise = shared.basis.noise[name]
            likeness = brute(asking_parts[name], songs_parts[row][name]) - shared.songs[f"{name}_hub"][row].as_py()
            if name != "composition":
                z = one.aspects["timbre" if name == "sound" else name]
                assert z == pytest.approx(likeness / noise.std, abs=1e-3)
            if name not in EVIDENCE:
                continue
            found = getattr(one, name)
            assert found.z == pytest.approx(likeness / noise.std, abs=1e-3)
            assert found.p_value == pytest.approx((1 + sum(m >= likeness for m in noise.control_maxima)) / 46)


def test_parts_answer_as_the_whole_does(folder: Path, snapshot: Snapshot) -> None:
    asks = asked(draw(np.random.default_rng(8), 2))
    parts = [load_snapshot(folder / "index", Shard(i, i + 1, 2)) for i in range(2)]
    vectors = {c: of_channel.vector for c, of_channel in asks.channels.items()}
    nobody = load_snapshot(folder / "index", Shard(0, 0, 2))
    merged = together(nobody, [select(part, vectors, 256) for part in parts])
    assert attribute(asks, merged).shared == attribute(asks, snapshot).shared


def test_no_audio_and_no_evidence_say_so(snapshot: Snapshot, tmp_path: Path) -> None:
    report = attribute(asked(None), snapshot)
    assert report.shared is None
    assert '"shared"' not in to_json(report)
    assert shared_words(report, "song-0001") is None
    store, controls = (make_store(tmp_path, name, n, 3, evidence=False) for name, n in (("song", 12), ("control", 30)))
    write_calibration(calibrate_store(store, controls), store.path)
    assert not (store.path / SHARED_FILE).exists()
    made = CliRunner().invoke(app, ["index", str(store.path), "--out", str(tmp_path / "index")])
    assert (made.exit_code, "No shared evidence: reports will not say" in made.output) == (0, True)
    bare = load_snapshot(tmp_path / "index")
    assert bare.shared is None
    assert attribute(asked(draw(np.random.default_rng(0), 1)), bare).shared is None


def test_a_report_of_a_fingerprint_alone_is_verified_with_audio_too(snapshot: Snapshot) -> None:
    evidence = draw(np.random.default_rng(4), 2)
    for made in (attribute(asked(None), snapshot), attribute(asked(evidence), snapshot)):
        assert verify_query(made, asked(evidence), snapshot).result == "identical"


def test_a_table_of_a_store_has_its_evidence(folder: Path, tmp_path: Path) -> None:
    build = ["evidence", "build", str(folder / "song"), "--out", str(tmp_path / "t.parquet")]
    assert CliRunner().invoke(app, build).exit_code == 0
    table, songs = read_table(tmp_path / "t.parquet"), of(read_store(folder / "song"))
    assert table.song_ids == tuple(read_store(folder / "song").song_ids)
    for name in EVIDENCE:
        np.testing.assert_allclose(table.vectors[name][:, 0], np.concatenate([one[name] for one in songs]), atol=1e-3)
    refused = CliRunner().invoke(app, [*build, "--controls"])
    assert "give --controls a manifest" in str(refused.exception) + refused.output


def test_features_of_a_store_are_read_by_diagnose(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    assert CliRunner().invoke(app, ["evidence", "features", str(folder / "song"), "--out", str(out)]).exit_code == 0
    store = read_store(folder / "song")
    table = read_features(out, store.song_ids)
    assert {aspect: [one.name for one in found] for aspect, found in table.aspects.items()} == {
        "harmony": ["intervals", "progressions"],
        "rhythm": ["onsets"],
        "timbre": ["sound"],
    }
    rhythm = table.aspects["rhythm"][0]
    assert isinstance(rhythm, VectorFeature)
    expected = [parts(one)["rhythm"].mean(axis=0) for one in of(store)]
    np.testing.assert_allclose(rhythm.values_ND, expected, atol=1e-5)


def test_stores_of_before_keep_working(tmp_path: Path) -> None:
    store = make_store(tmp_path, "song", 12, 3)
    file = store.path / "data" / "part-0.parquet"
    pq.write_table(pq.read_table(file).drop_columns(list(EVIDENCE_COLUMNS)), file)
    assert [vectors for _, vectors in read_store(store.path).evidence()] == [None] * 12
    assert [vectors for _, vectors in stream_store(store.path).evidence()] == [None] * 12


def test_controls_of_before_leave_rights_open(tmp_path: Path) -> None:
    store, controls = make_store(tmp_path, "song", 12, 3), make_store(tmp_path, "control", 30, 4, evidence=False)
    write_calibration(calibrate_store(store, controls), store.path)
    snapshot = load_snapshot(build_index(store, tmp_path / "index"))
    report: Report = attribute(asked(of(store)[2]), snapshot)
    assert report.shared is not None
    found = {one.song_id: one for one in report.shared.songs}["song-0002"]
    assert found.sound is not None
    assert (found.sound.p_value, found.shares, report.shared.resolution) == (None, (), None)
    assert (shared_words(report, "song-0002") or "").endswith("not judged: right open")


def test_p_values_of_unrelated_music_are_exact() -> None:
    """Over draws of everything, p ≤ 0.1 for the best song of one unrelated track in ten."""
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        songs, tracks = ([rng.normal(size=(2, 8)) for _ in range(n)] for n in (5, 30))
        songs, tracks = ([one / np.linalg.norm(one, axis=1, keepdims=True) for one in of] for of in (songs, tracks))
        within = similarities(songs, songs)
        hubs = within.mean(axis=0, where=~np.eye(5, dtype=bool))
        best = (similarities(tracks, songs) - hubs).max(axis=1)
        alarms += (1 + int((best[1:] >= best[0]).sum())) / 30 <= 0.1
    assert binomtest(alarms, 300, 0.1).pvalue > 0.01


def test_damaged_evidence_is_refused(tmp_path: Path) -> None:
    row = to_columns(draw(np.random.default_rng(1), 2))
    assert from_columns(row | {"evidence_version": "0 earlier"}) is None
    for change in ({"sound": b"abc"}, {"sound": row["sound"][:64]}, {"sound": bytes(128)}, {"composition": None}):
        with pytest.raises(StoreError, match="damaged evidence"):
            from_columns(row | change)
    (tmp_path / SHARED_FILE).write_bytes(b"no Parquet")
    with pytest.raises(StoreError, match="lumina calibrate"):
        read_shared(tmp_path)


def test_too_few_songs_have_no_noise(tmp_path: Path) -> None:
    store, controls = make_store(tmp_path, "song", 9, 3), make_store(tmp_path, "control", 30, 4)
    found: Shared | None = measure_shared(store, np.arange(9), np.arange(9), controls, np.arange(30), ("a", "b"))
    assert found is None
