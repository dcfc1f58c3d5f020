"""Checkpoints of TensorFlow, written here byte by byte as LevelDB's and TensorFlow's formats say."""

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from lumina_ray.embedding.tensorflow_checkpoint import DATA_FILE, INDEX_FILE, read_tensorflow_checkpoint
from lumina_ray.errors import ModelError

FLOAT32, INT64 = 1, 9


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def entry(dtype: int, shape: tuple[int, ...], offset: int, size: int) -> bytes:
    dims = b"".join(b"\x12" + varint(len(dim)) + dim for n in shape for dim in [b"\x08" + varint(n)])
    out = b"\x08" + varint(dtype) + b"\x12" + varint(len(dims)) + dims
    return out + b"\x20" + varint(offset) + b"\x28" + varint(size) + b"\x35" + b"\0\0\0\0"  # a checksum


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    out, before = b"", b""
    for key, value in entries:
        shared = next(
            (i for i, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(map(len, (key, before)))
        )
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return out + struct.pack("<II", 0, 1)


def write(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write tensors as a checkpoint of one data block."""
    data, entries = b"", [(b"", b"\x08\x01")]
    for name in sorted(tensors):
        values = tensors[name]
        dtype = FLOAT32 if values.dtype == np.float32 else INT64
        entries.append((name.encode(), entry(dtype, values.shape, len(data), values.nbytes)))
        data += values.tobytes()
    table, handles = b"", []
    for content in (block(entries), block([])):
        handles.append(varint(len(table)) + varint(len(content)))
        table += content + b"\0" + b"\0\0\0\0"
    index_block = block([(b"~", handles[0])])
    handle = varint(len(table)) + varint(len(index_block))
    table += index_block + b"\0" + b"\0\0\0\0"
    footer = (handles[1] + handle).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (folder / INDEX_FILE).write_bytes(table + footer)
    (folder / DATA_FILE).write_bytes(data)


@pytest.fixture
def tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"conv2d/bias": (3,), "conv2d/kernel": (7, 2, 1, 3), "conv2d_1/kernel": (200, 2), "power": ()}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_tensors_are_read_by_name_and_others_than_float32_are_left_out(
    tmp_path: Path, tensors: dict[str, np.ndarray]
) -> None:
    write(tmp_path, tensors | {"global_step": np.array(7)})
    read = read_tensorflow_checkpoint(tmp_path)
    assert read.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_array_equal(read[name], values)


def test_what_is_no_checkpoint_says_so(tmp_path: Path, tensors: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match=r"\.index: cannot be read \(No such file"):
        read_tensorflow_checkpoint(tmp_path)
    write(tmp_path, tensors)
    whole = (tmp_path / INDEX_FILE).read_bytes()
    (tmp_path / DATA_FILE).write_bytes(b"\0" * 8)
    with pytest.raises(ModelError, match=r"lies outside of \.data"):
        read_tensorflow_checkpoint(tmp_path)
    (tmp_path / INDEX_FILE).write_bytes(whole[:-1] + b"\0")
    with pytest.raises(ModelError, match="not those of a table"):
        read_tensorflow_checkpoint(tmp_path)
    rng = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole) - 8, 3):
            damaged[at] = rng.integers(256)
        (tmp_path / INDEX_FILE).write_bytes(damaged)
        # Other bytes of a name are another name; nothing but this error comes of the rest.
        with suppress(ModelError):
            read_tensorflow_checkpoint(tmp_path)
