"""One manifest row in, one store row out, whatever the audio; and a store that is read whole or not at all."""

import re
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from torch import Tensor

from lumina_ray.catalog.decode import decode_rows
from lumina_ray.catalog.manifest import METADATA_COLUMNS
from lumina_ray.errors import NumericsError, SpecificationMismatch, StoreError
from lumina_ray.evidence.kept import evidence_version, from_columns
from lumina_ray.fingerprint import Fingerprint, Specification, batching, describe_environment
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.interface import Prediction
from lumina_ray.store import (
    FingerprintWorker,
    Run,
    begin_run,
    check_complete,
    export_hdf5,
    read_store,
    store_schema,
)
from lumina_ray.vocabulary import SongCodes


@pytest.fixture(scope="module")
def worker(tiny_model_dir: Path) -> FingerprintWorker:
    specification = Specification.for_model(open_model(str(tiny_model_dir)), "influence")
    return FingerprintWorker(str(tiny_model_dir), specification.to_dict())


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(0)
    for name in ("one", "dös & trés"):
        soundfile.write(folder / f"{name}.flac", rng.normal(size=12 * 32_000) * 0.1, 32_000)
    soundfile.write(folder / "silent.flac", np.zeros(12 * 32_000), 32_000)
    (folder / "text.wav").write_text("la la la " * 100)
    ids = ["one", "dös & trés", "silent", "text", "missing"]
    files = ["one.flac", "dös & trés.flac", "silent.flac", "text.wav", "missing.wav"]
    return pa.table(
        {"song_id": ids, "path": [str(folder / file) for file in files]}
        | {c: pa.array([f"{c} of {i}" for i in ids]) for c in METADATA_COLUMNS}
    )


@pytest.fixture(scope="module")
def rows(worker: FingerprintWorker, manifest: pa.Table) -> pa.Table:
    return worker(decode_rows(manifest))


def test_every_song_has_one_row_with_its_reason(rows: pa.Table, manifest: pa.Table) -> None:
    assert rows["song_id"].to_pylist() == manifest["song_id"].to_pylist()
    assert rows["status"].to_pylist() == ["ok", "ok", "failed", "failed", "failed"]
    assert rows["error_code"].to_pylist() == [None, None, "audio.silent", "audio.undecodable", "audio.missing"]
    for row in rows.to_pylist()[2:]:
        assert row["path"] in row["error"]
        assert row["P"] is None
        assert row["title"] == f"title of {row['song_id']}"
    assert rows["audio_sha256"].to_pylist()[2] is not None


def test_ok_rows_hold_shared_evidence_also_of_codes_used_again(worker: FingerprintWorker, rows: pa.Table) -> None:
    again = worker(rows.select([name for name in rows.column_names if name not in ("P", "M", "P_norm", "M_norm")]))
    for made in (rows, again):
        assert made["evidence_version"].to_pylist() == [evidence_version()] * 2 + [None] * 3
        for row in made.to_pylist()[:2]:
            vectors = from_columns(row)
            assert vectors is not None
            assert {name: of.shape for name, of in vectors.items()} == {"composition": (1, 272), "sound": (1, 32)}
    assert again.select(["composition", "sound"]).equals(rows.select(["composition", "sound"]))


def test_ok_rows_hold_unit_vectors_and_the_codes_they_came_from(rows: pa.Table, worker: FingerprintWorker) -> None:
    for row in rows.to_pylist()[:2]:
        assert row["chunk_frames"] == [500]  # 12 s: the tail of 2 s is dropped
        assert len(row["codes"]) == 2 * 4 * 500
        assert np.linalg.norm(row["P"]) == pytest.approx(1, abs=1e-6)
        assert row["duration_s"] == 12.0
        codes = SongCodes.from_bytes(row["codes"], row["heard"], 4, row["chunk_frames"], row["chunk_starts_s"])
        assert (row["P_norm"], row["M_norm"]) == tuple(worker.fingerprinter(codes).norms.values())


def test_rows_from_codes_are_bit_identical(rows: pa.Table, worker: FingerprintWorker) -> None:
    again = worker(rows)
    assert again.equals(rows)


