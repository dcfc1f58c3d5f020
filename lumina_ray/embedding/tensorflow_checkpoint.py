"""Reads the checkpoints of TensorFlow 1 and 2 ("tensor bundles") without TensorFlow.

A checkpoint is two files. `.index` is a table of LevelDB: sorted keys, the names of tensors, in blocks; each value is a
`BundleEntryProto` that says dtype, shape and place. `.data-00000-of-00001` holds the numbers end to end. Formats:
github.com/google/leveldb/blob/main/doc/table_format.md; tensorflow/core/protobuf/tensor_bundle.proto.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lumina_ray.errors import ModelError
from lumina_ray.files import open_file

INDEX_FILE, DATA_FILE = ".index", ".data-00000-of-00001"
"""Names of the two files in the folder of a checkpoint that has no name of its own."""
_MAGIC = 0xDB4775248B80FB57
_FOOTER_BYTES, _TRAILER_BYTES = 48, 5
_FLOAT32 = 1
# An index names tensors, and takes kilobytes; the data of musicnn take ten million bytes.
_MAX_INDEX_BYTES = 1 << 24
_MAX_DATA_BYTES = 1 << 28


def read_tensorflow_checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """Read the float32 tensors of a checkpoint by their names; tensors of other dtypes, such as counters, are left out.

    Raises:
        ModelError: a file is missing or damaged, or the checkpoint has several data files.
    """
    try:
        with open_file(folder / INDEX_FILE) as file:
            index = file.read(_MAX_INDEX_BYTES + 1)
        with open_file(folder / DATA_FILE) as file:
            data = file.read(_MAX_DATA_BYTES + 1)
    except OSError as error:
        raise ModelError(
            f"{error.filename or folder}: cannot be read ({error.strerror or error}); a TensorFlow checkpoint is two "
            f"files, {INDEX_FILE} and {DATA_FILE}, in one folder"
        ) from error
    try:
        if len(index) > _MAX_INDEX_BYTES:
            raise ValueError(f"more than {_MAX_INDEX_BYTES} bytes")
        if len(data) > _MAX_DATA_BYTES:
            raise ValueError(f"its data are more than {_MAX_DATA_BYTES} bytes")
        return {name: array for name, entry in _entries(index) if (array := _tensor(entry, data)) is not None}
    except (ValueError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise ModelError(f"{folder / INDEX_FILE}: damaged, or no TensorFlow checkpoint ({error})") from error


def _entries(index: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the encoded entry of each tensor."""
    if len(index) < _FOOTER_BYTES or struct.unpack("<Q", index[-8:])[0] != _MAGIC:
        raise ValueError("its last bytes are not those of a table")
    footer = index[-_FOOTER_BYTES:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)  # the place of a block of metadata, which is empty
    for _, handle in _block(index, footer[at:]):
        for name, entry in _block(index, handle):
            if name:  # the empty name is the header's
                yield name.decode(), entry


def _block(index: bytes, handle: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield keys and values of the block at a handle: offset and size."""
    offset, at = _varint(handle, 0)
    size, _ = _varint(handle, at)
    if offset + size + _TRAILER_BYTES > len(index):
        raise ValueError("a block lies outside of the file")
    if index[offset + size] != 0:
        raise ValueError("its blocks are compressed")
    block = index[offset : offset + size]
    (n_restarts,) = struct.unpack("<I", block[-4:])
    end, at, key = size - 4 * (n_restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        unshared, at = _varint(block, at)
        n_value, at = _varint(block, at)
        if at + unshared + n_value > end or shared > len(key):
            raise ValueError("an entry lies outside of its block")
        key = key[:shared] + block[at : at + unshared]
        at += unshared
        yield key, block[at : at + n_value]
        at += n_value


def _tensor(entry: bytes, data: bytes) -> np.ndarray | None:
    numbers, shape = dict.fromkeys(range(1, 6), 0), list[int]()
    for field, value in _fields(entry):
        if field == 2 and isinstance(value, bytes):
            shape = [_size(dim) for of, dim in _fields(value) if of == 2 and isinstance(dim, bytes)]
        elif isinstance(value, int):
            numbers[field] = value
    dtype, shard, offset, n_bytes = numbers[1], numbers[3], numbers[4], numbers[5]
    if dtype != _FLOAT32:
        return None
    if shard != 0:
        raise ValueError("it has several data files")
    if n_bytes != 4 * math.prod(shape) or offset + n_bytes > len(data):
        raise ValueError(f"a tensor of shape {shape} lies outside of {DATA_FILE}")
    return np.frombuffer(data, "<f4", math.prod(shape), offset).reshape(shape)


def _size(dim: bytes) -> int:
    return next((value for field, value in _fields(dim) if field == 1 and isinstance(value, int)), 0)


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield numbers and values of a protocol buffer's fields."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 2:
                size, at = _varint(message, at)
                if at + size > len(message):
                    raise ValueError("a field lies outside of its message")
                yield tag >> 3, message[at : at + size]
                at += size
            case 5:
                at += 4  # a checksum
            case wire_type:
                raise ValueError(f"a field of type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Decode a number of 7 bits a byte; returns it and the position behind it."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 64 bits")
