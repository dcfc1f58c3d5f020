"""The demo's ranks under a model of the second family; `lumina demo` itself takes minutes."""

import json
from pathlib import Path
from typing import get_args, get_type_hints

import pyarrow.parquet as pq
import torch

from lumina_ray.audio import load_audio
from lumina_ray.audio.encode import encode_mp3
from lumina_ray.catalog import scan_folder, write_manifest
from lumina_ray.catalog.decode import decode_rows
from lumina_ray.cli.demo import demo
from lumina_ray.demo.run import ranks_of
from lumina_ray.demo.songs import demo_songs
from lumina_ray.fingerprint import Specification, describe_environment
from lumina_ray.fingerprint.default import default_kind
from lumina_ray.model import BUNDLED, find_model, open_model
from lumina_ray.model.files import REFERENCE
from lumina_ray.store import FingerprintWorker, Run, begin_run, manifest_sha256
from tests.cluster.catalog import write_tone
from tests.tiny_dit import export_tiny_dit


def test_songs_are_ranked_with_a_model_of_latents(tmp_path: Path) -> None:
    export_tiny_dit(tmp_path / "dit")
    name, kind = str(tmp_path / "dit"), default_kind(str(tmp_path / "dit"))
    (tmp_path / "songs").mkdir()
    for seed in range(2):
        write_tone(tmp_path / "songs" / f"tone-{seed}.flac", 4, seed=seed)
    manifest = scan_folder(tmp_path / "songs").songs
    song = manifest.to_pylist()[1]
    encode_mp3(load_audio(song["path"]).samples, tmp_path / "copy.mp3", 64_000)

    model = open_model(name)
    specification, songs = Specification.for_model(model, kind), manifest
    store = tmp_path / "store"
    begin_run(store, Run(manifest_sha256(songs), len(songs), name, specification, describe_environment(model)))
    (store / "data").mkdir()
    write_manifest(songs, store / "manifest.parquet")
    worker = FingerprintWorker(name, specification.to_dict())
    pq.write_table(worker(decode_rows(songs)), store / "data" / "part-0.parquet")
    (store / "_SUCCESS").touch()
    assert ranks_of(name, song["song_id"], tmp_path / "copy.mp3", store) == {"P": 1, "M": 1}


def test_every_bundled_model_but_the_reference_can_be_shown() -> None:
    hint = get_type_hints(demo, include_extras=True)["model"]
    assert {*get_args(get_args(hint)[0]), REFERENCE} == set(BUNDLED)


def test_the_reference_has_nanos_codec_and_heard_nothing_of_the_demos_catalog() -> None:
    reference, nano = open_model(REFERENCE), open_model("nano")
    codecs = [dict(model.model.audio_encoder.named_parameters()) for model in (reference, nano)]
    assert codecs[0].keys() == codecs[1].keys()
    assert all(torch.equal(codecs[0][name], codecs[1][name]) for name in codecs[1])
    heard = json.loads((find_model(REFERENCE) / "music.json").read_text("utf-8"))
    assert len(set(heard)) == 120
    assert not set(heard) & {song.ref for song in demo_songs()}
