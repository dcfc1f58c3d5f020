"""The demo's queries and ranks under a model of the second family; `lumina demo` itself takes minutes."""

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pyarrow.parquet as pq
import soundfile

from lumina_ray.catalog import scan_folder, write_manifest
from lumina_ray.catalog.decode import decode_rows
from lumina_ray.cli.demo import demo
from lumina_ray.demo.run import make_queries, ranks_of
from lumina_ray.fingerprint import Specification, describe_environment
from lumina_ray.fingerprint.default import default_kind
from lumina_ray.model import BUNDLED, open_model
from lumina_ray.store import FingerprintWorker, Run, begin_run, manifest_sha256
from lumina_ray.vocabulary import SAMPLE_RATE_HZ
from tests.cluster.catalog import write_tone
from tests.tiny_dit import export_tiny_dit


def test_queries_are_made_and_ranked_with_a_model_of_latents(tmp_path: Path) -> None:
    export_tiny_dit(tmp_path / "dit")
    name, kind = str(tmp_path / "dit"), default_kind(str(tmp_path / "dit"))
    for part, seeds in (("songs", range(2)), ("others", range(7, 8))):
        (tmp_path / part).mkdir()
        for seed in seeds:
            write_tone(tmp_path / part / f"tone-{seed}.flac", 4, seed=seed)
        write_manifest(scan_folder(tmp_path / part).songs, tmp_path / f"{part}.parquet")
    song_id, queries = make_queries(
        name, tmp_path / "songs.parquet", tmp_path / "control.flac", tmp_path / "others.parquet", tmp_path / "queries"
    )
    assert [query.name for query in queries] == ["reencoded", "generated", "control", "other-generator"]
    samples, rate_hz = soundfile.read(queries[1].path)
    assert (len(samples), rate_hz) == (20 * SAMPLE_RATE_HZ, SAMPLE_RATE_HZ)
    assert np.isfinite(samples).all()
    assert samples.std() > 0

    model = open_model(name)
    specification, songs = Specification.for_model(model, kind), scan_folder(tmp_path / "songs").songs
    store = tmp_path / "store"
    begin_run(store, Run(manifest_sha256(songs), len(songs), name, specification, describe_environment(model)))
    (store / "data").mkdir()
    write_manifest(songs, store / "manifest.parquet")
    worker = FingerprintWorker(name, specification.to_dict())
    pq.write_table(worker(decode_rows(songs)), store / "data" / "part-0.parquet")
    (store / "_SUCCESS").touch()
    assert ranks_of(name, song_id, queries[0].path, store) == {"P": 1, "M": 1}


def test_every_bundled_model_can_be_shown() -> None:
    hint = get_type_hints(demo, include_extras=True)["model"]
    assert get_args(get_args(hint)[0]) == BUNDLED
