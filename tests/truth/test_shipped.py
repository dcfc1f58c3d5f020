"""The shipped bank: it is what its recipe says, its losses are its models', and its pieces keep their thread."""

import numpy as np
import pytest
import torch

from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.corpus import corpus
from lumina_ray.truth.models import with_weights
from lumina_ray.truth.queries import QueryKind, losses
from lumina_ray.truth.recipe import SMALL, retrainings, whole_catalogs

MAX_BYTES = 30_000_000
CHECKED = 12
"""Queries, of all kinds, whose losses are computed anew."""


@pytest.fixture(scope="module")
def bank() -> Bank:
    return load_bank(SHIPPED)


def test_it_is_what_its_recipe_says_and_small(bank: Bank) -> None:
    assert bank.recipe == SMALL
    assert bank.recordings == corpus(SMALL.seed)
    whole = whole_catalogs(SMALL, bank.recordings)
    assert bank.trainings == [*whole, *retrainings(SMALL, bank.recordings, bank.captions)]
    assert set(bank.models) == {
        "base", "A-early", "B-early", "reference-early", *(training.name for training in whole)
    }  # fmt: skip
    assert bank.losses_RQK.shape == (len(bank.trainings), len(bank.queries), 4)
    assert np.isfinite(bank.losses_RQK).all()
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) <= MAX_BYTES


@pytest.mark.parametrize("name", ["A", "reference"])
def test_losses_are_those_of_its_models(bank: Bank, name: str) -> None:
    dev = [q for q, query in enumerate(bank.queries) if query.split == "dev"]
    some = dev[:: len(dev) // CHECKED]
    (row,) = (row for row, training in enumerate(bank.trainings) if training.name == name)
    model = with_weights(bank.recipe, bank.models[name], bank.text)
    asked = [bank.queries[q] for q in some]
    found = losses(model, [query.codes_KT for query in asked], [query.caption for query in asked])
    np.testing.assert_allclose(found, bank.losses_RQK[row, some], atol=1e-4)


@pytest.mark.parametrize("kind", ["generated", "captioned", "prompted", "continued"])
def test_the_loss_of_a_piece_under_its_model_does_not_rise_along_it(bank: Bank, kind: QueryKind) -> None:
    """It rises by nats where a sampler loses its thread, as that of version 1 did."""
    model = with_weights(bank.recipe, bank.models["A"], bank.text)
    values, valid = [], []
    for query in [query for query in bank.queries if (query.kind, query.split) == (kind, "dev")][:8]:
        codes_1KT = query.codes_KT[None]
        with torch.no_grad():
            condition = model.embed(query.caption) if query.caption else None
            found = model.predict(codes_1KT, [codes_1KT.shape[2]], condition).losses(codes_1KT)
        values.append(found.values_BKT)
        valid.append(found.valid_BKT)
    parts = zip(torch.cat(values).chunk(5, dim=2), torch.cat(valid).chunk(5, dim=2), strict=True)
    fifths = [of[counted].mean().item() for of, counted in parts]
    print("loss by fifths:", fifths)
    assert fifths[-1] < fifths[0] + 0.3
