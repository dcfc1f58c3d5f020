"""The files that the demo asks about: as ordered, the same again from the same model, and of what they say they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lumina_ray.catalog import read_manifest, write_manifest
from lumina_ray.catalog.manifest import manifest_of
from lumina_ray.demo import queries
from lumina_ray.errors import UsageError
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.vocabulary import SAMPLE_RATE_HZ
from tests.tiny_model import export_tiny_text_model

CAPTIONS = [f"slow music, {word}" for word in ("piano", "organ", "brass", "reeds", "flutes")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TransformersMusicGen:
    folder = tmp_path_factory.mktemp("model")
    export_tiny_text_model(folder, CAPTIONS)
    return TransformersMusicGen.load(folder, "tiny", "cpu")


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("catalog"), np.random.default_rng(0)
    rows = []
    for number, caption in enumerate(CAPTIONS):
        path = folder / f"{number}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 6 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
        rows.append({"song_id": str(number), "path": str(path), "title": f"song {number}", "caption": caption})
    manifest = folder / "catalog.parquet"
    write_manifest(manifest_of(rows), manifest)
    return manifest


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queries, "_PIECE_S", 1.0)
    monkeypatch.setattr(queries, "_OWN_PIECES", 3)


def test_held_out_control_is_no_longer_among_the_controls(catalog: Path, tmp_path: Path) -> None:
    held_out, rest = queries.hold_out_one(catalog, tmp_path / "rest.parquet")
    left = read_manifest(rest)["path"].to_pylist()
    assert held_out.name == "4.wav"
    assert len(left) == 4
    assert str(held_out) not in left


def test_own_pieces_are_under_other_captions_than_the_queries(
    model: TransformersMusicGen, catalog: Path, tmp_path: Path
) -> None:
    pieces = read_manifest(queries.make_own_pieces(model, catalog, tmp_path / "pieces"))
    _, asked = queries.make_queries(model, catalog, tmp_path / "control.wav", catalog, tmp_path / "queries")
    captions = pieces["title"].to_pylist()
    assert len(set(captions)) == 3
    assert not any(caption in query.what for query in asked for caption in captions)
    assert [query.kind for query in asked] == ["altered mp3", "guided", "guided", "continued", "control", "foreign"]


def test_pieces_follow_from_model_and_catalog(model: TransformersMusicGen, catalog: Path, tmp_path: Path) -> None:
    once, again = (
        queries.make_queries(model, catalog, tmp_path / "control.wav", catalog, tmp_path / name)[1]
        for name in ("once", "again")
    )
    assert [one.path.read_bytes() for one in once[:4]] == [one.path.read_bytes() for one in again[:4]]
    assert once[1].path.read_bytes() != once[2].path.read_bytes()


def test_continuation_leaves_out_the_beginning(model: TransformersMusicGen, catalog: Path, tmp_path: Path) -> None:
    _, asked = queries.make_queries(model, catalog, tmp_path / "control.wav", catalog, tmp_path / "queries")
    # One frame longer than asked for, as all music that a model makes up.
    assert soundfile.info(asked[3].path).frames == pytest.approx(1.02 * SAMPLE_RATE_HZ, abs=1)


def test_a_model_that_makes_whole_pieces_alone_has_no_continuation(
    model: TransformersMusicGen, catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.generate

    def generate(*args: Any, prompt_KT: Any = None, **kwargs: Any) -> np.ndarray:
        if prompt_KT is not None:
            raise UsageError("cannot go on from one")
        return whole(*args, **kwargs)

    monkeypatch.setattr(model, "generate", generate)
    _, asked = queries.make_queries(model, catalog, tmp_path / "control.wav", catalog, tmp_path / "queries")
    assert [query.kind for query in asked] == ["altered mp3", "guided", "guided", "control", "foreign"]
