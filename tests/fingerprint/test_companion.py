"""Kind `companion` against autograd's gradients, whitened and cut in NumPy; its file; what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lumina_ray.errors import ModelError, NumericsError, SpecificationMismatch, UsageError
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.companion_statistics import measure_companions
from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.model import MusicModel, open_model
from lumina_ray.model.companion import (
    COMPANION_FILE,
    Companions,
    Sides,
    companions_of,
    load_companions,
    save_companions,
)
from lumina_ray.model.files import weights_sha256
from lumina_ray.vocabulary import CHANNELS, Channel, Representation, SongCodes
from tests.fingerprint.test_fingerprint import mean_gradients, random_codes, with_pauses
from tests.tiny_model import random_companions, tiny_music_model

HEADS: dict[Channel, range] = {"P": range(1), "M": range(1, 4)}
LAYERS = {"model": 8, "companion-1": 1, "companion-2": 3}  # of 16, 2 and 6


@pytest.fixture(scope="module")
def models() -> list[MusicModel]:
    """A model and two shallower companions whose predictions depend on what came before."""
    model = tiny_music_model()
    models: list[MusicModel] = [model, *companions_of(model).open(model.device, torch.float32), tiny_music_model(6)]
    with torch.no_grad():
        for one in models:
            for weights in one.heads():
                weights.mul_(8)
    return models


@pytest.fixture(scope="module")
def songs(models: list[MusicModel]) -> list[SongCodes]:
    """Six songs of one and two chunks, some with pauses."""
    return [
        with_pauses(codes) if seed % 2 else codes
        for seed in range(6)
        for codes in [random_codes(models[0], [120, 90] if seed == 3 else [100 + seed], seed)]
    ]


@pytest.fixture(scope="module")
def measured(models: list[MusicModel], songs: list[SongCodes]) -> Companions:
    """Of the first four songs; the others are no part of the catalog."""
    return measure_companions(models[0], models[1:], songs[:4], range(4))


def gradients(models: list[MusicModel], codes: SongCodes) -> dict[str, np.ndarray]:
    out = {}
    for of, model in zip(LAYERS, models, strict=True):
        mean_gradients(model, codes, (1, 1, 1, 1))
        weights = {f"{of}/heads.{k}": head for k, head in enumerate(model.heads())}
        weights[f"{of}/linear2"] = model.tracked(LAYERS[of], "linear2")[0]
        out |= {name: weight.grad.double().numpy() for name, weight in weights.items()}  # type: ignore[union-attr]
    return out


def z(found: dict[str, np.ndarray], sides: dict[str, tuple[np.ndarray, np.ndarray]], channel: Channel) -> np.ndarray:
    """Two blocks of each model, all of one length."""
    cut = {name: (left @ found[name] @ right.T).ravel() for name, (left, right) in sides.items()}
    blocks = [
        np.concatenate([cut[name] for name in names])
        for of in LAYERS
        for names in ([f"{of}/heads.{k}" for k in HEADS[channel]], [f"{of}/linear2"])
    ]
    return np.concatenate([block / np.linalg.norm(block) for block in blocks]) / np.sqrt(6)


def whitening(moment: np.ndarray, most: int) -> np.ndarray:
    values, vectors = np.linalg.eigh(moment)
    damped = values + 0.03 * values.mean()
    return (vectors[:, ::-1] * damped[::-1] ** -0.25).T[:most]


def test_inner_products_with_the_catalog_are_those_of_whitened_gradients(
    models: list[MusicModel], songs: list[SongCodes], measured: Companions
) -> None:
    assert models[0].companions is measured
    found = [gradients(models, codes) for codes in songs]
    sides = {
        name: (
            whitening(sum(of[name] @ of[name].T for of in found[:4]), 64),  # type: ignore[arg-type]
            whitening(sum(of[name].T @ of[name] for of in found[:4]), 32),  # type: ignore[arg-type]
        )
        for name in found[0]
    }
    fingerprinter = Fingerprinter(models[0], Specification.for_model(models[0], "companion"), 2)
    made = list(fingerprinter.many(songs))
    for channel in CHANNELS:
        exact = np.stack([z(of, sides, channel) for of in found])
        ours = np.stack([one.vectors[channel] for one in made]).astype(np.float64)
        assert ours.shape == (6, 4096)
        similar = ours @ ours.T
        np.testing.assert_allclose(similar[:, :4], (exact @ exact.T)[:, :4], atol=1e-5)
        # Of two songs outside of the catalog the projection gives an estimate.
        assert similar[4, 5] == pytest.approx(exact[4] @ exact[5], abs=5 / np.sqrt(4096))
        assert [one.norms[channel] for one in made] == pytest.approx([1] * 6, abs=1e-5)


def test_vectors_are_coordinates_and_a_projection_of_the_rest(
    models: list[MusicModel], songs: list[SongCodes], measured: Companions
) -> None:
    specification = Specification.for_model(models[0], "companion")
    assert (specification.layers, specification.statistics_sha256) == ({"P": [8], "M": [8]}, measured.sha256)
    sides = {name: (of.left_pM.astype(float), of.right_qN.astype(float)) for name, of in measured.sides.items()}
    for codes in (songs[3], songs[5]):
        found = gradients(models, codes)
        for in_flight in (1, 2):
            made = Fingerprinter(models[0], specification, in_flight)(codes)
            for channel in CHANNELS:
                basis, numbers = measured.orthonormal[channel].astype(float), z(found, sides, channel)
                within = basis.T @ numbers
                beyond = torch.from_numpy(numbers - basis @ within)
                projected = torch.zeros(4096 - 4, dtype=torch.float64)
                SparseProjection(len(beyond), 4096 - 4, 4, specification.seed).add(projected, 0, beyond)
                expected = np.concatenate([within, (projected * beyond.norm() / projected.norm()).numpy()])
                np.testing.assert_allclose(made.vectors[channel], expected, atol=1e-5)


def test_sides_whiten_and_bases_are_orthonormal(measured: Companions) -> None:
    assert measured.sides["model/heads.0"].left_pM.shape == (64, 512)
    assert measured.sides["companion-1/linear2"].left_pM.shape == (32, 32)
    assert measured.sides["companion-1/linear2"].right_qN.shape == (32, 128)
    for channel, basis_Sr in measured.orthonormal.items():
        assert basis_Sr.shape[1] == 4
        np.testing.assert_allclose(basis_Sr.T @ basis_Sr, np.eye(4), atol=1e-6)
        assert measured.bases[channel].dtype == np.float16
        np.testing.assert_allclose(basis_Sr, measured.bases[channel], atol=1e-3)


def test_the_order_in_which_songs_come_changes_no_bit(
    models: list[MusicModel], songs: list[SongCodes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more songs than are sampled: neither which of them are, nor how their sum is rounded."""
    monkeypatch.setattr(import_module("lumina_ray.fingerprint.companion_statistics"), "MAX_SONGS", 3)
    model, companions = tiny_music_model(), models[1:]
    order, steps = [4, 1, 5, 2, 0, 3], []
    shuffled = measure_companions(
        model, companions, [songs[i] for i in order], order, lambda done, of, _: steps.append((done, of))
    )
    assert steps == [(n, 18) for n in range(1, 19)]
    assert measure_companions(model, companions, iter(songs), range(6)).sha256 == shuffled.sha256
    assert {basis_Sr.shape[1] for basis_Sr in shuffled.bases.values()} == {3}
    assert measure_companions(model, companions, songs[:3], range(3)).sha256 != shuffled.sha256


