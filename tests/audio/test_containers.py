"""Every format: the content decides, the whole file or an error, and no file that was cut passes for a whole one."""

import functools
import io
import re
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lumina_ray.audio import Audio, load_audio, load_chunks
from lumina_ray.audio.containers import frames
from lumina_ray.audio.source import whole as whole_view
from lumina_ray.audio.view import View
from lumina_ray.catalog import decode_rows
from lumina_ray.catalog.manifest import manifest_of
from lumina_ray.catalog.scan import read_header
from lumina_ray.errors import AudioError
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, AudioStream
from tests.audio.formats import (
    DURATION_S,
    PROMISING,
    RATE_HZ,
    SILENT,
    file_of,
    music,
    with_ffmpeg,
    with_sndfile,
)
from tests.s3 import S3

ID3 = b"ID3\x03\0\0\0\0\x20\0" + bytes(4096)
# Footer alone: no items.
APE_TAG = b"APETAGEX" + struct.pack("<4I8x", 2000, 32, 0, 0)
NAMES = "wav mp3 raw vox gsm snd m4a flac txt jpg sd2 m3u8 ffconcat"
SUFFIXES = ["", *(f".{name}" for name in NAMES.split())]
REFUSED_TWICE = ("wav", "w64", "aiff", "au", "caf", "flac", "m4a", "mka", "tta", "wavpack", "flv", "wma")
# Nothing in these says how long they are.
UNTOLD = ("piped flac", "piped mka", "piped wma")


def outcome(source: bytes | Path) -> Audio | str:
    """The audio, or the code of what it is refused for."""
    try:
        return load_audio(source, name="x")
    except AudioError as error:
        return error.code


def same(first: Audio | str, second: Audio | str) -> bool:
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    return first.sha256 == second.sha256 and np.array_equal(first.samples, second.samples)


def refused(data: bytes) -> tuple[str, str]:
    with pytest.raises(AudioError) as caught:
        load_audio(data)
    return caught.value.code, str(caught.value)


