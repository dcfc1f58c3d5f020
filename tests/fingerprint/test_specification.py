"""Published sizes on a 48-layer model, layer bands at any depth, and a hash that sees every field."""

import json
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from lumina_ray.errors import ModelError, StoreError, UsageError
from lumina_ray.fingerprint import KINDS, Fingerprinter, Specification
from lumina_ray.fingerprint.kinds import band_layers
from lumina_ray.model.companion import Companions
from lumina_ray.model.fisher import Fisher
from lumina_ray.model.statistics import no_statistics
from lumina_ray.vocabulary import Draws, Representation, SongCodes
from tests.kinds import BY_MODEL
from tests.tiny_model import tiny_music_model


def test_bands_of_musicgen_large_are_the_published_layers() -> None:
    assert band_layers("P", 48) == [42, 43, 44, 45, 46, 47]
    assert band_layers("M", 48) == [12, 13, 14, 15, 16, 17]
    assert band_layers("P", 16) == [14, 15]
    assert band_layers("M", 16) == [4, 5]
    with pytest.raises(ModelError, match="a model of 2 layers"):
        band_layers("M", 2)


def test_a_48_layer_model_has_216_and_512_numbers_per_channel() -> None:
    model = tiny_music_model(n_layers=48)
    codes = SongCodes((np.random.default_rng(0).integers(0, model.codebook_size, (4, 500)).astype(np.uint16),), (0.0,))
    for kind, dims in (("stats", 216), ("jl", 512)):
        vectors = Fingerprinter(model, Specification.for_model(model, kind))(codes).vectors  # type: ignore[arg-type]
        assert vectors["P"].shape == vectors["M"].shape == (dims,)
        assert np.isfinite(np.concatenate([vectors["P"], vectors["M"]])).all()
    # 6 layers x 3 structurally zero means.
    stats = Fingerprinter(model, Specification.for_model(model, "stats"))(codes).vectors["P"]
    assert (stats == 0).sum() == 18


@pytest.fixture
def shape() -> SimpleNamespace:
    statistics = no_statistics(4, 2048)
    return SimpleNamespace(
        name="m",
        weights_sha256="a" * 64,
        n_layers=16,
        representation=Representation("codes", 4, 2048),
        draws=None,
        statistics=statistics,
        fisher=Fisher({}, "a" * 64, "0" * 64, 0, 0),
        companions=Companions(("early",), ("0" * 64,), "a" * 64, {}, {}),
    )


def test_hash_sees_every_field(shape: SimpleNamespace) -> None:
    specification = Specification.for_model(shape, "stats")
    changed = {
        "kind": "jl", "weights_sha256": "b" * 64, "statistics_sha256": "c" * 64,
        "dims": {"P": 1, "M": 1}, "layers": {"P": [1], "M": [2]},
        "codebook_weights": [1.0] * 4, "seed": 7, "nonzeros": 2, "text": "", "chunk_s": 5.0, "min_tail_s": 1.0,
        "gate_dbfs": -60.0, "level_dbfs": -23.0, "sound_dbfs": -60.0, "dtype": "bfloat16", "loss_scale": 2.0,
        "loss": "sum", "algorithm_version": 99, "representation": "latents", "draws": Draws(2, 3),
    }  # fmt: skip
    assert set(changed) == {field.name for field in fields(Specification)}
    hashes = {replace(specification, **{name: value}).sha256 for name, value in changed.items()}
    assert len(hashes | {specification.sha256}) == len(changed) + 1


def test_a_misspelt_kind_gets_an_error_that_lists_the_kinds(shape: SimpleNamespace) -> None:
    with pytest.raises(UsageError, match="no fingerprint 'influnce'") as caught:
        Specification.for_model(shape, "influnce")
    assert all(kind in str(caught.value) for kind in KINDS)


def test_a_model_that_predicts_latents_has_kinds_draws_and_weights_of_its_own(shape: SimpleNamespace) -> None:
    shape.representation, shape.draws = Representation("latents", 64), Draws(8, 3)
    specification = Specification.for_model(shape, "stats")
    # Seven tensors a layer, as queries and keys of cross-attention are apart; no channel counts more than another.
    assert specification.dims == {"P": 2 * 7 * 6, "M": 2 * 7 * 6}
    assert specification.codebook_weights == [1.0] * 64
    assert "velocity" in specification.loss
    assert Specification.from_dict(json.loads(json.dumps(specification.to_dict()))) == specification
    assert specification.sha256 != replace(specification, draws=Draws(8, 4)).sha256
    assert Specification.for_model(shape, "logra").blocks("P") == 2 * 7
    with pytest.raises(UsageError, match="no fingerprint 'tokens' of latents; for this model it must be one of stats"):
        Specification.for_model(shape, "tokens")


@pytest.mark.parametrize("kind", [*BY_MODEL, "codec-activations"])
def test_survives_json(shape: SimpleNamespace, kind) -> None:
    specification = Specification.for_model(shape, kind)
    assert Specification.from_dict(specification.to_dict()) == specification


def test_another_versions_specification_is_refused(shape: SimpleNamespace) -> None:
    values = Specification.for_model(shape, "jl").to_dict()
    with pytest.raises(StoreError, match="algorithm version 99"):
        Specification.from_dict(values | {"algorithm_version": 99})
    with pytest.raises(StoreError, match="another software version"):
        Specification.from_dict(values | {"temperature": 1.0})
    with pytest.raises(StoreError, match=r"kind 'attention'.*influence"):
        Specification.from_dict(values | {"kind": "attention"})
