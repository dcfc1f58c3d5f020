"""WavPack, Monkey's Audio, True Audio and DSD: formats that state all they hold."""

import struct
import zlib

import numpy as np

from lumina_ray.audio.containers.part import (
    TAGS,
    Part,
    joined,
    only_zeros,
    require_alone,
    require_extent,
    require_rate,
    truncated,
    undecodable,
)
from lumina_ray.audio.view import View

_UNKNOWN = 0xFFFFFFFF
_INITIAL = 0x800
_MAX_TAIL_BYTES = 1 << 12
_WAVPACK_RATES_HZ = dict(
    enumerate((6000, 8000, 9600, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000, 192000))
)


def wavpack(view: View, label: str) -> list[Part]:
    """Examine a WavPack file: its blocks must follow each other up to the stated number of samples."""
    at, total, reached = 0, None, 0
    while len(head := view.at(at, 32)) == 32 and head[:4] == b"wvpk":
        size, _, index_high, total_high, total_low, index_low, samples, flags, _ = struct.unpack("<IHBBIIIII", head[4:])
        if at == 0 and total_low != _UNKNOWN:
            total = total_low + (total_high << 32) - total_high
        require_extent(view, label, "block", at + 8 + size)
        if size < 24:
            raise undecodable(label, f"a block of {size} bytes at byte {at}; re-encode it, for example as FLAC")
        if samples and flags & _INITIAL:
            index = index_low + (index_high << 32)
            if index == 0 and reached:
                raise joined(label, "WavPack")
            if index != reached:
                raise truncated(label, f"sample {reached} comes next at byte {at}", f"sample {index} is there")
            reached = index + samples
        at += 8 + size
    if 0 < view.size - at < 32 and view.at(at, 4) == b"wvpk":
        raise truncated(label, f"a block begins at byte {at}", f"the file has {view.size} bytes")
    if total is not None and reached < total:
        raise truncated(label, f"its header promises {total} samples", f"there are {reached}")
    rate_hz = _WAVPACK_RATES_HZ.get(int.from_bytes(view.at(24, 4), "little") >> 23 & 15)
    require_alone(view, label, at, b"wvpk", "WavPack")
    # A hole ends the blocks where the number of samples is not stated.
    if not view.at(at, 16).startswith(TAGS) and view.size - at > _MAX_TAIL_BYTES and not only_zeros(view, at):
        raise truncated(label, "its blocks follow each other", f"{view.size - at} bytes at byte {at} are none")
    # FFmpeg takes a tag behind the last block, WavPack's own kind included, for a damaged block.
    blocks = view.cut([(0, at)])
    return [Part(blocks, stated=total is not None, duration_s=reached / rate_hz if rate_hz else None)]


def ape(view: View, label: str) -> list[Part]:
    """Examine a Monkey's Audio file; versions before 3.98 do not say how many bytes they have."""
    head = view.at(0, 52)
    if len(head) < 52:
        raise truncated(label, "it begins as a Monkey's Audio file", f"the file has {view.size} bytes")
    if struct.unpack("<H", head[4:6])[0] >= 3980:
        descriptor, header, seek_table, wav_header, frames_low, frames_high, wav_tail = struct.unpack("<7I", head[8:36])
        end = descriptor + header + seek_table + wav_header + frames_low + (frames_high << 32) + wav_tail
        require_extent(view, label, "sound", end)
        require_alone(view, label, end, head[:6], "Monkey's Audio")
    return [Part(view, stated=True)]


def tta(view: View, label: str) -> list[Part]:
    """Examine a True Audio file: its table has the size of each frame."""
    head = view.at(0, 22)
    if len(head) < 22:
        raise truncated(label, "it begins as a True Audio file", f"the file has {view.size} bytes")
    rate_hz, samples = struct.unpack("<II", head[10:18])
    require_rate(rate_hz, label)
    frame_samples = rate_hz * 256 // 245
    frames = -(-samples // frame_samples)
    table_end = 22 + 4 * frames + 4
    require_extent(view, label, "table of frames", table_end)
    # An array: a header may claim a frame for each sample.
    sizes = np.frombuffer(view.at(22, 4 * frames), "<u4")
    require_extent(view, label, "sound", table_end + int(sizes.sum(dtype=np.uint64)))
    at = table_end
    for number, size in enumerate(sizes):
        frame = view.at(at, int(size))
        if zlib.crc32(frame[:-4]).to_bytes(4, "little") != frame[-4:]:
            raise truncated(label, f"it has {frames} frames with checksums", f"frame {number} is damaged")
        at += int(size)
    require_alone(view, label, at, head[:6], "True Audio")
    return [Part(view, duration_s=samples / rate_hz, stated=True)]


def dsf(view: View, label: str) -> list[Part]:
    """Examine a DSD stream file."""
    head = view.at(0, 28)
    if len(head) < 28:
        raise truncated(label, "it begins as a DSD file", f"the file has {view.size} bytes")
    total = struct.unpack("<Q", head[12:20])[0]
    if total:
        require_extent(view, label, "contents", total)
        require_alone(view, label, total, head[:12], "DSD")
    return [Part(view, stated=True)]
