"""Calibrated stores and indexes of a few tones, made without Ray."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.catalog import scan_folder, write_manifest
from lumina_ray.catalog.decode import decode_rows
from lumina_ray.fingerprint import Specification, describe_environment
from lumina_ray.index import build_index
from lumina_ray.model import open_model
from lumina_ray.store import FingerprintWorker, Run, Store, begin_run, manifest_sha256, read_store
from lumina_ray.vocabulary import Kind
from tests.cluster.catalog import write_tone

MODEL = "nano"
N_SONGS, N_CONTROLS = 6, 20


@dataclass(frozen=True)
class SmallCatalog:
    """Folders of audio files, finished stores with their manifests, and an index."""

    songs: Path
    store: Path
    controls: Path
    index: Path


def make_small_catalog(folder: Path, model: str = MODEL, kind: Kind = "influence") -> SmallCatalog:
    """Write all of it, in fingerprints of a kind by a model."""
    store = _store(folder, "songs", range(N_SONGS), model, kind)
    controls = _store(folder, "controls", range(1000, 1000 + N_CONTROLS), model, kind)
    write_calibration(calibrate_store(store, controls), store.path)
    build_index(store, folder / "index")
    return SmallCatalog(folder / "songs", folder / "songs-store", folder / "controls-store", folder / "index")


def _store(folder: Path, name: str, seeds: range, model: str, kind: Kind) -> Store:
    audio, store = folder / name, folder / f"{name}-store"
    audio.mkdir()
    for seed in seeds:
        write_tone(audio / f"tone-{seed:04d}.flac", 4, seed=seed)
    manifest = scan_folder(audio).songs
    write_manifest(manifest, folder / f"{name}.parquet")
    opened = open_model(model)
    specification = Specification.for_model(opened, kind)
    worker = FingerprintWorker(model, specification.to_dict())
    begin_run(store, Run(manifest_sha256(manifest), len(manifest), model, specification, describe_environment(opened)))
    (store / "data").mkdir()
    write_manifest(manifest, store / "manifest.parquet")
    pq.write_table(worker(decode_rows(manifest)), store / "data" / "part-0.parquet")
    (store / "_SUCCESS").touch()
    return read_store(store)
