"""Manifest rows → decoded rows: the step of a catalog job that needs no model.

It is apart from the rest of the job so that processes that decode need not import torch. Bad audio raises nothing: one
row in is one row out.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from lumina_ray.audio import MAX_DURATION_S, Chunk, cut_chunks, frames_of, load_audio
from lumina_ray.catalog.listed import LISTED_COLUMNS, check_listed
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.errors import AudioError
from lumina_ray.storage import locate
from lumina_ray.vocabulary import EVIDENCE, EVIDENCE_VERSION

_PASSED_ON = ("song_id", "path", *METADATA_COLUMNS)

_DECODED_SCHEMA = pa.schema(
    [
        *(pa.field(column, pa.string()) for column in _PASSED_ON),
        pa.field("audio_sha256", pa.string()),
        pa.field("audio_stream", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("samples", pa.large_binary()),
        pa.field("chunk_samples", pa.list_(pa.int64())),
        pa.field("chunk_starts_s", pa.list_(pa.float64())),
        pa.field("heard", pa.binary()),
        pa.field(EVIDENCE_VERSION, pa.string()),
        *(pa.field(name, pa.binary()) for name in EVIDENCE),
        pa.field("error_code", pa.string()),
        pa.field("error", pa.string()),
    ]
)


def decode_rows(manifest: pa.Table, max_duration_s: float = MAX_DURATION_S) -> pa.Table:
    """Decode the files of manifest rows, and cut them into chunks.

    Returns:
        One row for each song. `samples` has the samples of all chunks as bytes, `chunk_samples` how many each chunk
        has, `heard` one byte a frame; see `decoded_chunks`. Shared evidence is there as stores keep it
        (`lumina_ray.evidence.kept`). They are null where `error_code` and `error` say why the song cannot be
        fingerprinted.

    Raises:
        StorageError: a bucket or a file system does not answer; the song itself may be good.
    """
    # A process that only reads what this one made needs none of SciPy.
    from lumina_ray.evidence.kept import describe, to_columns

    rows = []
    listed = [column for column in LISTED_COLUMNS if column in manifest.column_names]
    files = manifest.select(["path", *listed]).to_pylist()
    for song, file in zip(manifest.select(_PASSED_ON).to_pylist(), files, strict=True):
        try:
            audio = load_audio(locate(song["path"]), max_duration_s=max_duration_s)
            check_listed(file, audio)
            song |= {"audio_sha256": audio.sha256, "duration_s": audio.duration_s}
            song["audio_stream"] = None if audio.stream is None else str(audio.stream)
            chunks = cut_chunks(audio.samples, song["path"])
        except AudioError as error:
            rows.append(_undecoded(song, error.code, str(error)))
        else:
            rows.append(
                song
                | {
                    "samples": b"".join(chunk.samples.tobytes() for chunk in chunks),
                    "chunk_samples": [len(chunk.samples) for chunk in chunks],
                    "chunk_starts_s": [chunk.start_s for chunk in chunks],
                    "heard": b"".join(chunk.heard.tobytes() for chunk in chunks),
                }
                | to_columns(describe([chunk.samples for chunk in chunks]))
            )
    return pa.Table.from_pylist(rows, schema=_DECODED_SCHEMA)


def decoded_chunks(row: dict) -> Sequence[Chunk]:
    """The chunks of a row that `decode_rows` made, without an error."""
    lengths = row["chunk_samples"]
    samples = np.split(np.frombuffer(row["samples"], np.int16), np.cumsum(lengths)[:-1])
    heard = np.split(np.frombuffer(row["heard"], bool), np.cumsum([frames_of(n) for n in lengths])[:-1])
    return [Chunk(*parts) for parts in zip(row["chunk_starts_s"], samples, heard, strict=True)]


def undecoded_rows(manifest: pa.Table, error_code: str, reason: str) -> pa.Table:
    """Rows like those of `decode_rows`, for songs at which the process that decodes was ended."""
    songs = manifest.select(_PASSED_ON).to_pylist()
    rows = [_undecoded(song, error_code, f"{song['path']}: {reason}") for song in songs]
    return pa.Table.from_pylist(rows, schema=_DECODED_SCHEMA)


def _undecoded(song: dict, error_code: str, error: str) -> dict:
    return song | {"error_code": error_code, "error": error}