@pytest.fixture
def folder(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model with its companion beside it."""
    for file in [*tiny_model_dir.iterdir(), *(tiny_model_dir / "early").iterdir()]:
        if file.is_file() and file.name != COMPANION_FILE:
            copy = tmp_path / "tiny" / file.relative_to(tiny_model_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(file)
    return tmp_path / "tiny"


def test_what_is_read_is_what_was_measured(folder: Path) -> None:
    model, companion = open_model(str(folder)), open_model(str(folder / "early"))
    with pytest.raises(ModelError, match=r"companion\.npz: no such file.*--companion"):
        Specification.for_model(model, "companion")
    codes = [random_codes(model, [60], seed) for seed in range(3)]
    before = weights_sha256(folder)
    found = measure_companions(model, [companion], codes, range(3))
    assert save_companions(found, folder) == folder / COMPANION_FILE
    assert weights_sha256(folder) == before
    read = open_model(str(folder))
    assert companions_of(read).sha256 == found.sha256
    assert not companions_of(read).opened
    one, same = (Fingerprinter(m, Specification.for_model(m, "companion"))(codes[0]) for m in (model, read))
    for channel in CHANNELS:
        assert one.vectors[channel].tobytes() == same.vectors[channel].tobytes()
    # A checkpoint that has moved is the same one.
    assert replace(found, names=("elsewhere",)).sha256 == found.sha256
    assert replace(found, companions_sha256=("f" * 64,)).sha256 != found.sha256


def test_what_does_not_belong_together_is_refused(folder: Path, tmp_path: Path) -> None:
    model, companion = open_model(str(folder)), open_model(str(folder / "early"))
    random = random_companions(model, companion)
    model.companions = replace(random, weights_sha256="f" * 64)
    with pytest.raises(SpecificationMismatch, match="was measured with weights ffffffffffff"):
        Specification.for_model(model, "companion")
    for wrong, message in (
        (replace(random, opened={}, companions_sha256=("f" * 64,)), "companion of weights ffffffffffff"),
        (replace(random, opened={}, names=(str(tmp_path / "gone"),)), r"cannot be opened .*gone.*put it back"),
        (replace(random, sides=random.sides | {"model/linear2": Sides(*np.zeros((2, 3, 3)))}), "for model/linear2"),
        (replace(random, sides={}), r"no matrices for model/heads\.0"),
        (replace(random, bases=random.bases | {"M": random.bases["P"]}), r"basis of channel M is"),
        (replace(random, bases=random.bases | {"M": np.ones_like(random.bases["M"])}), "M depend on each other"),
    ):
        model.companions = wrong
        with pytest.raises((ModelError, SpecificationMismatch), match=message):
            Fingerprinter(model, Specification.for_model(model, "companion"))
    model.companions = random
    specification = Specification.for_model(model, "companion")
    model.companions = replace(random, sides=random.sides | {"model/linear2": random.sides["companion-1/linear2"]})
    with pytest.raises(SpecificationMismatch, match=r"put its companion\.npz back"):
        Fingerprinter(model, specification)
    unsaved = tiny_music_model()
    unsaved.companions = None
    with pytest.raises(ModelError, match="in memory only"):
        companions_of(unsaved)


def rewritten(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    change(arrays)
    np.savez(path, **arrays)  # type: ignore[arg-type]


def record(**values: object) -> np.ndarray:
    fields = {"names": ["x"], "companions_sha256": ["0"], "weights_sha256": "0", "version": 2} | values
    return np.frombuffer(json.dumps(fields).encode(), np.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda of: of.pop("basis/M"), "lacks a channel"),
        (lambda of: of.pop("left/model/heads.0"), "cannot be read"),
        (lambda of: of.pop("record"), "cannot be read"),
        (lambda of: of.update(record=record(version=9)), "of version 9"),
        (lambda of: of.update(record=record(names="x")), "'x' is no list of texts"),
        (lambda of: of.update(record=record(names=["x", "y"])), "which models"),
        (lambda of: of.update(record=record(names=[], companions_sha256=[])), "which models"),
        (lambda of: of.update(record=np.frombuffer(b"[1]", np.uint8)), "cannot be read"),
        (lambda of: of["left/model/heads.0"].fill(np.inf), r"left/model/heads\.0 is no finite matrix"),
        (lambda of: of.update({"basis/P": of["basis/P"].astype(float)}), "basis/P is no finite matrix of its type"),
        (lambda of: of.update({"basis/P": np.array([{}], dtype=object)}), "cannot be read"),
    ],
    ids=[
        "channel",
        "side",
        "no-record",
        "version",
        "text",
        "one-too-many",
        "none",
        "list",
        "infinite",
        "float64",
        "pickle",
    ],
)
def test_a_damaged_file_is_refused_by_name(
    tiny_model_dir: Path, tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    path = tmp_path / COMPANION_FILE
    path.write_bytes((tiny_model_dir / COMPANION_FILE).read_bytes())
    rewritten(path, change)
    with pytest.raises(ModelError, match=rf"companion\.npz: .*{message}.*make it again with `lumina statistics"):
        load_companions(tmp_path)


def test_a_file_that_is_cut_or_too_large_is_refused_by_name(
    tiny_model_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data = tmp_path / COMPANION_FILE, bytearray((tiny_model_dir / COMPANION_FILE).read_bytes())
    path.write_bytes(data[:5000])
    with pytest.raises(ModelError, match="cannot be read"):
        load_companions(tmp_path)
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="cannot be read"):
        load_companions(tmp_path)
    np.savez_compressed(path, **{"basis/P": np.eye(64, dtype=np.float16)})  # type: ignore[arg-type]
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(ModelError, match="cannot be read"):
            load_companions(tmp_path)
    # Little on disk, and much once it is read.
    monkeypatch.setattr("lumina_ray.model.companion._MAX_BYTES", 2 << 20)
    np.savez_compressed(path, **{"basis/P": np.zeros((1 << 20, 2), np.float16)})  # type: ignore[arg-type]
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ModelError, match="would take 4194432 bytes, more than 2097152"):
        load_companions(tmp_path)


def test_what_cannot_be_measured_is_refused(models: list[MusicModel], songs: list[SongCodes]) -> None:
    model, companions = tiny_music_model(), models[1:]
    with pytest.raises(ModelError, match="there are none"):
        measure_companions(model, companions, [], [])
    with pytest.raises(SpecificationMismatch, match="companion 'nano' has another codec"):
        measure_companions(model, [models[1], open_model("nano")], songs, range(6))  # type: ignore[arg-type]
    silent = replace(songs[0], heard=(np.zeros(100, bool),))
    with pytest.raises(NumericsError, match=r"model/heads\.0 are all zero"):
        measure_companions(model, companions, [silent], [0])
    for wrong in ([], [models[1]] * 4):
        with pytest.raises(ModelError, match=f"from 1 to 3 companions, got {len(wrong)}"):
            measure_companions(model, wrong, songs, range(6))


def test_models_of_latents_have_no_such_fingerprint() -> None:
    with pytest.raises(UsageError, match="no fingerprint 'companion' of latents"):
        Specification.for_model(SimpleNamespace(representation=Representation("latents", 64)), "companion")  # type: ignore[arg-type]
