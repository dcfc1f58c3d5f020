"""A bank of an operator's own model, really fine-tuned and asked on Ray, down to a report that tells nats."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.own_plan import plan_own_bank
from cluster.own_truth import _make, _read_pieces, build_own_bank
from cluster.truth import Workplace
from lumina_ray.attribution import attribute
from lumina_ray.calibration import calibrate_store, write_calibration
from lumina_ray.errors import ModelError, SpecificationMismatch, UsageError
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.fingerprint.default import default_kind
from lumina_ray.index import IndexConfig, build_index, load_snapshot
from lumina_ray.model import open_model
from lumina_ray.store import stream_store
from lumina_ray.store.stream import codes_of
from lumina_ray.training.export import export, new_musicgen
from lumina_ray.truth.effects_fit import save_effects
from lumina_ray.truth.own_bank import load_own_bank
from lumina_ray.truth.own_effects import fit_own_effects
from lumina_ray.truth.own_model import ask, open_decoder
from lumina_ray.truth.own_music import OwnSong, cut_songs, own_orders, own_queries
from lumina_ray.truth.own_recipe import OwnRecipe
from lumina_ray.vocabulary import SongCodes
from tests.calibration.synthetic import query
from tests.cluster.test_membership import some_songs, write_part
from tests.tiny_model import tiny_codec_config

pytestmark = pytest.mark.usefixtures("ray_cluster")
N_SONGS, FRAMES = 10, 16
RECIPE = OwnRecipe(epochs=12, halves=8, removals=8, singles=0, repeats=2, pieces=0)


def own_songs(prefix: str, n: int, seed: int, n_chunks: int = 2) -> dict[str, SongCodes]:
    """Songs that each have a few codes of their own: who learned the beginning knows the end better."""
    rng, songs = np.random.default_rng(seed), {}
    for i in range(n):
        known = rng.integers(0, 512, (4, 3))
        chunks = tuple(
            np.stack([rng.choice(known[k], FRAMES) for k in range(4)]).astype(np.uint16) for _ in range(n_chunks)
        )
        songs[f"{prefix}-{i:02}"] = SongCodes(chunks, (0.0, 10.0)[:n_chunks])
    return songs


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "base"
    export(new_musicgen(tiny_codec_config(), n_layers=8, dim=32, heads=2), folder)
    return folder


@pytest.fixture(scope="module")
def stores(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, specification = tmp_path_factory.mktemp("stores"), Specification.for_model(open_model(str(base)), "stats")
    for name, n, seed, n_chunks in (("catalog", N_SONGS, 0, 2), ("controls", 20, 1, 1)):
        write_part(folder / name, specification, base, own_songs(name, n, seed, n_chunks))
    write_part(folder / "few", specification, base, some_songs("few", 4, 2))
    return {name: folder / name for name in ("catalog", "controls", "few")}


def test_a_bank_of_the_own_model_gives_its_index_effects(base: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    catalog, controls = stream_store(stores["catalog"]), stream_store(stores["controls"])
    out = tmp_path / "bank"
    bank = build_own_bank(str(base), catalog, controls, out, RECIPE)
    assert np.isfinite(bank.losses_RQK).all()
    assert [query.kind for query in bank.queries] == ["excerpt"] * N_SONGS
    assert bank.loss_of("A", "excerpt") < bank.loss_of("base", "excerpt")
    # Models of halves know the songs that they learned better than the others.
    for row in bank.of_kind("half"):
        better = bank.losses_RQK[0].mean(axis=1) - bank.losses_RQK[row].mean(axis=1)
        knows = np.array([query.recording in bank.trainings[row].songs for query in bank.queries])
        assert better[knows].mean() > better[~knows].mean()
    # No weights are kept but those of the model of the whole catalog, which says what the bank says of it.
    assert not list(out.rglob("parts/models/*"))
    model = open_decoder(str(bank.model))
    np.testing.assert_allclose(ask(model, bank.queries), bank.losses_RQK[1], rtol=1e-5)

    # What was interrupted goes on, and what is there is not made again.
    lost = Workplace(out).losses("half-003")
    kept = Workplace(out).losses("half-004").stat().st_mtime_ns
    lost.unlink()
    again = build_own_bank(str(base), catalog, controls, out, RECIPE)
    np.testing.assert_array_equal(again.losses_RQK, bank.losses_RQK)
    assert Workplace(out).losses("half-004").stat().st_mtime_ns == kept
    with pytest.raises(SpecificationMismatch, match="epochs = 12, not 13"):
        build_own_bank(str(base), catalog, controls, out, OwnRecipe(epochs=13, halves=8, repeats=2))

    effects = fit_own_effects(load_own_bank(out), "companion")
    assert effects.kinds["excerpt"].fitted.n_models == 8
    assert [check.removals for check in effects.kinds["excerpt"].checks] == ["half", "tenth"]
    save_effects(effects, tmp_path / "effects.json")

    # The index of that model takes the file, and its reports tell nats.
    specification = Specification.for_model(model, default_kind(str(bank.model)))
    fingerprinter = Fingerprinter(model, specification)
    songs, of_controls = (codes_of(store, store.song_ids) for store in (catalog, controls))
    made = {"songs": songs, "controls": of_controls}
    for name, codes in made.items():
        vectors = {song_id: fingerprinter(one).vectors for song_id, one in codes.items()}
        write_part(tmp_path / name, specification, bank.model, codes, vectors)
    store = stream_store(tmp_path / "songs")
    write_calibration(calibrate_store(store, stream_store(tmp_path / "controls")), store.path)
    index = build_index(store, tmp_path / "index", IndexConfig(effects=tmp_path / "effects.json"))
    clip = SongCodes(songs["catalog-03"].chunks[1:], (0.0,))
    asked = query(fingerprinter(clip).vectors, spec_sha256=specification.sha256)
    finding = attribute(asked, load_snapshot(index)).influence
    assert finding is not None
    assert finding.query_kind == "excerpt"
    assert finding.catalog.n_songs == N_SONGS
    assert finding.catalog.effect > 0
    assert finding.songs[0].name == "catalog-03"


def test_the_model_makes_the_pieces_that_are_asked_about(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pieces of 10 s would take seconds here.
    monkeypatch.setattr("lumina_ray.truth.pieces.QUERY_FRAMES", 14)
    songs = own_songs("song", N_SONGS, 0)
    music = cut_songs([OwnSong(name) for name in songs], list(songs.values()))
    recipe = replace(RECIPE, pieces=2, prompt_frames=8)
    wanted = own_orders(recipe, music)
    _make(str(base), recipe, wanted, music, "cpu", tmp_path / "pieces.npz")
    free, continued = _read_pieces(tmp_path / "pieces.npz", len(wanted))
    assert (free.shape, continued.shape) == ((2, 4, 14), (2, 4, 6))
    queries = list(own_queries(recipe, music, wanted, (free, continued)))
    assert [query.kind for query in queries[-4:]] == ["generated"] * 2 + ["prompted"] * 2
    assert np.isfinite(ask(open_decoder(str(base)), queries)).all()


def test_a_plan_counts_the_models_and_measures_their_steps(base: Path, stores: dict[str, Path]) -> None:
    planned = plan_own_bank(str(base), stream_store(stores["catalog"]), RECIPE)
    # A, 8 halves, 8 tenths, and 2 of each again.
    assert (planned.models, planned.steps, planned.queries, planned.workers) == (21, 12, N_SONGS, 2)
    assert planned.step_s > 0
    assert planned.hours == pytest.approx(planned.elapsed_hours * 2)
    assert f"{planned.models} models of 12 steps each" in planned.sentence
    assert json.dumps(planned.disk_bytes)


def test_what_no_bank_can_be_built_of_is_refused(base: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    catalog, controls, few = (stream_store(stores[name]) for name in ("catalog", "controls", "few"))
    with pytest.raises(SpecificationMismatch, match="fingerprint it with this model"):
        build_own_bank("nano", catalog, controls, tmp_path / "bank", RECIPE)
    with pytest.raises(ModelError, match="through audiocraft"):
        build_own_bank(f"audiocraft:{base}", catalog, controls, tmp_path / "bank", RECIPE)
    with pytest.raises(UsageError, match="4 songs are too few"):
        build_own_bank(str(base), few, controls, tmp_path / "bank", RECIPE)
    with pytest.raises(UsageError, match="4 distinct controls"):
        build_own_bank(str(base), catalog, few, tmp_path / "bank", RECIPE)