def test_damaged_codes_fail_their_own_row_only(rows: pa.Table, worker: FingerprintWorker) -> None:
    broken = rows.to_pylist()[:2]
    broken[0]["codes"] = broken[0]["codes"][:-2]
    again = worker(pa.Table.from_pylist(broken, schema=rows.schema))
    assert again["status"].to_pylist() == ["failed", "ok"]
    assert "damaged codes" in again["error"][0].as_py()


def test_gradients_that_overflow_fail_their_row(
    rows: pa.Table, worker: FingerprintWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = np.full(4096, np.nan, np.float32)
    monkeypatch.setattr(
        worker.fingerprinter,
        "many",
        lambda songs: iter([Fingerprint({"P": nothing, "M": nothing}, {}, nothing, {"P": np.nan, "M": np.nan})]),
    )
    again = worker(rows.slice(0, 1)).to_pylist()[0]
    assert (again["status"], again["error_code"], again["P"]) == ("failed", "numerics.not_finite", None)
    assert again["error"] == "one: its gradients overflow in float32"
    monkeypatch.undo()
    rescued = worker(pa.Table.from_pylist([again], schema=rows.schema))
    assert rescued.equals(rows.slice(0, 1))


def test_a_worker_that_was_wrong_once_makes_nothing_more(rows: pa.Table, tiny_model_dir: Path) -> None:
    specification = Specification.for_model(open_model(str(tiny_model_dir)), "influence")
    worker = FingerprintWorker(str(tiny_model_dir), specification.to_dict())
    nothing = {channel: np.zeros(4096, np.float32) for channel in ("P", "M")}
    honest = worker.fingerprinter.many
    worker.fingerprinter.many = lambda songs: iter([Fingerprint(nothing, {}, nothing["P"], {"P": 0.0, "M": 0.0})])
    with pytest.raises(NumericsError, match="one: channel P computed twice differs"):
        worker(rows.slice(0, 1))
    worker.fingerprinter.many = honest
    with pytest.raises(NumericsError, match="one: channel P"):
        worker(rows.slice(1, 1))


class Crowded:
    """A model whose GPU has memory for so many chunks at once, and no more."""

    def __init__(self, model: MusicModel) -> None:
        self._model, self.room, self.refused = model, 1_000, []

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def predict(self, codes_BKT: Tensor, n_frames: list[int]) -> Prediction:
        if len(codes_BKT) > self.room:
            self.refused.append(len(codes_BKT))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self._model.predict(codes_BKT, n_frames)


@pytest.fixture
def crowded(tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FingerprintWorker, Crowded]:
    """A worker that was made for 4 chunks at once."""
    model = Crowded(open_model(str(tiny_model_dir)))
    monkeypatch.setattr("lumina_ray.model.open_model", lambda *_: model)
    return FingerprintWorker("crowded", Specification.for_model(model, "influence").to_dict(), "cpu", 4), model


@pytest.mark.parametrize(("room", "refused"), [(2, [4]), (1, [4, 2])])
def test_short_memory_halves_the_batch_and_changes_no_bit(
    crowded: tuple[FingerprintWorker, Crowded], rows: pa.Table, room: int, refused: list[int]
) -> None:
    worker, model = crowded
    model.room = room
    assert worker(rows).equals(rows)
    assert worker.fingerprinter.chunks_in_flight == room
    assert model.refused == refused
    assert worker(rows).equals(rows)
    assert model.refused == refused, "it should not try the large batch again"


def test_short_memory_fails_a_song_rather_than_change_its_bits(
    crowded: tuple[FingerprintWorker, Crowded], rows: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, model = crowded
    model.room = 2
    monkeypatch.setattr(batching, "_same_bits", lambda *_: False)
    failed = worker(rows)
    assert failed["error_code"].to_pylist() == ["memory.gpu"] * 2 + rows["error_code"].to_pylist()[2:]
    assert "4 chunks at once" in failed["error"][0].as_py()
    assert worker.fingerprinter.chunks_in_flight == 4
    model.room = 4
    assert worker(failed).equals(rows), "its codes should be kept, and rescue it"


def test_no_memory_for_a_single_chunk_fails_songs_and_not_the_job(
    crowded: tuple[FingerprintWorker, Crowded], rows: pa.Table
) -> None:
    worker, model = crowded
    model.room = 0
    assert worker(rows)["error_code"].to_pylist()[:2] == ["memory.gpu"] * 2


@pytest.fixture
def store(tmp_path: Path, rows: pa.Table, manifest: pa.Table, worker: FingerprintWorker) -> Path:
    folder = tmp_path / "store"
    begin_run(folder, Run("a" * 64, len(rows), "tiny", worker.specification, {}))
    pq.write_table(manifest, folder / "manifest.parquet")
    (folder / "data").mkdir()
    pq.write_table(rows.slice(0, 3), folder / "data" / "b.parquet")
    pq.write_table(rows.slice(3), folder / "data" / "a.parquet")
    (folder / "_SUCCESS").touch()
    return folder


def test_a_worker_of_another_kind_of_machine_than_the_runs_is_refused(tiny_model_dir: Path) -> None:
    model = open_model(str(tiny_model_dir))
    arguments = (str(tiny_model_dir), Specification.for_model(model, "influence").to_dict(), "cpu", 1)
    environment = describe_environment(model)
    FingerprintWorker(*arguments, environment)
    for name, value in {"device": "NVIDIA H100", "torch": "1.0"}.items():
        both = f"has {name} = {re.escape(environment[name])}, the run has {value}: "
        with pytest.raises(SpecificationMismatch, match=both):
            FingerprintWorker(*arguments, environment | {name: value})


def test_store_is_read_sorted_and_whole(store: Path, rows: pa.Table) -> None:
    read = read_store(store)
    assert read.song_ids == ["dös & trés", "one"]
    assert read.failed["song_id"].to_pylist() == ["missing", "silent", "text"]
    assert read.vectors("M").dtype == np.float32
    np.testing.assert_array_equal(read.vectors("M")[1], rows["M"][0].as_py())
    assert read.norms("P").tolist() == [rows["P_norm"][1].as_py(), rows["P_norm"][0].as_py()]
    assert check_complete(store, read.specification) == (2, 3)


def test_unfinished_store_is_not_read(store: Path) -> None:
    (store / "_SUCCESS").unlink()
    with pytest.raises(StoreError, match="not finished"):
        read_store(store)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("lose", "without a row.*; delete its _SUCCESS and run the same `lumina fingerprint` again"),
        ("lose-unfinished", "without a row.*; run the same `lumina fingerprint` again"),
        ("double", "doubled.*; delete the store"),
        ("add", "unknown.*; delete the store"),
    ],
)
def test_completeness_is_every_song_exactly_once(store: Path, rows: pa.Table, change: str, message: str) -> None:
    specification = read_store(store).specification
    if change.startswith("lose"):
        (store / "data" / "a.parquet").unlink()
        if change == "lose-unfinished":
            (store / "_SUCCESS").unlink()
    elif change == "double":
        pq.write_table(rows.slice(0, 1), store / "data" / "c.parquet")
    else:
        stranger = rows.slice(0, 1).set_column(0, rows.schema.field("song_id"), pa.array(["stranger"]))
        pq.write_table(stranger, store / "data" / "c.parquet")
    with pytest.raises(StoreError, match=message):
        check_complete(store, specification)


def test_truncated_part_is_named(store: Path) -> None:
    part = store / "data" / "a.parquet"
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(StoreError, match="damaged data"):
        read_store(store)


def test_hdf5_has_the_published_names(store: Path, tmp_path: Path) -> None:
    read = read_store(store)
    export_hdf5(read, tmp_path / "signatures.h5")
    with h5py.File(tmp_path / "signatures.h5") as file:
        np.testing.assert_array_equal(file["signatures_p"], read.vectors("P"))
        np.testing.assert_array_equal(file["signatures_m"], read.vectors("M"))
        np.testing.assert_array_equal(file["norms_p"], read.norms("P"))
        assert file["song_ids"].asstr()[:].tolist() == read.song_ids


def test_schema_follows_the_specification(worker: FingerprintWorker) -> None:
    other = replace(worker.specification, dims={"P": 8, "M": 9})
    schema = store_schema(other)
    assert schema.field("P").type.list_size == 8
    assert schema.field("M").type.list_size == 9