def pitch_hz(samples: np.ndarray) -> float:
    """The frequency of the strongest tone."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * SAMPLE_RATE_HZ / len(samples))


@pytest.mark.parametrize("name", [*PROMISING, *SILENT])
def test_a_file_is_the_same_audio_under_every_name(tmp_path: Path, name: str) -> None:
    audio = load_audio(file_of(name))
    assert audio.duration_s == pytest.approx(DURATION_S, abs=0.05)
    assert np.sqrt(np.mean(audio.samples**2)) == pytest.approx(0.15, rel=0.1)
    assert audio.stream is None
    for number, suffix in enumerate(SUFFIXES):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(file_of(name))
        assert same(load_audio(path), audio), suffix
    duration_s = read_header(path).duration_s
    if name in UNTOLD:
        assert duration_s is None
    else:
        assert duration_s == pytest.approx(audio.duration_s, abs=0.05)


@pytest.mark.parametrize("name", PROMISING)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_is_refused_as_truncated(name: str, part: float) -> None:
    whole = file_of(name)
    code, message = refused(whole[: int(len(whole) * part)])
    assert code == "audio.truncated"
    assert message.startswith("upload: truncated: ")
    assert message.endswith("; fetch it again")


@pytest.mark.parametrize("name", SILENT)
def test_a_file_that_promises_nothing_is_read_to_its_end_or_refused(name: str) -> None:
    whole = file_of(name)
    half = outcome(whole[: len(whole) // 2])
    assert isinstance(half, str) or half.duration_s == pytest.approx(DURATION_S / 2, abs=0.1)


@pytest.mark.parametrize("name", ["wav", "m4a", "ogg"])
def test_a_bucket_is_another_way_in(s3: S3, name: str) -> None:
    place = s3.path(f"containers/{name}.vox")
    place.write_bytes(file_of(name))
    assert same(load_audio(place), load_audio(file_of(name)))
    assert read_header(place).duration_s == pytest.approx(DURATION_S, abs=0.05)


@pytest.mark.parametrize("name", [b"clip.raw", b"a:b.m4a", b"caf\xe9.wav", b"new\nline.wav", b"-x.wav", b"pipe:0"])
def test_no_name_is_a_traceback(tmp_path: Path, name: bytes) -> None:
    path = Path((bytes(tmp_path) + b"/" + name).decode(errors="surrogateescape"))
    try:
        path.write_bytes(file_of("wav"))
    except OSError:
        pytest.skip("this file system has no such names")
    assert load_audio(path).duration_s == DURATION_S
    assert read_header(path).duration_s == DURATION_S
    path.write_bytes(b"no audio")
    with pytest.raises(AudioError) as caught:
        load_audio(path)
    str(caught.value).encode()
    assert read_header(path).duration_s is None


@pytest.mark.parametrize("name", ["nul\0.wav", "\ud800.wav", "."])
def test_a_name_that_no_file_has_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError) as caught:
        load_audio(tmp_path / name)
    str(caught.value).encode()
    assert read_header(tmp_path / name).duration_s is None


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0xFFFFFFDB])
def test_a_length_that_stands_for_unknown_is_a_whole_file(size: int) -> None:
    whole = file_of("wav")
    at = whole.index(b"data") + 4
    streamed = whole[:at] + size.to_bytes(4, "little") + whole[at + 4 :]
    assert np.array_equal(load_audio(streamed).samples, load_audio(whole).samples)


def cut_out(data: bytes) -> bytes:
    return data[: len(data) // 2] + data[len(data) // 2 + 20_000 :]


def zeroed(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(20_000) + data[len(data) // 2 + 20_000 :]


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


@pytest.mark.parametrize("damage", [cut_out, zeroed, flipped])
@pytest.mark.parametrize("name", ["flac", "flac 24", "ogg", "opus", "ogg flac"])
def test_a_hole_is_refused(name: str, damage) -> None:
    assert refused(damage(file_of(name)))[0] == "audio.truncated"


def test_flac_is_compared_with_its_md5() -> None:
    data = bytearray(file_of("flac"))
    data[26] ^= 1
    code, message = refused(bytes(data))
    assert code == "audio.truncated"
    assert "MD5" in message
    data[26:42] = bytes(16)
    assert np.array_equal(load_audio(bytes(data)).samples, load_audio(file_of("flac")).samples)


def joined_files() -> dict[str, tuple[bytes, float]]:
    short = with_sndfile(music(duration_s=2.0), "MP3", None)
    headless = with_ffmpeg([music(duration_s=2.0)], "mp3", "libmp3lame", options={"write_xing": "0"})
    other_rate = with_sndfile(music(duration_s=2.0, rate_hz=48_000), "MP3", None, 48_000)
    mono = with_sndfile(music(1, 2.0), "MP3", None)
    mp3, ogg, opus = file_of("mp3"), file_of("ogg"), file_of("opus")
    adts = with_ffmpeg([music(1, 2.0, 48_000)], "adts", "aac", rate_hz=48_000)
    ogg_48 = with_sndfile(music(1, 2.0, 48_000), "OGG", "VORBIS", 48_000)
    return {
        "mp3": (mp3 + short, 5.0),
        "mp3 and one without a header": (mp3 + headless, 5.05),
        "mp3 with tags between": (mp3 + b"TAG" + bytes(125) + ID3 + short, 5.0),
        "mp3 of two rates": (mp3 + other_rate, 5.0),
        "mp3, stereo then mono": (mp3 + mono, 5.0),
        "mp3 after an error page": (b"<html>" * 50 + mp3, 3.0),
        "ogg": (ogg + ogg, 6.0),
        "ogg of two rates": (ogg + ogg_48, 5.0),
        "opus": (opus + opus, 6.0),
        "ogg and opus": (ogg + opus, 6.0),
        "ogg with a tag behind": (ogg + b"TAG" + bytes(125), 3.0),
        "wavpack with a tag behind": (file_of("wavpack") + b"TAG" + bytes(125), 3.0),
        "wavpack with its own tag": (file_of("wavpack") + APE_TAG, 3.0),
        "wavpack with zeros behind": (file_of("wavpack") + bytes(40), 3.0),
        "aac of two rates": (file_of("aac") + adts, 5.07),
        "aac after an error page": (b"<html>" * 50 + file_of("aac"), 3.04),
        "tagged flac": (ID3 + file_of("flac") + b"TAG" + bytes(125), 3.0),
    }


@pytest.mark.parametrize("name", joined_files())
def test_joined_files_are_decoded_whole_and_at_the_right_pitch(name: str) -> None:
    data, duration_s = joined_files()[name]
    audio = load_audio(data)
    assert audio.duration_s == pytest.approx(duration_s, abs=0.06)
    quarter = len(audio.samples) // 4
    for stretch in (audio.samples[:quarter], audio.samples[-quarter:]):
        # The tones of the two channels.
        assert min(abs(pitch_hz(stretch) - tone) for tone in (440, 440 * 4 / 3)) < 2


@pytest.mark.parametrize("name", REFUSED_TWICE)
def test_joined_files_that_cannot_be_decoded_whole_are_refused(name: str) -> None:
    assert refused(file_of(name) * 2)[0] == "audio.undecodable"


def test_a_chained_ogg_that_lost_the_first_page_of_a_link_is_not_whole() -> None:
    ogg = file_of("ogg")
    assert refused(ogg + ogg[ogg.index(b"OggS", 4) :])[0] == "audio.truncated"


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("codec", ["flac", "aac"])
def test_a_matroska_with_a_hole_is_not_whole(codec: str, streams: int) -> None:
    whole = with_ffmpeg([music()] * streams, "matroska", codec)
    assert load_audio(whole).duration_s == pytest.approx(3.0, abs=0.1)
    third, quarter = len(whole) // 3, len(whole) // 4
    assert refused(whole[:third] + bytes(quarter) + whole[third + quarter :])[0] == "audio.truncated"


def holed(data: bytes) -> bytes:
    """A file of which a sixth was never fetched."""
    begin, n = len(data) // 3, len(data) // 6
    return data[:begin] + bytes(n) + data[begin + n :]


def without_promise() -> dict[str, bytes]:
    mp3 = with_ffmpeg([music()], "mp3", "libmp3lame", options={"write_xing": "0"})
    return {"mp3": mp3, "aac": file_of("aac"), "piped flac": file_of("piped flac")}


@pytest.mark.parametrize("name", ["mp3", "aac", "piped flac"])
def test_a_hole_is_seen_where_nothing_is_promised(name: str) -> None:
    whole = without_promise()[name]
    assert load_audio(whole).duration_s == pytest.approx(3.0, abs=0.1)
    assert refused(holed(whole))[0] == "audio.truncated"
    begin, n = len(whole) // 3, len(whole) // 6
    if name == "piped flac":
        assert refused(whole[:begin] + whole[begin + n :])[0] == "audio.truncated"


@pytest.mark.parametrize(
    ("first", "second"),
    [("mp3", "aac"), ("aac", "mp3"), ("mp3", "ogg"), ("mp3", "m4a"), ("ogg", "mp3"), ("wav", "mp3")],
)
def test_files_of_different_formats_joined_are_refused(first: str, second: str) -> None:
    assert refused(file_of(first) + file_of(second))[0] == "audio.undecodable"


def caf_to_the_end() -> bytes:
    """Compressed sound in a chunk of length -1, behind the table of its packets."""
    whole = file_of("caf alac")
    at = whole.index(b"data") + 4
    return whole[:at] + b"\xff" * 8 + whole[at + 8 :]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_the_table_of_packets_tells_how_long_a_caf_is(part: float) -> None:
    whole = caf_to_the_end()
    assert np.array_equal(load_audio(whole).samples, load_audio(file_of("caf alac")).samples)
    assert refused(whole[: int(len(whole) * part)])[0] == "audio.truncated"


def test_a_table_of_packets_is_compared_with_what_is_decoded() -> None:
    whole = bytearray(file_of("caf alac"))
    at = whole.index(b"pakt") + 20
    whole[at : at + 8] = (2 * RATE_HZ * int(DURATION_S)).to_bytes(8, "big")
    code, message = refused(bytes(whole))
    assert code == "audio.truncated"
    assert "promises 6.0 s" in message


# Where a header counts the bytes of sound: a mark, how far behind it, the number's width and order, and what is counted
# apart from the sound.
COUNTED: dict[str, tuple[bytes, int, int, Literal["little", "big"], int]] = {
    "wav": (b"data", 0, 4, "little", 0),
    "rf64": (b"ds64", 12, 8, "little", 0),
    "w64": (bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"), 0, 8, "little", 24),
    "aiff": (b"SSND", 0, 4, "big", 8),
    "aifc": (b"SSND", 0, 4, "big", 8),
    "au": (b".snd", 4, 4, "big", 0),
    "caf": (b"data", 0, 8, "big", 4),
}


def with_stale_length(name: str, data: bytes, counted: int) -> bytes:
    """A file whose recorder died after it last wrote its header, when it had so many bytes of sound."""
    mark, behind, width, order, more = COUNTED[name]
    at = data.index(mark) + len(mark) + behind
    data = data[:at] + (counted + more).to_bytes(width, order) + data[at + width :]
    if name in ("aiff", "aifc"):
        at = data.index(b"COMM") + 10
        data = data[:at] + (counted // (4 if name == "aiff" else 8)).to_bytes(4, "big") + data[at + 4 :]
    return data


@settings(max_examples=40)
@given(st.sampled_from([*COUNTED]), st.floats(0.0, 0.9), st.booleans())
def test_sound_that_a_header_does_not_count_is_not_left_out(name: str, part: float, quiet: bool) -> None:
    # Of a stretch of silence, too, it is known that sound may follow.
    sound = np.zeros((RATE_HZ * 3, 2), np.float32) if quiet else music()
    sound[-RATE_HZ // 2 :] = music(duration_s=0.5)
    kinds = {"aifc": ("AIFF", "FLOAT")}
    whole = with_sndfile(sound, *kinds.get(name, (name.upper(), "PCM_16")))
    assert load_audio(whole).duration_s == pytest.approx(DURATION_S)
    counted = max(int(RATE_HZ * DURATION_S * part) * (8 if name == "aifc" else 4), 8)
    code, message = refused(with_stale_length(name, whole, counted))
    assert code == "audio.undecodable"
    assert "its header counts its sound up to byte" in message


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("behind", [bytes(300_000), ID3, b"TAG" + bytes(125), b"\x01" * 60])
def test_zeros_tags_and_a_few_bytes_may_lie_behind_what_is_counted(name: str, behind: bytes) -> None:
    assert np.array_equal(load_audio(file_of(name) + behind).samples, load_audio(file_of(name)).samples)


def live(container: str, codec: str, rate_hz: int = RATE_HZ, **options: str) -> bytes:
    return with_ffmpeg(
        [music(duration_s=6.0, rate_hz=rate_hz)], container, codec, rate_hz=rate_hz, piped=True, options=options
    )


def _clusters(data: bytes) -> list[int]:
    return [found.start() for found in re.finditer(rb"\x1f\x43\xb6\x75", data)]


def _fragments(data: bytes) -> list[int]:
    return [found.start() - 4 for found in re.finditer(b"moof", data)]


def _tags(data: bytes) -> list[int]:
    begins, at = [], 13
    while at < len(data):
        begins.append(at)
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
    # The first ones describe the sound.
    return begins[3:]


def _every(n_bytes: int, first: int = 0) -> Callable[[bytes], list[int]]:
    return lambda data: list(range(first, len(data), n_bytes))


# What says when it is played, and where its pieces begin.
TIMED: dict[str, tuple[Callable[[], bytes], Callable[[bytes], list[int]]]] = {
    "matroska": (lambda: live("matroska", "aac", live="1", cluster_time_limit="300"), _clusters),
    "webm": (lambda: live("webm", "libopus", 48_000, live="1", cluster_time_limit="300"), _clusters),
    "fragments": (
        lambda: live("mp4", "aac", movflags="empty_moov+default_base_moof", frag_duration="300000"),
        _fragments,
    ),
    "flv": (lambda: live("flv", "aac"), _tags),
    "mpegts": (lambda: live("mpegts", "aac"), _every(188)),
    "mpegts near the end of its clock": (lambda: live("mpegts", "mp2", output_ts_offset="95441"), _every(188)),
    "mpeg": (lambda: live("mpeg", "mp2"), _every(2048)),
}


@functools.cache
def timed_file(name: str) -> tuple[bytes, float, tuple[int, ...]]:
    make, pieces = TIMED[name]
    data = make()
    return data, load_audio(data).duration_s, tuple(pieces(data))


@settings(max_examples=40)
@given(st.sampled_from([*TIMED]), st.data())
def test_pieces_that_are_missing_in_the_middle_leave_a_hole_in_time(name: str, data: st.DataObject) -> None:
    whole, duration_s, begins = timed_file(name)
    assert duration_s == pytest.approx(6.0, abs=0.1)
    # What is lost in the end, nobody can tell.
    first = data.draw(st.integers(len(begins) // 10 + 1, len(begins) * 3 // 5))
    last = data.draw(st.integers(first + 1, len(begins) * 4 // 5))
    found = outcome(whole[: begins[first]] + whole[begins[last] :])
    if isinstance(found, str):
        assert found in ("audio.truncated", "audio.undecodable")
    else:
        assert found.duration_s > duration_s - 0.25


def test_the_place_of_a_hole_is_named() -> None:
    whole, _, begins = timed_file("webm")
    _, message = refused(whole[: begins[10]] + whole[begins[14] :])
    assert "1.2 s are missing after 3.0 s of sound" in message


def test_a_clock_that_starts_anywhere_or_is_set_back_is_no_hole() -> None:
    late = live("mpegts", "mp2", output_ts_offset="5000")
    assert load_audio(late).duration_s == pytest.approx(6.0, abs=0.1)
    assert load_audio(late + live("mpegts", "mp2")).duration_s == pytest.approx(12.0, abs=0.1)


@settings(max_examples=40)
@given(st.sampled_from(["mp3", "mp3 of lame", "mp3 without a header", "mp2", "aac"]), st.data())
def test_frames_follow_each_other_wherever_some_are_missing(name: str, data: st.DataObject) -> None:
    whole = file_of(name)
    at = data.draw(st.integers(250, len(whole) * 2 // 3))
    n = data.draw(st.integers(2000, len(whole) // 4))
    found = outcome(whole[:at] + whole[at + n :])
    if isinstance(found, str):
        assert found in ("audio.truncated", "audio.undecodable")
    else:
        # Frames of nearly one length fit by chance where nothing says how many there are.
        assert name in ("mp3 without a header", "mp2")
        assert abs((n + 209) % 417.96 - 209) < 8


def test_a_few_bytes_between_frames_are_no_hole() -> None:
    whole = file_of("aac")
    padded, number = b"", 0
    while whole:
        n = int.from_bytes(whole[3:6], "big") >> 5 & 0x1FFF
        number += 1
        padded += whole[:n] + bytes(2 * (number % 20 == 0))
        whole = whole[n:]
    assert np.array_equal(load_audio(padded).samples, load_audio(file_of("aac")).samples)


@pytest.mark.parametrize(("name", "n"), [("piped flac", 100_000), ("piped flac", 180_000), ("piped wavpack", 20_000)])
@pytest.mark.parametrize("begin", [0.03, 0.1, 0.3, 0.5])
def test_blocks_with_numbers_show_a_hole_where_their_number_is_not_stated(name: str, n: int, begin: float) -> None:
    whole = file_of(name)
    at = int(len(whole) * begin)
    for data in (whole[:at] + whole[at + n :], whole[:at] + bytes(n) + whole[at + n :]):
        # A decoder may give up before the hole is seen.
        assert outcome(data) in ("audio.truncated", "audio.undecodable")


def test_zeros_in_the_place_of_a_flv_s_tags_are_a_hole() -> None:
    whole = file_of("flv")
    at = _tags(whole)[100]
    assert refused(whole[:at] + bytes(len(whole) - at))[0] == "audio.truncated"


def test_a_flv_is_compared_with_what_is_decoded() -> None:
    whole = file_of("flv")
    tags = _tags(whole)
    # The stated length and the last tag's time remain.
    code, message = refused(whole[: tags[40]] + whole[tags[-1] :])
    assert code == "audio.truncated"
    assert "are missing" in message
    # Less than what is left to pictures that go on after the sound.
    assert refused(whole[: tags[-30]])[0] == "audio.truncated"


def test_what_is_no_frame_is_not_searched_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0

    def parse(head: bytes) -> frames.Frame | None:
        nonlocal parsed
        parsed += 1
        return frames.parse_adts(head)

    # Each fourth byte looks like the beginning of a frame.
    junk = io.BytesIO(file_of("aac") + b"\xff\xf1\x50\x80" * (1 << 19))
    with pytest.raises(AudioError, match="behind its last frame are none"):
        list(frames._walk(whole_view(junk), parse, "x"))
    assert parsed < 100_000


def _extended(rate_hz: int) -> bytes:
    """The first six bytes of an 80-bit float."""
    bits = rate_hz.bit_length()
    return struct.pack(">HI", 16383 + bits - 1, rate_hz << 32 - bits)


# How a format writes its sample rate.
RATED: dict[str, Callable[[int], bytes]] = {
    "wav": lambda rate_hz: struct.pack("<I", rate_hz),
    "wav adpcm": lambda rate_hz: struct.pack("<I", rate_hz),
    "w64": lambda rate_hz: struct.pack("<I", rate_hz),
    "tta": lambda rate_hz: struct.pack("<I", rate_hz),
    "au": lambda rate_hz: struct.pack(">I", rate_hz),
    "aiff": _extended,
    "aifc": _extended,
    "caf": lambda rate_hz: struct.pack(">d", rate_hz),
    "caf alac": lambda rate_hz: struct.pack(">d", rate_hz),
}


@pytest.mark.parametrize("rate_hz", [0, 1, 999, 3_000_001, 4_000_000_000])
@pytest.mark.parametrize("name", RATED)
def test_sample_rates_have_bounds_and_the_refusal_names_them(name: str, rate_hz: int) -> None:
    data = file_of(name)
    assert RATED[name](RATE_HZ) in data
    code, message = refused(data.replace(RATED[name](RATE_HZ), RATED[name](rate_hz), 1))
    assert code == "audio.undecodable"
    assert f"a sample rate of {rate_hz} Hz, outside of 1000 to 3000000 Hz" in message


@pytest.mark.parametrize("rate_hz", [1, 999, 3_000_001])
def test_sample_rates_that_a_decoder_finds_have_the_same_bounds(rate_hz: int) -> None:
    data = with_ffmpeg([music()], "matroska", "pcm_s16le")
    code, message = refused(data.replace(struct.pack(">d", RATE_HZ), struct.pack(">d", rate_hz)))
    assert code == "audio.undecodable"
    assert f"a sample rate of {rate_hz} Hz, outside of 1000 to 3000000 Hz" in message


def test_sound_behind_the_sixteenth_stream_is_not_passed_over() -> None:
    sound, silence = music(1, 0.5), np.zeros_like(music(1, 0.5))
    code, message = refused(with_ffmpeg([silence] * 16 + [sound], "matroska", "flac"))
    assert code == "audio.undecodable"
    assert "none of its 17 audio streams is the default, and the first 16 have no sound" in message
    audio = load_audio(with_ffmpeg([silence] * 15 + [sound] * 2, "matroska", "flac"))
    assert str(audio.stream) == "16 of 17, the first with sound"
    audio = load_audio(with_ffmpeg([silence] * 16 + [sound], "matroska", "flac", default=16))
    assert str(audio.stream) == "17 of 17, the default"


def test_sound_that_the_header_of_a_wav_does_not_count_is_not_left_out() -> None:
    """A recorder that dies after it last wrote its header leaves such a file."""
    whole = with_sndfile(music(), "WAV", "PCM_16")
    at = whole.index(b"data") + 4
    (n_bytes,) = struct.unpack("<I", whole[at : at + 4])
    assert outcome(whole[:at] + struct.pack("<I", n_bytes // 3 // 4 * 4) + whole[at + 4 :]) == "audio.undecodable"
    assert outcome(whole + _riff_chunk(b"data", whole[at + 4 :])) == "audio.undecodable"
    assert isinstance(outcome(whole + b"ID3\x03" + bytes(range(256)) * 400), Audio)


def test_a_length_in_ds64_that_nobody_wrote_is_unknown() -> None:
    rf64 = bytearray(with_sndfile(music(), "RF64", "PCM_16"))
    at = rf64.index(b"ds64") + 8
    rf64[at : at + 24] = b"\xff" * 24
    assert load_audio(bytes(rf64)).duration_s == pytest.approx(3.0)


def _riff_chunk(name: bytes, body: bytes) -> bytes:
    return name + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


@pytest.mark.parametrize("tags", [b"", _riff_chunk(b"LIST", b"INFO" + bytes(9000)), _riff_chunk(b"id3 ", bytes(401))])
def test_a_second_wav_is_seen_behind_the_tags_of_the_first(tags: bytes) -> None:
    wav = with_sndfile(music(), "WAV", "PCM_16")
    assert isinstance(outcome(wav + tags), Audio)
    assert outcome(wav + tags + wav) == "audio.undecodable"


def test_tags_behind_no_sound_are_no_sound() -> None:
    empty = with_sndfile(music()[:0], "WAV", "PCM_16")
    assert outcome(empty + _riff_chunk(b"id3 ", bytes(range(256)) * 1000)) == "audio.empty"


def test_a_radio_recording_is_as_long_as_its_sound() -> None:
    """A station's Ogg pages count from when the station began."""
    ogg, later = bytearray(file_of("ogg")), 10 * 3600 * 44_100
    at = 0
    while (at := ogg.find(b"OggS", at)) >= 0:
        position = int.from_bytes(ogg[at + 6 : at + 14], "little")
        if 0 < position < 1 << 62:
            ogg[at + 6 : at + 14] = (position + later).to_bytes(8, "little")
        n = ogg[at + 26]
        end = at + 27 + n + sum(ogg[at + 27 : at + 27 + n])
        ogg[at + 22 : at + 26] = bytes(4)
        ogg[at + 22 : at + 26] = _ogg_crc(bytes(ogg[at:end])).to_bytes(4, "little")
        at = end
    found = outcome(bytes(ogg))
    assert isinstance(found, Audio), found
    assert found.duration_s == pytest.approx(DURATION_S, abs=0.2)


