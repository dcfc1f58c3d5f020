"""The formats that are read, and how each is known: by what the file holds, never by its name."""

from collections.abc import Callable
from dataclasses import dataclass

from lumina_ray.audio.containers.asf import asf
from lumina_ray.audio.containers.chunks import aiff, au, caf, w64, wav
from lumina_ray.audio.containers.flac import flac
from lumina_ray.audio.containers.flv import flv
from lumina_ray.audio.containers.frames import adts, find_frame, id3_bytes, mpeg, parse_adts, parse_mpeg
from lumina_ray.audio.containers.lossless import ape, dsf, tta, wavpack
from lumina_ray.audio.containers.matroska import matroska
from lumina_ray.audio.containers.mp4 import mp4
from lumina_ray.audio.containers.ogg import ogg
from lumina_ray.audio.containers.part import Part, undecodable
from lumina_ray.audio.view import View

Examine = Callable[[View, str], list[Part]]
_MAX_TAGS = 16


@dataclass(frozen=True)
class Format:
    """A format of audio files.

    Attributes:
        name: its name, for people.
        begins: how its files begin: offsets, and the bytes there. Any of them will do, and all of one.
        demuxer: FFmpeg's name of it.
        examine: finds its parts, and whether it is as long as it promises.
        promises: what its files say of their length, for people; "" where they say nothing.
    """

    name: str
    begins: tuple[tuple[tuple[int, bytes], ...], ...]
    demuxer: str
    examine: Examine
    promises: str


def _nothing_promised(view: View, label: str) -> list[Part]:
    return [Part(view)]


def _timed(view: View, label: str) -> list[Part]:
    return [Part(view, timed=True)]


def _magic(*starts: bytes) -> tuple[tuple[tuple[int, bytes], ...], ...]:
    return tuple(((0, start),) for start in starts)


FORMATS = (
    Format(
        "WAV (RIFF, RIFX, RF64, BW64)",
        tuple(((0, name), (8, b"WAVE")) for name in (b"RIFF", b"RIFX", b"RF64", b"BW64")),
        "wav",
        wav,
        "bytes of its sound",
    ),
    Format("Wave64", _magic(bytes.fromhex("726966662e91cf11a5d628db04c10000")), "w64", w64, "bytes of its sound"),
    Format("AIFF, AIFF-C", (((0, b"FORM"), (8, b"AIFF")), ((0, b"FORM"), (8, b"AIFC"))), "aiff", aiff, "bytes"),
    Format("AU, SND", _magic(b".snd", b"dns."), "au", au, "bytes of its sound"),
    Format("Core Audio (CAF)", _magic(b"caff"), "caf", caf, "bytes of its sound"),
    Format("FLAC", _magic(b"fLaC"), "flac", flac, "samples, and their MD5"),
    Format("Ogg (Vorbis, Opus, FLAC, Speex)", _magic(b"OggS"), "ogg", ogg, "a last page; checksums"),
    Format(
        "MP4, M4A, QuickTime",
        tuple(((4, name),) for name in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
        "mov",
        mp4,
        "bytes of each box; where each sample lies",
    ),
    Format("Matroska, WebM", _magic(b"\x1aE\xdf\xa3"), "matroska", matroska, "bytes of its segment or clusters"),
    Format("WMA (ASF)", _magic(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")), "asf", asf, "packets, their bytes"),
    Format("WavPack", _magic(b"wvpk"), "wv", wavpack, "samples, and where each block begins"),
    Format("Monkey's Audio", _magic(b"MAC "), "ape", ape, "bytes of its sound (from version 3.98 on)"),
    Format("True Audio (TTA)", _magic(b"TTA1"), "tta", tta, "samples, and the bytes of each frame"),
    Format("DSD (DSF)", _magic(b"DSD "), "dsf", dsf, "bytes of the file"),
    Format("FLV", _magic(b"FLV\x01"), "flv", flv, "bytes of each tag; its length, where the writer stated it"),
    Format("AMR", _magic(b"#!AMR"), "amr", _nothing_promised, ""),
    Format("AC-3, E-AC-3", _magic(b"\x0bw"), "ac3", _nothing_promised, ""),
    Format(
        "DTS",
        _magic(b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80", b"\x1f\xff\xe8\x00", b"\xff\x1f\x00\xe8"),
        "dts",
        _nothing_promised,
        "",
    ),
    Format("MPEG programme stream", _magic(b"\x00\x00\x01\xba"), "mpeg", _timed, ""),
    Format(
        "MPEG transport stream",
        tuple(((first, b"G"), (first + size, b"G"), (first + 2 * size, b"G")) for first, size in ((0, 188), (4, 192))),
        "mpegts",
        _timed,
        "",
    ),
)
# These have no beginning of their own: they are known by several frames in a row.
AAC = Format("AAC (ADTS)", (), "aac", adts, "")
MPEG = Format("MP3, MP2, MP1", (), "mp3", mpeg, "frames, where the encoder wrote a Xing, Info or VBRI header")


def examine(view: View, label: str) -> tuple[Format, list[Part]]:
    """Find what a file consists of, and check that it is as long as it promises.

    Raises:
        AudioError: no known format ("audio.undecodable"), or less than it promises ("audio.truncated").
    """
    sound, known = recognise(view, label)
    return known, known.examine(sound, label)


def recognise(view: View, label: str) -> tuple[View, Format]:
    """Find a file's format by its beginning; tags before it are left out of the view that is returned.

    Raises:
        AudioError: no known format ("audio.undecodable").
    """
    begin = 0
    for _ in range(_MAX_TAGS):
        begin += id3_bytes(view, begin)
    if begin:
        view = view.cut([(min(begin, view.size), view.size)])
    for known in FORMATS:
        if any(all(view.at(at, len(start)) == start for at, start in begins) for begins in known.begins):
            return view, known
    frames = [(at, known) for parse, known in ((parse_adts, AAC), (parse_mpeg, MPEG))
              if (at := find_frame(view, parse)) is not None]  # fmt: skip
    if not frames:
        raise undecodable(label, "its content is of no audio format that is known; re-encode it, for example as FLAC")
    return view, min(frames, key=lambda found: found[0])[1]
