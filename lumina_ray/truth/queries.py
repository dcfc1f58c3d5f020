"""Queries of the bank: pieces of music as codes, each for tuning or for reporting."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lumina_ray.gradients import codebook_losses
from lumina_ray.model.interface import MusicModel
from lumina_ray.truth.corpus import Audited, Recording, members

QueryKind = Literal["excerpt", "generated", "prompted", "altered", "catalog", "unheard", "control"]
Split = Literal["dev", "test"]
# Recordings are trained on up to here; what follows is for excerpts.
TRAINED_FRAMES = 750
QUERY_FRAMES = 500
_CATALOG_QUERIES = 32
_CONTROL_QUERIES = 16
_ALTERED_SONGS = 24
# Pieces in one forward pass; more would not be faster.
_BATCH = 8


@dataclass(frozen=True)
class Query:
    """Codes to be attributed.

    Attributes:
        kind: "excerpt" is a catalog song after the part that is trained on; "generated" was made up by a model;
            "prompted" is a model's continuation of a recording; "altered" is a copy of a catalog song that was made
            worse; "catalog" is trained on; "unheard" is a twin or a cell of the other catalog; "control" has a
            composer that no model knows. Some kinds of some banks are broken: see `Bank.unusable`.
        model: the audited model that is asked, "A" or "B".
        recording: position in the corpus of the recording that it is made of; −1 where there is none.
        split: nothing is tuned on "test".
        codes_KT: int64.
        alteration: name of the alteration, for "altered".
    """

    kind: QueryKind
    model: Audited
    recording: int
    split: Split
    codes_KT: Tensor
    alteration: str = ""


def real_queries(recordings: tuple[Recording, ...], codes: list[Tensor], seed: int) -> list[Query]:
    """Make the queries that are parts of recordings.

    Args:
        codes: whole recordings', int64 `[K, T]` each, by position in the corpus.
    """
    rng, splits = random.Random(f"queries {seed}"), _splits(recordings, seed)
    catalog = members(recordings, "A")
    other_side = [i for i, recording in enumerate(recordings) if recording.side == "B"]
    controls = [i for i, recording in enumerate(recordings) if recording.role == "control"]

    def query(kind: QueryKind, i: int, codes_KT: Tensor) -> Query:
        return Query(kind, "A", i, splits[recordings[i].work], codes_KT)

    return [
        *(query("excerpt", i, codes[i][:, TRAINED_FRAMES:]) for i in catalog),
        *(query("catalog", i, codes[i][:, :QUERY_FRAMES]) for i in sorted(rng.sample(catalog, _CATALOG_QUERIES))),
        *(query("unheard", i, codes[i][:, :QUERY_FRAMES]) for i in other_side),
        *(query("control", i, codes[i][:, :QUERY_FRAMES]) for i in sorted(rng.sample(controls, _CONTROL_QUERIES))),
    ]


def free_queries(model: Audited, codes_BKT: Tensor) -> list[Query]:
    """Make queries of music that a model made up from nothing: int64 `[B, K, T]`."""
    return [
        Query("generated", model, -1, "dev" if number % 2 else "test", codes_KT)
        for number, codes_KT in enumerate(codes_BKT)
    ]


def continuations(
    recordings: tuple[Recording, ...], model: Audited, prompts: list[int], codes_BKT: Tensor, seed: int
) -> list[Query]:
    """Make queries of a model's continuations of recordings; the beginnings themselves are left out."""
    splits = _splits(recordings, seed)
    return [
        Query("prompted", model, i, splits[recordings[i].work], codes_KT)
        for i, codes_KT in zip(prompts, codes_BKT, strict=True)
    ]


def songs_to_alter(recordings: tuple[Recording, ...], seed: int) -> list[int]:
    """Choose the songs of catalog A that altered copies are made of, by position: originals only."""
    originals = [i for i in members(recordings, "A") if recordings[i].variant == "original"]
    return sorted(random.Random(f"altered {seed}").sample(originals, _ALTERED_SONGS))


def altered_queries(
    recordings: tuple[Recording, ...], copies: Mapping[tuple[int, str], Tensor], seed: int
) -> list[Query]:
    """Make queries of altered copies, whose codes are given by song and alteration."""
    splits = _splits(recordings, seed)
    return [
        Query("altered", "A", i, splits[recordings[i].work], codes_KT, name) for (i, name), codes_KT in copies.items()
    ]


def _splits(recordings: tuple[Recording, ...], seed: int) -> dict[str, Split]:
    # Works are drawn, not recordings: twins never tell one split about the other.
    rng = random.Random(f"splits {seed}")
    splits: tuple[Split, Split] = ("dev", "test")
    return {work: rng.choice(splits) for work in sorted({recording.work for recording in recordings})}


def losses(model: MusicModel, codes: list[Tensor]) -> np.ndarray:
    """Compute the teacher-forced loss of every piece and codebook, float32 `[Q, K]`, in nats per code.

    Args:
        codes: int64 `[K, T]` each; pieces of one length go through the model together.
    """
    of_length: dict[int, list[int]] = {}
    for i, codes_KT in enumerate(codes):
        of_length.setdefault(codes_KT.shape[1], []).append(i)
    out_QK = np.zeros((len(codes), model.n_codebooks), np.float32)
    with torch.no_grad():
        for T, pieces in of_length.items():
            for begin in range(0, len(pieces), _BATCH):
                batch = pieces[begin : begin + _BATCH]
                codes_BKT = torch.stack([codes[i] for i in batch]).to(model.device)
                out_QK[batch] = codebook_losses(model.predict(codes_BKT, [T] * len(batch)), codes_BKT).cpu().numpy()
    return out_QK
