"""At which point of a training do gradients see which songs a piece comes from? LDS on a ground-truth bank.

    uv run --no-sync python -m benchmarks.training_points
    uv run --no-sync python -m benchmarks.training_points --split test --points A+A-early --points A

A point is one of the bank's models, "untrained", or a model half way between the base model and another ("A/2"); points
joined by "+" stand side by side. Each song's and query's gradient of all output heads, and of all layers, under its own
text or (--fixed-text) the one that fingerprints are made under, is whitened tensor by tensor: `L^(−¼) G R^(−¼)`, where
L and R are the songs' mean `G Gᵀ` and `Gᵀ G` (Gupta et al. 2018, arXiv:1802.09568), damped. A score is the sum, over
points, of the cosines of heads and of layers. Nothing is projected: this is what fingerprints of these gradients could
reach. Takes a minute or two and 3 GB of memory a point.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.replay.learner import DecoderLearner
from lumina_ray.truth.agreement import Agreement
from lumina_ray.truth.bank import BASE, SHIPPED, Bank, load_bank
from lumina_ray.truth.fingerprints import UNTRAINED
from lumina_ray.truth.floors import floor_set
from lumina_ray.truth.measures import Resampled
from lumina_ray.truth.models import Weights, new_model, with_weights
from lumina_ray.truth.queries import QUERY_FRAMES, TRAINED_FRAMES, QueryKind
from lumina_ray.truth.scores import BOTH

KINDS: tuple[QueryKind, ...] = ("excerpt", "captioned", "guided", "prompted", "continued")
POINTS = ("A+A-early+base", "A", "untrained", BASE, "A-early", "A/2", "reference", "A+A-early", "A+base", "A+A/2+base",
          "A+reference", "reference+base", "reference+reference/2+base", "reference+reference-early+base")  # fmt: skip
MEASURES = ("lds_excerpt", "lds_continuations", "lds_pieces_specific", "lds_captioned_specific", "lds_guided_specific",
            "lds_prompted", "lds_continued")  # fmt: skip
_DAMPING = 0.03


def point_model(bank: Bank, point: str) -> DecoderLearner:
    """Open a point's model for gradients."""
    if point == UNTRAINED:
        return DecoderLearner(new_model(bank.recipe, bank.text))
    name, _, half = point.partition("/")
    return DecoderLearner(with_weights(bank.recipe, _half_way(bank, name) if half else bank.models[name], bank.text))


def _half_way(bank: Bank, name: str) -> Weights:
    return {key: (w.float() + bank.models[name][key].float()) / 2 for key, w in bank.models[BASE].items()}


def gradient(learner: DecoderLearner, codes_KT: Tensor, text: str) -> dict[str, np.ndarray]:
    """Gradient of the loss of a piece, in windows as models learn them, by name of parameter; matrices only."""
    learner.module.zero_grad(set_to_none=True)
    for window_KT in codes_KT.split(QUERY_FRAMES, dim=1):
        loss = learner.losses(window_KT[None], [text or CONDITION_TEXT]).mean()
        (loss * window_KT.shape[1] / codes_KT.shape[1]).backward()
    named = learner.module.named_parameters()
    return {name: p.grad.numpy().copy() for name, p in named if p.grad is not None and p.ndim == 2}


def whitened_cosines(
    learner: DecoderLearner, songs: list[tuple[Tensor, str]], queries: list[tuple[Tensor, str]]
) -> np.ndarray:
    """Cosines of queries with songs, codes and texts each, heads' and layers' added up: float64 `[Q, N]`."""
    of_all = [gradient(learner, *piece) for piece in (*songs, *queries)]
    N, total = len(songs), np.zeros((len(queries), len(songs)))
    for part in ("lm_heads", "layers"):
        inner_QN, length_N, length_Q = np.zeros_like(total), np.zeros(N), np.zeros(len(queries))
        for name in [name for name in of_all[0] if part in name]:
            x_NI, y_QI = _whitened(np.stack([of_one.pop(name) for of_one in of_all]), N)
            inner_QN += y_QI @ x_NI.T
            length_N, length_Q = length_N + (x_NI**2).sum(axis=1), length_Q + (y_QI**2).sum(axis=1)
        total += inner_QN / np.sqrt(length_N)[None] / np.sqrt(length_Q)[:, None]
    return total


def _whitened(gradients_BMN: np.ndarray, n_songs: int) -> tuple[np.ndarray, np.ndarray]:
    songs_NMN = gradients_BMN[:n_songs]
    left_MM = _inverse_root(np.einsum("bij,bkj->ik", songs_NMN, songs_NMN, optimize=True))
    right_NN = _inverse_root(np.einsum("bij,bik->jk", songs_NMN, songs_NMN, optimize=True))
    flat_BI = (left_MM @ gradients_BMN @ right_NN).reshape(len(gradients_BMN), -1)
    return flat_BI[:n_songs], flat_BI[n_songs:]


def _inverse_root(moment_MM: np.ndarray) -> np.ndarray:
    """The inverse fourth root of a damped second moment."""
    values_M, vectors_MM = np.linalg.eigh(moment_MM.astype(np.float64))
    values_M = np.maximum(values_M, 0)
    return ((vectors_MM * (values_M + _DAMPING * values_M.mean()) ** -0.25) @ vectors_MM.T).astype(np.float32)


def main(
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    split: Annotated[str, typer.Option(help="Queries to judge by: dev or test.")] = "dev",
    points: Annotated[
        list[str] | None, typer.Option(help="Points, joined by +; the first is what others are held against.")
    ] = None,
    fixed_text: Annotated[bool, typer.Option(help="All gradients under the text of fingerprints.")] = False,
) -> None:
    """Print agreement with retraining for each set of points, and how far the first is ahead of it."""
    torch.set_num_threads(1)
    of_bank = load_bank(bank)
    asked = floor_set(of_bank, "test" if split == "test" else "dev")
    asked = replace(asked, queries=tuple(query for query in asked.queries if query.kind in KINDS))
    agreement = Agreement(of_bank, asked)
    songs = [(of_bank.codes[i][:, :TRAINED_FRAMES], "" if fixed_text else of_bank.captions[i]) for i in asked.songs]
    pieces = [(query.codes_KT, "" if fixed_text else query.caption) for query in asked.queries]
    single: dict[str, np.ndarray] = {}
    for point in {one: None for name in points or POINTS for one in name.split("+")}:
        scores_QN = whitened_cosines(point_model(of_bank, point), songs, pieces)
        # Points count the same, whatever the spread of their cosines.
        single[point] = (scores_QN - scores_QN.mean()) / scores_QN.std()
    first: dict[str, Resampled] = {}
    print(f"| points | {' | '.join(MEASURES)} |\n|{'---|' * (len(MEASURES) + 1)}")
    for name in points or POINTS:
        found = agreement(BOTH, np.sum([single[one] for one in name.split("+")], axis=0))
        first = first or found
        cells = [
            f"{found[measure].estimate} ({(first[measure] - found[measure]).estimate})" if measure in found else ""
            for measure in MEASURES
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
