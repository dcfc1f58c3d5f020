"""Columns of a fingerprint store: one row a song, which is `ok` or `failed`."""

import pyarrow as pa

from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.vocabulary import EVIDENCE, EVIDENCE_VERSION, Channel


def norm_column(channel: Channel) -> str:
    """Name of the column with the lengths of a channel's vectors."""
    return f"{channel}_norm"


def store_schema(specification: Specification) -> pa.Schema:
    """The Arrow schema of a store's data files.

    A failed song has nulls in all columns that come from its audio; `error_code` (for machines) and `error` (for
    people) say why. `codes` is little-endian uint16 `[K, Σ chunk_frames]`; stores of models that predict latents have
    `latents` in its place, float16. `heard` has one bit for each of its frames, whether it holds sound. `audio_stream`
    says which of several streams of a file the audio is, and why. `composition` and `sound` are shared evidence of
    each chunk, little-endian float16 `[n, D]`, made by `evidence_version` of the software; stores of before it have
    nulls. P and M are unit vectors; `P_norm` and `M_norm` are the lengths that they had before.
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
            pa.field("audio_stream", pa.string()),
            pa.field("duration_s", pa.float64()),
            pa.field("codes_sha256", pa.string()),
            pa.field(specification.representation, pa.binary()),
            pa.field("heard", pa.binary()),
            pa.field("chunk_frames", pa.list_(pa.int32())),
            pa.field("chunk_starts_s", pa.list_(pa.float64())),
            pa.field(EVIDENCE_VERSION, pa.string()),
            *(pa.field(name, pa.binary()) for name in EVIDENCE),
            *(
                pa.field(channel, pa.list_(pa.float32(), specification.dims[channel]))
                for channel in specification.channels
            ),
            *(pa.field(norm_column(channel), pa.float64()) for channel in specification.channels),
        ]
    )
