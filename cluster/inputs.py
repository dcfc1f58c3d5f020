"""The inputs of a job: its songs."""

import pyarrow as pa

from cluster.preflight import check_memory
from lumina_ray.catalog.manifest import METADATA_COLUMNS, read_manifest
from lumina_ray.storage import AnyPath, locate
from lumina_ray.store import read_store
from lumina_ray.store.run import read_run
from lumina_ray.vocabulary import EVIDENCE_COLUMNS, STORED_AS

# Columns of a store's rows that a model made, besides its codes or latents.
_OF_A_MODEL = ("heard", "chunk_frames", "chunk_starts_s", "error_code", "error")


def read_songs(source: AnyPath) -> pa.Table:
    """Read the songs of a job: a manifest's rows, or those of a finished store with their codes.

    Raises:
        ManifestError, StoreError: the source is unusable.
        UsageError: a store with more codes than this machine's memory has room for.
    """
    source = locate(source)
    if not source.is_dir():
        songs = read_manifest(source)
        # A manifest may be put together from rows of stores. Nothing there tells which model made their codes.
        return songs.drop_columns([name for name in (*STORED_AS, *_OF_A_MODEL) if name in songs.column_names])
    check_memory(source)
    kept = ("song_id", "path", *METADATA_COLUMNS, "audio_sha256", "audio_stream", "duration_s", *EVIDENCE_COLUMNS)
    read = read_store(source, [*kept, read_run(source).specification.representation, *_OF_A_MODEL, "status"])
    return pa.concat_tables([read.songs, read.failed]).drop_columns("status")
