"""What a job has to come to, whatever happens to it: the rows that one undisturbed process makes."""

from pathlib import Path

import pyarrow as pa

from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.manifest import read_manifest
from lumina_ray.fingerprint import Specification
from lumina_ray.model import open_model
from lumina_ray.storage import Location
from lumina_ray.store import FingerprintWorker, read_store
from lumina_ray.vocabulary import CHANNELS, Channel, Dtype, Kind


def without_ray(
    manifest: Location, model: Path, kind: Kind, channels: tuple[Channel, ...] = CHANNELS, dtype: Dtype = "float32"
) -> pa.Table:
    """The rows that one process makes of a manifest, one after the other."""
    specification = Specification.for_model(open_model(str(model)), kind, channels, dtype)
    worker = FingerprintWorker(str(model), specification.to_dict())
    return worker(decode_rows(read_manifest(manifest))).sort_by("song_id")


def all_rows(store: Location) -> pa.Table:
    read = read_store(store)
    return pa.concat_tables([read.songs, read.failed]).sort_by("song_id")
