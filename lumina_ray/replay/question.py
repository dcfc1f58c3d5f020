"""A clip as a question to a replay: one scalar for each channel, under the text that fingerprints are made under.

Shape legend: N = songs of the run, K = codebooks.
"""

from collections.abc import Mapping

import numpy as np
import torch

from lumina_ray.model.tracked import CONDITION_TEXT
from lumina_ray.replay.reverse import Group
from lumina_ray.vocabulary import Channel, SongCodes

_FIRST, _ALL = "first", "all"


def questions(query: SongCodes) -> dict[str, Group]:
    """Scalars of a clip: the mean loss of its chunks in the first codebook, and in all."""
    chunks = tuple(torch.from_numpy(chunk.astype(np.int64)) for chunk in query.chunks)
    texts = (CONDITION_TEXT,) * len(chunks)
    name = query.sha256[:12]
    return {f"{name}-{_ALL}": Group(chunks, texts), f"{name}-{_FIRST}": Group(chunks, texts, codebook=0)}


def channel_effects(derivatives: Mapping[str, np.ndarray], n_codebooks: int) -> dict[Channel, np.ndarray]:
    """Effects of leaving each song out, from the derivatives of `questions`: float64 `[N]` by channel.

    The loss of all codebooks is the mean of the first (P) and the K − 1 others (M), so the others' needs no pass.
    """
    first_N, all_N = (
        next(values for name, values in derivatives.items() if name.endswith(f"-{which}")) for which in (_FIRST, _ALL)
    )
    return {"P": -first_N, "M": -(n_codebooks * all_N - first_N) / (n_codebooks - 1)}
