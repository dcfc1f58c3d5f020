"""Membership evidence on Ray: a living catalog in several parts, against one song after the other in this process."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cluster.membership import measure_membership
from lumina_ray.calibration.membership import evidence_of
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.errors import SpecificationMismatch, UsageError
from lumina_ray.fingerprint import Specification
from lumina_ray.fingerprint.likelihood import likelihood, observe
from lumina_ray.fingerprint.observed import Observed
from lumina_ray.model import open_model
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.store import Run, begin_run, store_schema, stream_store
from lumina_ray.store.changes import add_segment, next_segment, remove_songs
from lumina_ray.training.export import export
from lumina_ray.vocabulary import Channel, SongCodes

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def reference_dirs(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The tiny model with other language models around its codec."""
    folders = []
    for seed in (5, 6):
        model = TransformersMusicGen.load(tiny_model_dir, "tiny", "cpu").model
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        folders.append(tmp_path_factory.mktemp("models") / f"reference-{seed}")
        export(model, folders[-1])
    return folders


def write_part(
    folder: Path,
    specification: Specification,
    model: Path,
    songs: dict[str, SongCodes],
    vectors: Mapping[str, Mapping[Channel, np.ndarray]] | None = None,
) -> None:
    """A finished store with real codes, in two data files, and a failed song; vectors are random by default."""
    rng = np.random.default_rng(0)
    rows: list[dict] = [{"song_id": f"{folder.name}-failed", "status": "failed"}]
    for song_id, codes in songs.items():
        unit = vectors[song_id] if vectors else {c: rng.normal(size=d) for c, d in specification.dims.items()}
        rows.append(
            dict.fromkeys(METADATA_COLUMNS)
            | {"song_id": song_id, "status": "ok", "codes_sha256": codes.sha256, "codes": codes.to_bytes()}
            | {"duration_s": 10.0 * len(codes.chunks), "audio_sha256": codes.sha256}
            | {"heard": codes.heard_bytes(), "chunk_frames": codes.frames, "chunk_starts_s": list(codes.starts_s)}
            | {c: (v / np.linalg.norm(v)).astype(np.float32) for c, v in unit.items()}
        )
    begin_run(folder, Run("b" * 64, len(rows), str(model), specification, {}))
    (folder / "data").mkdir()
    for i in range(2):
        part = pa.Table.from_pylist(rows[i::2], schema=store_schema(specification))
        pq.write_table(part, folder / "data" / f"{i}.parquet")
    (folder / "_SUCCESS").touch()


def some_songs(prefix: str, n: int, seed: int) -> dict[str, SongCodes]:
    rng = np.random.default_rng(seed)
    songs = {}
    for i in range(n):
        frames = [30, 30, 17][: 1 + i % 3]
        chunks = tuple(rng.integers(0, 512, (4, f)).astype(np.uint16) for f in frames)
        songs[f"{prefix}-{i:02}"] = SongCodes(chunks, tuple(10.0 * j for j in range(len(frames))))
    return songs


def test_every_song_of_a_living_catalog_has_its_own_numbers(
    tiny_model_dir: Path, reference_dirs: list[Path], tmp_path: Path
) -> None:
    audited, *references = (open_model(str(folder)) for folder in (tiny_model_dir, *reference_dirs))
    specification = Specification.for_model(audited, "stats")
    catalog, songs = tmp_path / "catalog", {}
    for number in range(2):
        added = some_songs(f"song-{number}", 4, seed=number)
        segment = next_segment(catalog)
        write_part(segment, specification, tiny_model_dir, added)
        add_segment(catalog, segment, replacing=False)
        songs |= added
    remove_songs(catalog, ["song-1-02"])
    del songs["song-1-02"]
    # Ids may be those of catalog songs: they are other songs all the same.
    controls = some_songs("song-0", 20, seed=9)
    write_part(tmp_path / "controls", specification, tiny_model_dir, controls)
    store, control_store = stream_store(catalog), stream_store(tmp_path / "controls")
    names = [str(folder) for folder in reference_dirs]
    found = measure_membership(store, control_store, names, device="cpu", workers=1)

    def observed(codes: SongCodes) -> Observed:
        return observe(likelihood(audited, codes), [likelihood(model, codes) for model in references])

    tracks = [observed(songs[song_id]) for song_id in sorted(songs)]
    assert found.songs["song_id"].to_pylist() == sorted(songs)
    for row, of in zip(found.songs.to_pylist(), tracks, strict=True):
        assert row["audited"] == pytest.approx(of.audited, abs=1e-6)
        assert row["reference"] == pytest.approx(np.mean(of.references), abs=1e-6)
    expected = evidence_of([*tracks, *map(observed, controls.values())])
    assert found.songs["evidence"].to_pylist() == pytest.approx(expected[: len(songs)], rel=1e-3, abs=1e-3)
    assert found.basis.control_evidence == pytest.approx(
        sorted(expected[len(songs) :], reverse=True), rel=1e-3, abs=1e-3
    )
    assert found.basis.references == tuple(names)
    assert found.basis.references_weights_sha256 == tuple(model.weights_sha256 for model in references)

    with pytest.raises(SpecificationMismatch, match="has the weights of the audited model itself"):
        measure_membership(store, control_store, [names[0], str(tiny_model_dir)], device="cpu", workers=1)
    with pytest.raises(UsageError, match="takes 1 to 16"):
        measure_membership(store, control_store, [], device="cpu")
