"""Store + calibration → snapshot."""

import errno
import hashlib
import platform
import shutil
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import lumina_ray
from lumina_ray.calibration import (
    CALIBRATION_FILE,
    Reference,
    catalog_centre,
    noise_columns,
    read_calibration,
    song_noise_of,
    store_sha256,
    usable_songs,
)
from lumina_ray.calibration.effects import EFFECTS_FILE, SongEffects, catalog_sha256, read_fit, write_effects
from lumina_ray.calibration.membership import current_membership, write_membership
from lumina_ray.calibration.shared import current_shared
from lumina_ray.calibration.vectors import check_unit_rows, opened
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.files import sha256_of
from lumina_ray.index.bucket import publish
from lumina_ray.index.centres import write_centres
from lumina_ray.index.channel import Each, IndexConfig, build_approximate, build_flat, write_vectors
from lumina_ray.index.files import (
    CENTRES_FILE,
    EQUAL_SONGS_FILE,
    FORMAT_VERSION,
    IDS_FILE,
    MANIFEST_FILE,
    vectors_file,
    version_name,
    versions,
)
from lumina_ray.index.kinds import FLAT, choose_kind, default_memory_bytes
from lumina_ray.index.pieces import new_index
from lumina_ray.index.record import ChannelRecord, SnapshotRecord
from lumina_ray.index.shared import write_shared_vectors
from lumina_ray.index.withdrawn import follow
from lumina_ray.storage import AnyPath, Location, RemotePath, locate
from lumina_ray.store.equal_audio import songs_of_equal_audio
from lumina_ray.vocabulary import Channel

if TYPE_CHECKING:
    from lumina_ray.store import Store

SONG_COLUMNS = (
    "song_id",
    "title",
    "creator",
    "isrc",
    "iswc",
    "publisher",
    "master_owner",
    "splits",
    "registered",
    "licence",
    "source",
    "duration_s",
    "audio_sha256",
    "codes_sha256",
)


def build_index(
    store: "Store | AnyPath",
    out: AnyPath,
    config: IndexConfig = IndexConfig(),
    each: Each = map,
) -> Location:
    """Build the next snapshot of an index.

    Everything is written to a hidden folder and renamed once; builders that run side by side get different numbers.

    Args:
        store: a finished, calibrated store, open already; or its path or address.
        out: the index folder, made if missing; a path, or an address in a bucket.
        each: how the pieces of an approximate index are built: `map`, one after the other in this process, or a
            function like it that uses other processes (`cluster.index`). All give the same index.

    Returns:
        The snapshot's folder, `out/vNNNN`.

    Raises:
        StoreError: the store is not calibrated, has changed since calibration or membership evidence, or holds
            duplicate ids; `out` is a file, or the index of another living catalog; the index misses its recall bound;
            the file of effects is none.
        SpecificationMismatch: effects of another model, fingerprint or catalog.
        UsageError: a kind that FAISS does not know, or cannot make of these vectors; or `out` lies in a bucket, and
            the store is a living catalog, whose removals could not be told there.
    """
    store, out = opened(store), locate(out)
    if isinstance(out, RemotePath):
        if store.generation is not None:
            raise UsageError(f"{out}: an index of a living catalog must lie on a file system; choose another --out")
        with tempfile.TemporaryDirectory(prefix="lumina-") as folder:
            return publish(_build(store, Path(folder), config, each), out)
    return _build(store, out, config, each)


