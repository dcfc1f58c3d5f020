"""Manifest rows → decoded rows: what a catalog job does before it needs a model.

Apart from the rest of the job, as the processes that decode should not have to import torch. It never raises for bad
audio: one row in is one row out.
"""

import pyarrow as pa

from lumina_ray.audio import MAX_DURATION_S, load_audio
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.errors import AudioError
from lumina_ray.storage import locate

_PASSED_ON = ("song_id", "path", *METADATA_COLUMNS)

_DECODED_SCHEMA = pa.schema(
    [
        *(pa.field(column, pa.string()) for column in _PASSED_ON),
        pa.field("audio_sha256", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("samples", pa.large_binary()),
        pa.field("error_code", pa.string()),
        pa.field("error", pa.string()),
    ]
)


def decode_rows(manifest: pa.Table, max_duration_s: float = MAX_DURATION_S) -> pa.Table:
    """Decode the files of manifest rows; `samples` is float32 mono 32 kHz as bytes, null where `error` is set.

    Raises:
        StorageError: a bucket or a file system does not answer, which is no song's fault.
    """
    rows = []
    for song in manifest.select(_PASSED_ON).to_pylist():
        try:
            audio = load_audio(locate(song["path"]), max_duration_s=max_duration_s)
        except AudioError as error:
            rows.append(_undecoded(song, error.kind, str(error)))
        else:
            rows.append(
                song
                | {
                    "audio_sha256": audio.sha256,
                    "duration_s": audio.duration_s,
                    "samples": audio.samples.tobytes(),
                }
            )
    return pa.Table.from_pylist(rows, schema=_DECODED_SCHEMA)


def undecoded_rows(manifest: pa.Table, error_code: str, reason: str) -> pa.Table:
    """What `decode_rows` makes of songs that cannot be decoded, for a reason that it did not live to tell."""
    songs = manifest.select(_PASSED_ON).to_pylist()
    rows = [_undecoded(song, error_code, f"{song['path']}: {reason}") for song in songs]
    return pa.Table.from_pylist(rows, schema=_DECODED_SCHEMA)


def _undecoded(song: dict, error_code: str, error: str) -> dict:
    return song | {"error_code": error_code, "error": error}