def _ogg_crc(page: bytes) -> int:
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
    return value


def test_the_second_of_joined_files_does_not_hide_that_the_first_was_cut() -> None:
    mp3, ogg = file_of("mp3"), file_of("ogg")
    assert refused(mp3[: len(mp3) // 2] + mp3)[0] == "audio.truncated"
    assert refused(ogg[: len(ogg) // 2] + ogg)[0] == "audio.truncated"


@pytest.mark.parametrize(("container", "codec"), [("matroska", "flac"), ("mp4", "aac"), ("mov", "pcm_s16le")])
def test_the_default_stream_is_taken(container: str, codec: str) -> None:
    sound, silence = music(), np.zeros_like(music())
    audio = load_audio(with_ffmpeg([silence, sound], container, codec, default=1))
    assert str(audio.stream) == "2 of 2, the default"
    assert pitch_hz(audio.samples) == pytest.approx(440, abs=200)
    audio = load_audio(with_ffmpeg([silence, sound], container, codec, default=0))
    assert str(audio.stream) == "1 of 2, the default"
    assert np.abs(audio.samples).max() < 1e-3


@pytest.mark.parametrize(
    ("container", "codec"),
    [("matroska", "flac"), ("ogg", "flac"), ("asf", "wmav2"), ("mpegts", "aac")],
)
def test_without_a_default_the_first_stream_with_sound_is_taken(container: str, codec: str) -> None:
    sound, silence = music(), np.zeros_like(music())
    audio = load_audio(with_ffmpeg([silence, sound, sound], container, codec))
    assert str(audio.stream) == "2 of 3, the first with sound"
    assert np.abs(audio.samples).max() > 0.1
    audio = load_audio(with_ffmpeg([silence, silence], container, codec))
    assert str(audio.stream) == "1 of 2, none of which has sound"


def test_whoever_decodes_says_which_stream_it_was(tmp_path: Path) -> None:
    sound, silence = music(), np.zeros_like(music())
    file = tmp_path / "film.mka"
    file.write_bytes(with_ffmpeg([silence, sound, sound], "matroska", "flac"))
    assert load_chunks(file).stream == AudioStream(2, 3, "first_with_sound")
    (row,) = decode_rows(manifest_of([{"song_id": "a", "path": str(file)}])).to_pylist()
    assert (row["error_code"], row["audio_stream"]) == (None, "2 of 3, the first with sound")
    assert load_chunks(file_of("mp3")).stream is None


KINDS = {
    "mp3": lambda samples, rate_hz: with_sndfile(samples, "MP3", None, rate_hz),
    "mp3 without a header": lambda samples, rate_hz: with_ffmpeg(
        [samples], "mp3", "libmp3lame", rate_hz=rate_hz, options={"write_xing": "0"}
    ),
    "ogg": lambda samples, rate_hz: with_sndfile(samples, "OGG", "VORBIS", rate_hz),
    "opus": lambda samples, rate_hz: with_sndfile(samples, "OGG", "OPUS", 48_000),
    "aac": lambda samples, rate_hz: with_ffmpeg([samples], "adts", "aac", rate_hz=rate_hz),
}
FAMILIES = [("mp3", "mp3 without a header"), ("ogg", "opus"), ("aac",)]


@functools.cache
def short_file(kind: str, rate_hz: int, channels: int) -> tuple[bytes, np.ndarray]:
    data = KINDS[kind](music(channels, 0.8, 48_000 if kind == "opus" else rate_hz), rate_hz)
    return data, load_audio(data).samples


@settings(max_examples=40)
@given(st.sampled_from(FAMILIES), st.data())
def test_any_sequence_of_files_is_the_sequence_of_their_sounds(family: tuple[str, ...], data: st.DataObject) -> None:
    one = st.tuples(st.sampled_from(family), st.sampled_from([32_000, 44_100, 48_000]), st.sampled_from([1, 2]))
    drawn = data.draw(st.lists(one, min_size=2, max_size=5))
    files = [short_file(*kind) for kind in drawn]
    together = load_audio(b"".join(encoded for encoded, _ in files)).samples
    alone = np.concatenate([samples for _, samples in files])
    # Where nothing says that another file begins, the padding between the two is decoded otherwise.
    assert abs(len(together) - len(alone)) < 0.06 * SAMPLE_RATE_HZ * len(files)
    if family == ("ogg", "opus") or all(kind == "mp3" for kind, _, _ in drawn):
        assert np.array_equal(together, alone)


def dsf_header(total: int) -> bytes:
    return b"DSD " + (28).to_bytes(8, "little") + total.to_bytes(8, "little") + bytes(8)


def ape_header(frame_bytes: int) -> bytes:
    sizes = (52, 24, 4, 0, frame_bytes, 0, 0)
    numbers = b"".join(number.to_bytes(4, "little") for number in sizes)
    return b"MAC " + (3990).to_bytes(2, "little") + bytes(2) + numbers + bytes(60)


@pytest.mark.parametrize("data", [dsf_header(5000) + bytes(2000), ape_header(5000) + bytes(2000)])
def test_formats_without_an_encoder_here_say_how_long_they_are(data: bytes) -> None:
    assert refused(data)[0] == "audio.truncated"


EXTREMES = st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    """A file of any format, cut, overwritten, repeated or mixed with another one."""
    names = st.sampled_from([*PROMISING, *SILENT])
    data = bytearray(file_of(draw(names)))
    for _ in range(draw(st.integers(1, 3))):
        # Where headers are, or anywhere.
        end = draw(st.sampled_from([64, 512, len(data)]))
        at = draw(st.integers(0, min(end, len(data))))
        kind = draw(st.sampled_from(["cut", "write", "extreme", "insert", "remove", "splice"]))
        if kind == "cut":
            del data[at:]
        elif kind == "write":
            piece = draw(st.binary(min_size=1, max_size=8))
            data[at : at + len(piece)] = piece
        elif kind == "extreme":
            data[at : at + 4] = draw(
                st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
            )
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=64))
        elif kind == "remove":
            del data[at : at + draw(st.integers(1, 5000))]
        else:
            other = file_of(draw(names))
            data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@settings(max_examples=150)
@given(damaged_files(), st.sampled_from(SUFFIXES))
@example(b"", ".wav")
@example(b"\xff" * 5000, ".mp3")
@example(b"OggS" * 5000, ".ogg")
@example(b"ID3\x03\0\0\x7f\x7f\x7f\x7f", ".mp3")
def test_a_damaged_file_is_audio_or_an_error_and_the_same_by_every_way_in(data: bytes, suffix: str) -> None:
    from_bytes = outcome(data)
    if not isinstance(from_bytes, str):
        assert np.isfinite(from_bytes.samples).all()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        path.write_bytes(data)
        assert same(outcome(path), from_bytes)
        duration_s = read_header(path).duration_s
    assert duration_s is None or 0 < duration_s < 1e8


@given(
    st.binary(max_size=200),
    st.lists(st.one_of(st.binary(max_size=9), st.tuples(st.integers(0, 99), st.integers(0, 99))), max_size=9),
    st.integers(0, 300),
    st.integers(0, 300),
)
def test_a_view_reads_as_its_pieces(data: bytes, drawn: list, begin: int, n: int) -> None:
    pieces = [
        piece if isinstance(piece, bytes) else (min(*piece, len(data)), min(max(piece), len(data))) for piece in drawn
    ]
    expected = b"".join(piece if isinstance(piece, bytes) else data[slice(*piece)] for piece in pieces)
    view = View(io.BytesIO(data), pieces)
    assert view.size == len(expected)
    assert view.at(begin, n) == expected[begin : begin + n]
    with view.buffered() as file:
        assert file.read() == expected
        file.seek(min(begin, len(expected)))
        assert file.read(n) == expected[begin : begin + n]
