"""A real index of generated sounds under the tiny model, and one endpoint that serves it for the whole session."""

import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from ray import serve as ray_serve
from safetensors.torch import load_file, save_file
from transformers import MusicgenForConditionalGeneration

from lumina_ray.attribution.schema import SongFacts
from lumina_ray.audio import cut_chunks
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.fingerprint import Specification, describe_environment, encode_song
from lumina_ray.fingerprint.music_statistics import measure_music_statistics
from lumina_ray.index import Snapshot, build_index, load_snapshot
from lumina_ray.model import open_model
from lumina_ray.model.statistics import save_statistics
from lumina_ray.store import (
    FingerprintWorker,
    Run,
    Store,
    begin_run,
    manifest_sha256,
    read_store,
)
from lumina_ray.vocabulary import SAMPLE_RATE_HZ
from serve.app import ServeArgs, Server, start
from serve.deployments import GATEWAY
from serve.keys import add_key
from serve.local import APPLICATION_LOGS
from tests.cluster.processes import free_port

N_SONGS, N_CONTROLS = 25, 20
MAX_UPLOAD_BYTES, MAX_AUDIO_S = 2 << 20, 60.0


def sound(seed: int, duration_s: float = 5.0) -> np.ndarray:
    """Float32 mono: a few drifting tones, a beat, and noise, all of them different for every seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tones = sum(
        rng.uniform(0.05, 0.2) * np.sin(2 * np.pi * f * t + rng.uniform(0, 3) * np.sin(rng.uniform(0.5, 6) * t))
        for f in rng.uniform(60, 4000, 4)
    )
    beat = 1 + rng.uniform(0, 1) * np.sign(np.sin(2 * np.pi * rng.uniform(1, 4) * t))
    return (0.4 * beat * tones + rng.uniform(0.001, 0.05) * rng.normal(size=len(t))).astype(np.float32)


def wav(samples: np.ndarray) -> bytes:
    """As 16-bit WAV: of floats, libsndfile would also write the time of day into the file."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.fixture(scope="session")
def model_dir(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with codebooks taken from sounds: an untrained codec's are zeros, and all music the same code.

    It knows what the catalog's sounds have in common.
    """
    folder = tmp_path_factory.mktemp("models") / "listening"
    shutil.copytree(tiny_model_dir, folder)
    model = MusicgenForConditionalGeneration.from_pretrained(tiny_model_dir)
    waves_B1N = torch.from_numpy(np.stack([sound(seed) for seed in range(2000, 2012)]))[:, None]
    with torch.no_grad():
        latents_ND = model.audio_encoder.encoder(waves_B1N).transpose(1, 2).flatten(0, 1)
    tensors = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name in sorted(name for name in tensors if name.endswith("codebook.embed")):
        chosen = torch.randperm(len(latents_ND), generator=generator)[: len(tensors[name])]
        tensors[name] = latents_ND[chosen].clone()
        latents_ND = latents_ND - tensors[name][torch.cdist(latents_ND, tensors[name]).argmin(dim=1)]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    listening = open_model(str(folder))
    songs = [encode_song(listening, cut_chunks(sound(seed))) for seed in range(N_SONGS)]
    save_statistics(measure_music_statistics(listening, lambda: songs, range(len(songs))), folder)
    return folder


@pytest.fixture(scope="session")
def index_dir(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of `N_SONGS` sounds, calibrated on `N_CONTROLS` others."""
    folder = tmp_path_factory.mktemp("serve")
    store = _store(folder / "catalog", model_dir, range(N_SONGS), "song")
    controls = _store(folder / "controls", model_dir, range(1000, 1000 + N_CONTROLS), "control")
    write_calibration(calibrate_store(store, controls), store.path)
    build_index(store, folder / "index")
    return folder / "index"


def _store(folder: Path, model_dir: Path, seeds: range, prefix: str) -> Store:
    audio = folder.with_name(f"{prefix}-audio")
    audio.mkdir()
    rows = []
    for seed in seeds:
        path = audio / f"{prefix}-{seed:04d}.wav"
        path.write_bytes(wav(sound(seed)))
        rows.append(
            dict.fromkeys(METADATA_COLUMNS) | {"song_id": path.stem, "path": str(path), "title": f"Sound {seed}"}
        )
    text = {name: pa.string() for name in ("song_id", "path", *METADATA_COLUMNS)}
    manifest = pa.Table.from_pylist(rows, schema=pa.schema(text.items()))
    model = open_model(str(model_dir))
    specification = Specification.for_model(model, "influence")
    worker = FingerprintWorker(str(model_dir), specification.to_dict())
    begin_run(
        folder,
        Run(
            manifest_sha256(manifest),
            len(manifest),
            str(model_dir),
            specification,
            describe_environment(model),
        ),
    )
    (folder / "data").mkdir()
    pq.write_table(manifest, folder / "manifest.parquet")
    pq.write_table(worker(decode_rows(manifest)), folder / "data" / "part-0.parquet")
    (folder / "_SUCCESS").touch()
    return read_store(folder)


@pytest.fixture(scope="session")
def snapshot(index_dir: Path) -> Snapshot:
    return load_snapshot(index_dir)


def fingerprint_of(snapshot: Snapshot, row: int) -> dict:
    song = SongFacts(**snapshot.songs.select(list(SongFacts.model_fields)).to_pylist()[row])
    return {
        "specification_sha256": snapshot.specification_sha256,
        "audio_sha256": song.audio_sha256,
        "codes_sha256": song.codes_sha256,
        "duration_s": song.duration_s,
        "channels": {c: snapshot.vectors(c, np.array([row]))[0].tolist() for c in snapshot.indexes},
    }


@pytest.fixture(scope="session")
def serve_args(index_dir: Path, model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> ServeArgs:
    return ServeArgs(
        index=index_dir,
        model=str(model_dir),
        open_access=True,
        max_upload_bytes=MAX_UPLOAD_BYTES,
        max_audio_s=MAX_AUDIO_S,
        jobs=tmp_path_factory.mktemp("jobs"),
        max_job_files=8,
    )


@pytest.fixture(scope="session")
def server(ray_cluster: object, serve_args: ServeArgs) -> Iterator[Server]:
    with start(serve_args, port=free_port(), blocking=False) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.address, timeout=60, trust_env=False) as running:
        yield running


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@contextmanager
def beside(server: Server, serve_args: ServeArgs, name: str, **changes: Any) -> Iterator[str]:
    """A second gateway, with other arguments, in front of the session's replicas. Gives its address."""
    handles = [ray_serve.get_deployment_handle(deployment, "lumina") for deployment in ("Fingerprinter", "Searcher")]
    args = ServeArgs(**(serve_args.model_dump() | changes))
    application = GATEWAY.bind(args, *handles)
    ray_serve.run(application, name=name, route_prefix=f"/{name}", logging_config=APPLICATION_LOGS)
    try:
        yield f"{server.address}/{name}"
    finally:
        # Also after a failure: its CPU is missing to replicas that later tests wait for.
        ray_serve.delete(name)


@pytest.fixture
def closed(server: Server, serve_args: ServeArgs, keys_file: Path) -> Iterator[str]:
    """The address of a gateway that wants keys."""
    add_key(keys_file, "first")
    with beside(server, serve_args, "closed", keys=keys_file, open_access=False) as address:
        yield address
