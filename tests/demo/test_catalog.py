"""The demo catalog: the table of songs as a whole, and a few of its songs really rendered."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.demo.catalog import build_demo_catalog, make_song
from lumina_ray.demo.render import trim
from lumina_ray.demo.scores import arrange_band, arrange_score, wad_music
from lumina_ray.demo.songs import DemoSong, demo_songs
from lumina_ray.errors import UsageError
from lumina_ray.files import sha256_of
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

SONGS = {song.song_id: song for song in demo_songs()}
SAMPLE = tuple(
    SONGS[song_id] for song_id in ("freedoom-e1m1", "bach-bwv39-7", "freedoom-map03", "ace-step-calm-acoustic-s411")
)

CAPTIONS = {
    "freedoom-e1m1": "fast metal level music, guitar, bass, synth, drums",
    "bach-bwv39-7": "medium baroque chorale, bells, piano, drums",
    "freedoom-map03": "medium metal level music, guitar, strings, bass, drums",
    "ace-step-calm-acoustic-s411": "acoustic music",
}

FREEDOOM_MUSICIANS = (
    *(
        "Astartes",
        "Aubourg",
        "Bassett",
        "Blastfrog",
        "continuum.mid",
        "Discoholic",
        "Emerson",
        "Goji",
        "Harvey",
        "jute",
    ),
    *(
        "jute",
        "Korp",
        "Martins",
        "Matzu",
        "McGill-Smith",
        "MoonDeLaAxel",
        "Pantella",
        "Proxy-MIDI",
        "Scragadelic",
        "Stratos",
    ),
    "ZeMystic",
)


def people(song: DemoSong) -> set[str]:
    """The names of all who wrote or arranged a song, or are quoted in it."""
    if song.kind != "freedoom":
        return {song.creator}
    named = {name for name in FREEDOOM_MUSICIANS if name in song.creator}
    assert named, song
    return named


def test_the_table_is_large_enough_and_its_ids_are_unique() -> None:
    songs = demo_songs()
    assert len(SONGS) == len(songs)
    assert sum(song.part == "catalog" for song in songs) == 136
    assert sum(song.part == "controls" for song in songs) == 53
    assert sum(song.part == "queries" for song in songs) == 10
    assert len({song.ref for song in songs}) == len(songs)
    assert all(song.title and song.creator and song.licence and song.source for song in songs)


def test_no_composer_is_in_both_catalog_and_controls() -> None:
    catalog = set().union(*(people(song) for song in demo_songs() if song.part == "catalog"))
    controls = set().union(*(people(song) for song in demo_songs() if song.part == "controls"))
    assert not catalog & controls
    assert {"Korp", "Harvey", "Johann Sebastian Bach"} <= catalog
    assert {"continuum.mid", "Joseph Haydn", "Blastfrog"} <= controls


def test_both_sides_have_bands_and_scores() -> None:
    for part in ("catalog", "controls"):
        kinds = [song.kind for song in demo_songs() if song.part == part]
        assert 0.3 < kinds.count("freedoom") / len(kinds) < 0.5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    steps: list[tuple[int, int, str]] = []
    result = build_demo_catalog(out, lambda *step: steps.append(step), songs=SAMPLE)
    assert (result.n_catalog, result.n_controls, result.n_queries, result.n_rendered) == (2, 1, 1, 4)
    assert [done for done, _, _ in steps] == [1, 2, 3, 4]
    assert {label for _, _, label in steps} == {song.song_id for song in SAMPLE}
    return out


def test_songs_are_audible_and_in_the_agreed_format(built: Path) -> None:
    for song in SAMPLE:
        info = soundfile.info(built / song.audio_path)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (32_000, 1, "FLAC", "PCM_16")
        assert info.duration == pytest.approx(20.0)
        samples, _ = soundfile.read(built / song.audio_path)
        peak_dbfs = 20 * np.log10(np.abs(samples).max())
        assert -9.01 <= peak_dbfs <= -0.99
        for start in range(0, len(samples), 10 * SAMPLE_RATE_HZ):
            chunk = samples[start : start + 10 * SAMPLE_RATE_HZ]
            assert 20 * np.log10(np.sqrt(np.mean(chunk**2))) > -45


def test_manifests_name_what_was_made(built: Path) -> None:
    rows = [
        row
        for part in ("catalog", "controls", "queries")
        for row in read_manifest(built / f"{part}.parquet").to_pylist()
    ]
    assert [row["song_id"] for row in rows] == [song.song_id for song in SAMPLE]
    for row in rows:
        song = SONGS[row["song_id"]]
        assert (row["title"], row["creator"], row["licence"]) == (song.title, song.creator, song.licence)
        assert row["duration_s"] == 20.0
        assert row["caption"] == CAPTIONS[song.song_id]
        assert row["sha256"] == sha256_of(Path(row["path"]))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_music(built: Path, tmp_path: Path) -> None:
    band, score = SAMPLE[:2]
    for song in (band, score):
        assert make_song(song, tmp_path / "again", 0)["sha256"] == sha256_of(built / song.audio_path)
    assert make_song(band, tmp_path / "other", 1)["sha256"] != sha256_of(built / band.audio_path)


def test_a_damaged_or_missing_song_is_made_again_and_nothing_else(built: Path) -> None:
    before = {song.song_id: (built / song.audio_path).read_bytes() for song in SAMPLE}
    assert build_demo_catalog(str(built), songs=SAMPLE).n_rendered == 0
    damaged, missing = built / SAMPLE[0].audio_path, built / SAMPLE[3].audio_path
    damaged.write_bytes(damaged.read_bytes()[:1000])
    missing.unlink()
    assert build_demo_catalog(built, songs=SAMPLE).n_rendered == 2
    assert {song.song_id: (built / song.audio_path).read_bytes() for song in SAMPLE} == before
    assert not [path for path in built.rglob("*") if path.name.startswith(".")]


def test_a_song_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    song = DemoSong("catalog", "freedoom", "freedoom1.wad:D_NONE", "no-such-song", "None", "Nobody")
    with pytest.raises(UsageError, match=r"no-such-song cannot be made from Freedoom .*D_NONE.*uv sync --extra demo"):
        make_song(song, tmp_path, 0)
    with pytest.raises(UsageError, match="no-such-song"):
        build_demo_catalog(tmp_path, songs=(song,))
    assert not list(tmp_path.rglob("*.flac"))


def test_a_missing_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lumina_ray.demo.catalog.PACKAGES", {"freedoom": ("no-such-package",)})
    with pytest.raises(UsageError, match="'no-such-package', which is not installed: run `uv sync --extra demo`"):
        build_demo_catalog(tmp_path, songs=SAMPLE[:1])


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be a folder"):
        build_demo_catalog(tmp_path / "file", songs=SAMPLE[:1])


def test_quiet_beginnings_are_cut_away() -> None:
    rng = np.random.default_rng(0)
    noise = 0.2 * rng.standard_normal(30 * SAMPLE_RATE_HZ)
    noise[: 3 * SAMPLE_RATE_HZ] *= 1e-3
    noise[SAMPLE_RATE_HZ] = 1.0  # a click does not make a beginning
    assert np.array_equal(trim(noise), noise[3 * SAMPLE_RATE_HZ : 23 * SAMPLE_RATE_HZ])
    with pytest.raises(ValueError, match=r"only 10\.0 s sound"):
        trim(noise[: 13 * SAMPLE_RATE_HZ])
    with pytest.raises(ValueError, match="silent"):
        trim(np.zeros(30 * SAMPLE_RATE_HZ))


def test_music_is_found_in_a_wad(tmp_path: Path) -> None:
    midi, other = b"MThd and more", b"graphics"
    directory = struct.pack("<ii8s", 12, len(midi), b"D_ONE") + struct.pack("<ii8s", 25, len(other), b"TITLEPIC")
    wad = tmp_path / "small.wad"
    wad.write_bytes(struct.pack("<4sii", b"IWAD", 2, 12 + len(midi) + len(other)) + midi + other + directory)
    assert wad_music(wad) == {"D_ONE": midi}


def test_parts_get_channels_and_instruments_of_their_own() -> None:
    mido = pytest.importorskip("mido")
    midi = mido.MidiFile(ticks_per_beat=480)
    for pitch in (72, 40):
        track = mido.MidiTrack()
        track.append(mido.Message("program_change", program=52, time=5))
        for _ in range(8):
            track.append(mido.Message("note_on", note=pitch, velocity=90, time=0))
            track.append(mido.Message("note_off", note=pitch, time=480))
        midi.tracks.append(track)
    length_s = midi.length
    arranged = arrange_score(midi, random.Random(3))
    messages = [message for track in arranged.tracks for message in track]
    programs = {message.channel for message in messages if message.type == "program_change"}
    notes = {(message.note, message.channel) for message in messages if message.type == "note_on"}
    assert programs == {0, 1}
    assert {(72, 0), (40, 1)} <= notes
    assert {channel for _, channel in notes} <= {0, 1, 9}
    assert arranged.length == pytest.approx(length_s, abs=0.6)


def test_a_band_keeps_its_families_and_its_drums() -> None:
    mido = pytest.importorskip("mido")
    for seed in range(20):
        track = mido.MidiTrack(
            [
                mido.Message("program_change", program=33, channel=2),
                mido.Message("program_change", program=47, channel=3),
                mido.Message("program_change", program=8, channel=9),
            ]
        )
        arranged = arrange_band(mido.MidiFile(tracks=[track]), random.Random(seed))
        bass, timpani, kit = (message.program for message in arranged.tracks[0])
        assert (bass // 8, timpani, kit) == (4, 47, 8)
