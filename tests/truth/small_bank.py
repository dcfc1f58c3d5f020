"""Banks for tests: what most tests do not look at is filled in."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lumina_ray.training.captions import vocabulary
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import Recording
from lumina_ray.truth.models import TextParts, Weights
from lumina_ray.truth.queries import Query
from lumina_ray.truth.recipe import Recipe, Training

_INSTRUMENTS = ("organ", "piano", "strings", "guitar, bass, drums")
TEXT = TextParts(tuple(vocabulary(["slow organ"])))
"""An untrained text encoder of a few words."""


def captions_of(recordings: Sequence[Recording]) -> tuple[str, ...]:
    """Captions as recordings have them once they are rendered, but for the instruments, which take turns."""
    return tuple(
        f"slow {r.song.style} {r.song.form}, {_INSTRUMENTS[i % len(_INSTRUMENTS)]}" for i, r in enumerate(recordings)
    )


def small_bank(
    recipe: Recipe,
    recordings: tuple[Recording, ...] = (),
    codes: Sequence[Tensor] = (),
    queries: Sequence[Query] = (),
    extra_queries: Sequence[Query] = (),
    models: Mapping[str, Weights] | None = None,
    trainings: Sequence[Training] = (),
    losses_RQK: np.ndarray | None = None,
) -> Bank:
    """A bank whose recordings hold sound in every frame; by default without anything that is learned or asked."""
    return Bank(
        recipe,
        recordings,
        list(codes),
        list(queries),
        list(extra_queries),
        dict(models or {}),
        list(trainings),
        np.zeros((len(trainings), len(queries), 4), np.float32) if losses_RQK is None else losses_RQK,
        captions_of(recordings),
        TEXT,
        [torch.ones(codes_KT.shape[1], dtype=torch.bool) for codes_KT in codes],
    )
