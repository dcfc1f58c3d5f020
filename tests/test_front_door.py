"""`import lumina_ray as lr`: a dozen names, the numbers of the jobs, and errors that list the right names."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lumina_ray as lr
import lumina_ray.fingerprint
import lumina_ray.index
from lumina_ray.audio import load_audio
from lumina_ray.calibration import read_calibration
from lumina_ray.catalog import read_manifest, write_manifest
from lumina_ray.client import Client
from lumina_ray.errors import AudioError, ModelError, SpecificationMismatch, StoreError, UsageError
from lumina_ray.fingerprint import KINDS, Specification
from lumina_ray.front.index import Index
from lumina_ray.front.model import Model
from lumina_ray.index import load_snapshot
from lumina_ray.report import read_report, to_json
from lumina_ray.storage import locate
from lumina_ray.store import open_store, read_store, store_status, stream_store
from tests.small_catalog import N_CONTROLS, N_SONGS, SmallCatalog


@pytest.fixture(scope="module")
def model() -> Model:
    return lr.open_model("nano", device="cpu")


@pytest.fixture(scope="module")
def index(small_catalog: SmallCatalog) -> Index:
    return lr.open_index(str(small_catalog.index), device="cpu")


def test_public_names_are_verbs_for_users() -> None:
    assert sorted(lr.__all__) == ["LuminaError", "calibrate", "fingerprint", "index", "open_index", "open_model"]
    assert lr.__version__
    for name in lr.__all__:
        assert callable(getattr(lr, name))
    with pytest.raises(AttributeError, match="openmodel"):
        lr.openmodel  # type: ignore[attr-defined]  # noqa: B018


def test_import_is_light() -> None:
    heavy = ("torch", "transformers", "numpy", "pandas", "ray", "faiss")
    code = f"import sys, lumina_ray; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_verbs_that_are_packages_stay_packages() -> None:
    import lumina_ray.fingerprint.kinds as kinds

    assert kinds.KINDS is lumina_ray.fingerprint.KINDS is KINDS
    assert lr.index is lumina_ray.index
    assert list(inspect.signature(lr.index).parameters)[:2] == ["store", "out"]
    assert list(inspect.signature(lr.fingerprint).parameters)[:2] == ["manifest", "out"]
    # Ray sends functions that refer to modules.
    code = (
        "import ray.cloudpickle as pickle, lumina_ray.index as index; ask = lambda: index.IndexConfig; "
        "assert pickle.loads(pickle.dumps(ask))() is ask()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fingerprints_have_the_bits_of_a_job(model: Model, small_catalog: SmallCatalog) -> None:
    store = read_store(small_catalog.store)
    for row, path in enumerate(store.songs["path"].to_pylist()[:2]):
        made = model.fingerprint(path, "influence")
        for channel in ("P", "M"):
            assert made.vectors[channel].dtype == np.float32
            np.testing.assert_array_equal(made.vectors[channel], store.vectors(channel)[row])
        assert made.codes_sha256 == store.songs["codes_sha256"][row].as_py()
        assert made.audio_sha256 == store.songs["audio_sha256"][row].as_py()
        assert made.specification == store.specification


def test_similarity_is_a_mapping_of_channels(model: Model, small_catalog: SmallCatalog) -> None:
    files = [small_catalog.songs / f"tone-000{i}.flac" for i in (0, 1)]
    one, other = (model.fingerprint(file, "influence") for file in files)
    found = one.similarity(other)
    store = read_store(small_catalog.store)
    assert list(found) == ["P", "M"]
    assert dict(found) == dict(other.similarity(one))
    for channel, value in found.items():
        songs = store.vectors(channel).astype(np.float64)
        assert value == pytest.approx(songs[0] @ songs[1], abs=1e-12)
    assert str(found) == f"P {found['P']:.3f}  M {found['M']:.3f}"
    assert dict(one.similarity(one)) == pytest.approx({"P": 1, "M": 1}, abs=1e-6)
    assert "influence" in repr(one)
    only_p = model.fingerprint(small_catalog.songs / "tone-0000.flac", "influence", channels="P")
    assert dict(only_p.similarity(only_p)).keys() == {"P"}
    tokens = model.fingerprint(small_catalog.songs / "tone-0000.flac", kind="tokens")
    with pytest.raises(SpecificationMismatch, match="kind: influence and tokens"):
        one.similarity(tokens)


def test_reports_are_those_of_the_command_line(index: Index, small_catalog: SmallCatalog) -> None:
    files = [small_catalog.songs / "tone-0002.flac", small_catalog.songs / "tone-0004.flac"]
    seen: list[tuple[int, int, str]] = []
    reports = index.attribute_all(files, progress=lambda *step: seen.append(step))
    assert seen == [(1, 2, str(files[0])), (2, 2, str(files[1]))]
    for file, report in zip(files, reports, strict=True):
        assert to_json(report) == to_json(lr.open_index(str(small_catalog.index), device="cpu").attribute(str(file)))
    assert index.attribute(files[0], policy="v8").policy.name == "v8"
    assert (len(index), index.version, repr(index)) == (N_SONGS, "v0001", "Index(v0001, 6 songs, channels P and M)")


def test_the_model_of_an_index_is_loaded_once(small_catalog: SmallCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
    from lumina_ray.attribution import fingerprinter

    loaded = []
    really_open = fingerprinter.open_model
    monkeypatch.setattr(fingerprinter, "open_model", lambda *args: loaded.append(args) or really_open(*args))
    index = lr.open_index(small_catalog.index, device="cpu")
    assert not loaded
    index.attribute_all([small_catalog.songs / "tone-0000.flac"] * 2)
    index.attribute(small_catalog.songs / "tone-0001.flac")
    assert len(loaded) == 1


def test_reports_show_themselves(index: Index, small_catalog: SmallCatalog) -> None:
    report = index.attribute(small_catalog.songs / "tone-0003.flac")
    frame = report.to_frame("P")
    assert isinstance(frame, pd.DataFrame)
    candidates = report.near_copies["P"].candidates
    assert list(frame["song_id"]) == [c.song.song_id for c in candidates]
    assert list(frame["share"]) == [c.share for c in candidates]
    assert frame.loc[0, "song_id"] == "tone-0003.flac"
    answer = report.near_copies["P"]
    assert repr(report).startswith(f"Report(P: {answer.qualified} of 6 songs qualify, {answer.unattributed:.1%} unatt")
    assert str(report) == repr(report)
    picture = report._repr_html_()
    assert picture.startswith("<iframe srcdoc=")
    assert "sandbox" in picture
    assert "tone-0003.flac" in picture
    with pytest.raises(UsageError, match="one of P, M"):
        report.to_frame("X")  # type: ignore[arg-type]


def test_calibrate_and_index_are_those_of_the_command_line(small_catalog: SmallCatalog, tmp_path: Path) -> None:
    before = read_calibration(small_catalog.store)
    assert lr.calibrate(str(small_catalog.store), controls=str(small_catalog.controls)) == before
    assert before.channels["P"].n_controls == N_CONTROLS
    built = lr.index(str(small_catalog.store), out=str(tmp_path / "index"), device="cpu")
    assert isinstance(built, Index)
    assert built.snapshot.key == load_snapshot(small_catalog.index).key


def wrong_names(small_catalog: SmallCatalog, model: Model, index: Index) -> Iterator[tuple[type, str, object]]:
    song = small_catalog.songs / "tone-0000.flac"
    yield ModelError, "nano, nano-early", lambda: lr.open_model("nanno")
    yield UsageError, "auto, cpu, cuda, cuda:N", lambda: lr.open_model("nano", device="gpu")
    yield UsageError, "float32, bfloat16, float16", lambda: lr.open_model("nano", dtype="float8")  # type: ignore[arg-type]
    yield UsageError, "influence, stats", lambda: model.fingerprint(song, "influnce")
    yield UsageError, "influence, stats", lambda: Specification.for_model(model.music_model, "influnce")
    yield UsageError, "one or more of P, M", lambda: model.fingerprint(song, channels=("P", "X"))  # type: ignore[arg-type]
    yield UsageError, "one or more of P, M", lambda: model.fingerprint(song, channels=())
    yield UsageError, "calibrated, v8, v7", lambda: index.attribute(song, policy="v9")
    yield AudioError, "no such file", lambda: model.fingerprint("nothing.wav")
    yield StoreError, "does not exist", lambda: lr.open_index("nowhere")
    yield StoreError, "no fingerprint store", lambda: lr.index("nowhere", out="x")
    yield StoreError, "no fingerprint store", lambda: lr.calibrate("nowhere", controls="x")
    yield UsageError, "nowhere: cannot be read", lambda: read_report("nowhere")


def test_wrong_names_list_the_right_ones(small_catalog: SmallCatalog, model: Model, index: Index) -> None:
    for kind, words, call in wrong_names(small_catalog, model, index):
        with pytest.raises(kind, match=words):
            call()  # type: ignore[operator]


def test_paths_are_strings_or_pathlike(small_catalog: SmallCatalog, tmp_path: Path) -> None:
    class Named:
        def __init__(self, path: Path) -> None:
            self.path = path

        def __fspath__(self) -> str:
            return str(self.path)

    store, index = small_catalog.store, small_catalog.index
    for path in (str, Named, Path):
        assert load_snapshot(path(index)).version == "v0001"
        assert open_store(path(store)).song_ids == stream_store(path(store)).song_ids
        assert store_status(path(store)).state == "finished"
        manifest = read_manifest(path(store / "manifest.parquet"))
        write_manifest(manifest, path(tmp_path / "copy.parquet"))
        assert len(load_audio(path(small_catalog.songs / "tone-0000.flac")).samples) == 128_000
    with pytest.raises(AudioError), Client("http://127.0.0.1:1") as client:
        client.attribute("nothing.wav")
    assert locate(Named(index)) == index
