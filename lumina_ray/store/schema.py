"""Columns of a fingerprint store: one row a song, `ok` or `failed`, nothing else."""

import pyarrow as pa

from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.fingerprint.specification import Channel, Specification


def norm_column(channel: Channel) -> str:
    """The column of a channel's lengths."""
    return f"{channel}_norm"


def store_schema(specification: Specification) -> pa.Schema:
    """The Arrow schema of a store's data files.

    A failed song has nulls in everything that would have come from its audio, and says why in `error_code`
    (for machines) and `error` (for people). `codes` is little-endian uint16 `[K, Σ chunk_frames]`; P and M are unit
    vectors, `P_norm` and `M_norm` the lengths that they had.
    """
    return pa.schema(
        [
            pa.field("song_id", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("error_code", pa.string()),
            pa.field("error", pa.string()),
            pa.field("path", pa.string()),
            *(pa.field(column, pa.string()) for column in METADATA_COLUMNS),
            pa.field("audio_sha256", pa.string()),
            pa.field("duration_s", pa.float64()),
            pa.field("codes_sha256", pa.string()),
            pa.field("codes", pa.binary()),
            pa.field("chunk_frames", pa.list_(pa.int32())),
            pa.field("chunk_starts_s", pa.list_(pa.float64())),
            *(
                pa.field(channel, pa.list_(pa.float32(), specification.dims[channel]))
                for channel in specification.channels
            ),
            *(pa.field(norm_column(channel), pa.float64()) for channel in specification.channels),
        ]
    )
