"""Grad-Dot, Grad-Cos, TracIn and TRAK of a Music Transformer against dattri's own, gradients included."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

from lumina_ray.methods import DAMPING, METHODS, Features, attribute, cache
from lumina_ray.symbolic.bank import unit_features
from lumina_ray.symbolic.gradients import Passage, gradients
from lumina_ray.symbolic.transformer import MusicTransformer

pytest.importorskip("dattri", reason="dattri 0.3 is no dependency: its own pins do not fit")
from dattri.algorithm.tracin import TracInAttributor
from dattri.algorithm.trak import TRAKAttributor
from dattri.task import AttributionTask

N, Q, WINDOW, EVENTS, CHECKPOINTS = 30, 7, 10, 12, 3
RATES = [0.3, 0.2, 0.1]


def model(seed: int) -> MusicTransformer:
    return MusicTransformer(n_layers=1, dim=8, heads=2, window=WINDOW, n_events=EVENTS, seed=seed)


# Functions of dattri's are called with its parameters in place of this one's.
SKELETON = model(0)


def events(n: int, seed: int) -> Tensor:
    return torch.randint(EVENTS, (n, WINDOW), generator=torch.Generator().manual_seed(seed))


def ours(seeds: list[int]) -> tuple[Features, Features]:
    """Pieces and queries under some models, without a projection."""
    found = []
    for n, seed in ((N, 100), (Q, 101)):
        of = [Passage(window_T[None]) for window_T in events(n, seed)]
        of_models = [list(gradients(model(one), of)) for one in seeds]
        raw_CnS = np.stack([[gradient_S.numpy() for _, gradient_S in each] for each in of_models])
        losses_Cn = np.array([[loss for loss, _ in each] for each in of_models])
        found.append(unit_features(raw_CnS, np.array(RATES[: len(seeds)]), np.exp(-losses_Cn)))
    return found[0], found[1]


def loss(parameters: dict, data: tuple[Tensor, ...]) -> Tensor:
    """One window's loss, as dattri asks for it."""
    logits_TV = functional_call(SKELETON, parameters, (data[0][None],))[0]
    return nn.functional.cross_entropy(logits_TV, data[0])


def task(seeds: list[int]) -> AttributionTask:
    return AttributionTask(loss_func=loss, model=model(0), checkpoints=[model(seed).state_dict() for seed in seeds])


def loaders() -> tuple[DataLoader, DataLoader]:
    return tuple(DataLoader(TensorDataset(events(n, seed)), batch_size=8) for n, seed in ((N, 100), (Q, 101)))  # type: ignore[return-value]


def whole_gradient() -> dict:
    """dattri projects to 512 numbers unless it is told not to."""
    return {"proj_type": "identity", "proj_dim": sum(p.numel() for p in model(0).parameters())}


@pytest.mark.parametrize(
    ("method", "seeds", "weights", "normalized"),
    [
        ("grad-dot", [0], [1.0], False),
        ("grad-cos", [0], [1.0], True),
        ("tracin", list(range(CHECKPOINTS)), RATES, False),
    ],
)
def test_inner_products_are_dattris(method: str, seeds: list[int], weights: list[float], normalized: bool) -> None:
    pieces, queries = ours(seeds)
    theirs = TracInAttributor(task(seeds), torch.tensor(weights), normalized, projector_kwargs=whole_gradient())
    expected_NQ = theirs.attribute(*loaders()).numpy()
    found_QN = attribute(cache(METHODS[method], pieces), queries)
    np.testing.assert_allclose(found_QN.T, expected_NQ, rtol=1e-4, atol=1e-4 * abs(expected_NQ).max())


def test_trak_is_dattris() -> None:
    seeds = list(range(CHECKPOINTS))
    pieces, queries = ours(seeds)
    S = pieces.vectors_CnD.shape[2]
    raw = [pieces.raw(c) for c in seeds]
    moments = [vectors_NS.T @ vectors_NS for vectors_NS in raw]
    # One λ for all models there; here a part of each second moment's trace. What is added makes them equal.
    ridge = 2 * DAMPING * max(np.trace(moment) for moment in moments) / S
    added = [(ridge - DAMPING * np.trace(moment) / S) / (1 + DAMPING) for moment in moments]
    shifted = [(moment + more * np.eye(S))[None] for moment, more in zip(moments, added, strict=True)]
    found_QN = attribute(cache(METHODS["trak"], pieces, shifted), queries)
    # dattri divides gradients by the root of their length, so that its λ is of their squares.
    theirs = TRAKAttributor(
        task(seeds),
        lambda parameters, data: torch.exp(-loss(parameters, data)),
        projector_kwargs=whole_gradient(),
        regularization=ridge / S,
    )
    theirs.cache(loaders()[0])
    expected_NQ = theirs.attribute(loaders()[1]).numpy()
    np.testing.assert_allclose(found_QN.T, expected_NQ, rtol=1e-4, atol=1e-4 * abs(expected_NQ).max())
    # The probabilities contribute to that.
    without = attribute(cache(METHODS["trak"], replace(pieces, probabilities_Cn=None), shifted), queries)
    assert np.abs(without.T - expected_NQ).max() > 1e-2 * abs(expected_NQ).max()
