"""TRAK and Grad-Cos against TRAK's own library, from one model and the same examples: its gradients, `Q`, ensemble."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from trak import TRAKer
from trak.modelout_functions import AbstractModelOutput
from trak.projectors import NoOpProjector
from trak.score_computers import AbstractScoreComputer, BasicSingleBlockScoreComputer

from lumina_ray.methods import DAMPING, METHODS, Features, attribute, cache
from tests.methods.synthetic import features

N, Q, CLASSES, INPUTS, CHECKPOINTS = 90, 8, 4, 6, 3


class LogOdds(AbstractModelOutput):
    """log(p / (1 − p)) of the right class, as TRAK has it for classification."""

    def __init__(self) -> None:
        pass

    @staticmethod
    def get_output(model: nn.Module, weights: dict, buffers: dict, x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(model, (weights, buffers), x[None])[0]
        is_right = torch.arange(CLASSES) == y
        right = torch.where(is_right, logits, 0.0).sum()
        return right - torch.where(is_right, -torch.inf, logits).logsumexp(dim=-1)

    def get_out_to_loss_grad(self, model: nn.Module, weights: dict, buffers: dict, batch: tuple) -> Tensor:
        x, y = batch
        probabilities = functional_call(model, (weights, buffers), x).softmax(dim=-1)
        return (1 - probabilities[torch.arange(len(y)), y])[:, None].detach()


class Ridge(BasicSingleBlockScoreComputer):
    """TRAK's computation, with our rule for λ."""

    def __init__(self, dtype: torch.dtype, device: str, **_: object) -> None:
        AbstractScoreComputer.__init__(self, dtype, device)

    def get_xtx(self, grads: Tensor) -> Tensor:
        xtx = super().get_xtx(grads)
        return xtx + DAMPING * xtx.trace() / len(xtx) * torch.eye(len(xtx))


def examples(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, INPUTS, generator=generator), torch.randint(CLASSES, (n,), generator=generator)


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(INPUTS, 7), nn.Tanh(), nn.Linear(7, CLASSES))


@pytest.fixture(scope="module")
def trak(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, Features, Features]:
    """TRAK's scores `[N, Q]`, and the gradients of its own collector as our features."""
    catalog, queries = examples(N, 0), examples(Q, 1)
    n_parameters = sum(p.numel() for p in network(0).parameters())
    traker = TRAKer(
        network(0), LogOdds(), N, str(tmp_path_factory.mktemp("trak")), device="cpu", use_half_precision=False,
        projector=NoOpProjector(n_parameters, n_parameters, device="cpu"), proj_dim=n_parameters,
        score_computer=Ridge, logging_level=40,
    )  # fmt: skip
    raw, asked, residuals = [], [], []
    for c in range(CHECKPOINTS):
        traker.load_checkpoint(network(c).state_dict(), model_id=c)
        traker.featurize(batch=catalog, num_samples=N)
        raw.append(np.array(traker.saver.current_store["grads"], np.float64))
        residuals.append(np.array(traker.saver.current_store["out_to_loss"], np.float64)[:, 0])
    traker.finalize_features()
    for c in range(CHECKPOINTS):
        traker.start_scoring_checkpoint("queries", network(c).state_dict(), model_id=c, num_targets=Q)
        traker.score(batch=queries, num_samples=Q)
        asked.append(np.array(traker.saver.current_store["queries_grads"], np.float64))
    scores_NQ = np.array(traker.finalize_scores("queries"))
    songs = features(np.stack(raw), probabilities_Cn=1 - np.stack(residuals))
    return scores_NQ, songs, features(np.stack(asked))


def test_trak_is_traks_own(trak: tuple[np.ndarray, Features, Features]) -> None:
    scores_NQ, songs, queries = trak
    ours_QN = attribute(cache(METHODS["trak"], songs), queries)
    np.testing.assert_allclose(ours_QN.T, scores_NQ, rtol=1e-3, atol=1e-3 * abs(scores_NQ).max())
    assert np.corrcoef(ours_QN.T.ravel(), scores_NQ.ravel())[0, 1] > 1 - 1e-6
    # The residual contributes to that.
    without = attribute(cache(METHODS["trak"], Features(songs.vectors_CnD, songs.norms_Cn)), queries)
    assert np.linalg.norm(without.T - scores_NQ) > 0.1 * np.linalg.norm(scores_NQ)


def test_gradients_are_autograds_and_their_cosines_torchs(trak: tuple[np.ndarray, Features, Features]) -> None:
    _, songs, queries = trak
    model, (x, y) = network(CHECKPOINTS - 1), examples(N, 0)
    by_autograd = []
    for i in range(N):
        logits = model(x[i : i + 1])[0]
        log_odds = logits[y[i]] - torch.cat([logits[: y[i]], logits[y[i] + 1 :]]).logsumexp(0)
        by_autograd.append(torch.cat([g.flatten() for g in torch.autograd.grad(log_odds, list(model.parameters()))]))
    # TRAK's collector divides by the root of the number of parameters.
    exact = torch.stack(by_autograd) / len(by_autograd[0]) ** 0.5
    np.testing.assert_allclose(songs.raw(CHECKPOINTS - 1), exact.numpy(), rtol=1e-4, atol=1e-5)
    asked = torch.from_numpy(queries.raw(CHECKPOINTS - 1)).float()
    expected_QN = torch.nn.functional.cosine_similarity(asked[:, None], exact[None], dim=-1)
    np.testing.assert_allclose(attribute(cache(METHODS["grad-cos"], songs), queries), expected_QN, atol=1e-5)