def _build(store: "Store", out: Path, config: IndexConfig, each: Each) -> Path:
    calibration = read_calibration(store.path)
    data_sha256 = store_sha256(store)
    if calibration.catalog_sha256 != data_sha256:
        raise StoreError(
            f"{store.path} has changed since it was calibrated: run `lumina calibrate {store.path} "
            "--controls CONTROL_STORE` again"
        )
    membership = current_membership(store, data_sha256)
    rows, excluded = usable_songs(store)
    effects = _effects(store, rows, config)
    song_ids = [store.song_ids[row] for row in rows]
    noise = song_noise_of(calibration, song_ids, store.path)
    shared = current_shared(store, data_sha256, song_ids)
    reference_R = np.flatnonzero(calibration.songs["reference"].to_numpy())  # type: ignore[index]  # there is noise
    channels = store.specification.channels
    dims = store.specification.dims
    memory_bytes = (config.memory_bytes or default_memory_bytes()) / len(channels)
    kinds = {
        c: choose_kind(len(rows), dims[c], memory_bytes) if config.kind == "auto" else config.kind for c in channels
    }
    for channel, kind in kinds.items():
        new_index(kind, dims[channel])

    if out.exists() and not out.is_dir():
        raise StoreError(f"{out} is a file; an index is a folder: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    catalog = None
    if store.generation is not None:
        # Before anybody can search what is built here; what was removed since the store was read is told, too.
        assert isinstance(store.path, Path)
        catalog = follow(store.path, out)
    partial = out / f".building-{uuid4().hex}"
    partial.mkdir()
    try:
        songs = store.songs.select(SONG_COLUMNS).take(rows)
        pq.write_table(songs_of_equal_audio(songs), partial / EQUAL_SONGS_FILE)
        centres: dict[Channel, np.ndarray] = {}
        references: dict[Channel, Reference] = {}
        indexes: dict[Channel, ChannelRecord] = {}
        for channel, kind in kinds.items():
            vectors_ND = store.vectors(channel)
            if kind == FLAT:
                vectors_ND = np.ascontiguousarray(vectors_ND[rows], dtype=np.float32)
            else:
                vectors_ND = write_vectors(vectors_ND, rows, partial / vectors_file(channel))
            check_unit_rows(vectors_ND, f"{store.path}, channel {channel}")
            centres[channel] = catalog_centre(vectors_ND)
            of_songs = noise[channel]
            references[channel] = Reference(vectors_ND[reference_R].astype(np.float64), of_songs.take(reference_R))
            for name, values_N in zip(noise_columns(channel), (of_songs.mean, of_songs.spread), strict=True):
                songs = songs.append_column(name, pa.array(values_N))
            if kind == FLAT:
                indexes[channel] = build_flat(vectors_ND, partial, channel)
            else:
                indexes[channel] = build_approximate(
                    kind, vectors_ND, partial, channel, memory_bytes, config.recall, each
                )
        pq.write_table(songs, partial / IDS_FILE)
        write_centres(partial / CENTRES_FILE, centres, references)
        # Writes what was checked: the store may have changed by now.
        (partial / CALIBRATION_FILE).write_text(calibration.to_json(), encoding="utf-8")
        if membership is not None:
            write_membership(membership, partial)
        if shared is not None:
            write_shared_vectors(shared, store, rows, partial)
        if effects is not None:
            write_effects(effects, partial / EFFECTS_FILE)
        record = SnapshotRecord(
            format_version=FORMAT_VERSION,
            key=_key(store.specification.sha256, data_sha256),
            model=store.run.model,
            specification=store.specification.to_dict(),
            specification_sha256=store.specification.sha256,
            data_sha256=data_sha256,
            generation=store.generation,
            catalog=catalog,
            calibration_sha256=calibration.sha256,
            n_songs=len(rows),
            n_excluded=len(excluded),
            excluded=excluded,
            dims={c: calibration.channels[c].dims for c in channels},
            indexes=indexes,
            files={path.name: sha256_of(path) for path in sorted(partial.iterdir())},
            software={
                "lumina_ray": lumina_ray.__version__,
                "faiss": faiss.__version__,
                "numpy": np.__version__,
                "pyarrow": version("pyarrow"),
                "python": platform.python_version(),
            },
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        (partial / MANIFEST_FILE).write_text(record.to_json(), encoding="utf-8")
        return _publish(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _effects(store: "Store", rows: np.ndarray, config: IndexConfig) -> SongEffects | None:
    """Read the effects that an index is to have, and check that they are its own."""
    if config.effects is None:
        if config.effects_kind is not None:
            raise UsageError("--effects-kind names the effects of a file that are meant: give the file with --effects")
        return None
    return read_fit(
        config.effects,
        config.effects_kind,
        weights=store.specification.weights_sha256,
        specification=store.specification.sha256,
        fingerprint=store.specification.kind,
        catalog=catalog_sha256(store.songs["codes_sha256"].take(rows).to_pylist()),
    )


def _key(specification_sha256: str, data_sha256: str) -> str:
    return hashlib.sha256(f"{specification_sha256}\n{data_sha256}\n".encode()).hexdigest()


def _publish(partial: Path, out: Path) -> Path:
    while True:
        number = max((number for number, _ in versions(out)), default=0) + 1
        snapshot = out / version_name(number)
        try:
            # A folder renames onto a non-empty one on no system: of two builders, one wins and the other counts on.
            partial.rename(snapshot)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return snapshot
