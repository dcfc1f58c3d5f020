"""A tiny benchmark in the layout of dattri's, made here."""

import pickle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lumina_ray.symbolic.dattri import DattriRecipe
from lumina_ray.symbolic.dattri_model import DattriTransformer, published_name

WINDOW, MODELS, RETRAINED, SEGMENTS, QUERIES = 6, 3, 8, 10, 5
SMALL = DattriRecipe(segments=SEGMENTS, models=MODELS, dims=16)
ROOT = Path("benchmark", "maestro_musictransformer")
TRAIN, GENERATED = Path("dataset", "maestro-v2.0.0-processed", "train"), Path("dataset", "generated_music")


def random_weights(seed: int) -> dict[str, Tensor]:
    """Weights of a tiny model by the names of dattri's files, none of them what layers begin with."""
    generator = torch.Generator().manual_seed(seed)
    model = DattriTransformer(n_layers=2, dim=8, heads=2, feed=12, window=WINDOW)
    return {
        published_name(name): torch.randn(of.shape, generator=generator) * 0.5
        for name, of in model.state_dict().items()
    }


def write_benchmark(folder: Path) -> None:
    """Write three models of each kind, two files of music to learn from, two generated ones, and random target values.

    The files have more events than their segments; 10 of 11 segments are used.
    """
    rng = np.random.default_rng(0)
    for kind, first in (("models_full", 0), ("models_half", 100)):
        for number in range(MODELS):
            place = folder / ROOT / kind / str(number)
            place.mkdir(parents=True)
            torch.save(random_weights(first + number), place / "model_weights_0.pt")
    for place, lengths in ((TRAIN, (5 * WINDOW + 3, 6 * WINDOW + 1)), (GENERATED, (3 * WINDOW + 1, 2 * WINDOW + 5))):
        (folder / place).mkdir(parents=True)
        for number, length in enumerate(lengths):
            with (folder / place / f"{number}.mid.pickle").open("wb") as file:
                pickle.dump(rng.integers(0, 388, length).tolist(), file)
    (folder / ROOT / "lds").mkdir()
    halves = np.stack([rng.permutation(SEGMENTS)[: SEGMENTS // 2] for _ in range(RETRAINED)])
    torch.save(torch.from_numpy(halves), folder / ROOT / "lds" / "indices_lds.pt")
    torch.save(torch.from_numpy(rng.normal(size=(RETRAINED, QUERIES))), folder / ROOT / "lds" / "target_values_lds.pt")
