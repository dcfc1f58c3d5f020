"""Queries of the bank: pieces of music as codes, each for tuning or for reporting."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lumina_ray.gradients import codebook_losses
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.truth.corpus import Audited, Recording, members

QueryKind = Literal[
    "excerpt", "generated", "captioned", "guided", "prompted", "continued", "altered", "catalog", "unheard", "outside",
    "foreign", "control",
]  # fmt: skip
Split = Literal["dev", "test", "held"]
"""Methods are chosen on dev and reported on test; held is scored once for a release, and nothing is chosen by it."""
# Recordings are trained on up to here; what follows is for excerpts.
TRAINED_FRAMES = 750
QUERY_FRAMES = 500
_CATALOG_QUERIES = 32
_CONTROL_QUERIES = 16
_ALTERED_SONGS = 24
_OUTSIDE_QUERIES = 24
_SPLITS: tuple[tuple[Split, float], ...] = (("dev", 0.4), ("test", 0.4), ("held", 0.2))
# Pieces in one forward pass; more would not be faster.
_BATCH = 8


@dataclass(frozen=True)
class Query:
    """Codes to be attributed.

    Attributes:
        kind: "excerpt" is a catalog song after the part that is trained on; "generated" was made up by a model under
            the fixed text; "captioned" and "guided" were made up under a caption, the latter with guidance; "prompted"
            is a model's continuation of a recording, and "continued" one under the recording's caption; "altered" is a
            copy of a catalog song that was made worse; "catalog" is trained on; "unheard" is a twin or a cell of the
            other catalog; "outside" is what reference models learn from; "foreign" was made up under a caption by a
            reference model; "control" has a composer that no model knows.
        model: the audited model that is asked, "A" or "B".
        recording: position in the corpus of the recording that it is made of; −1 where there is none.
        split: see `Split`.
        codes_KT: int64.
        alteration: name of the alteration, for "altered".
        caption: text that the piece was made under, and that its losses are under; "" is the fixed text, under which
            fingerprints are made.
        heard_T: which frames hold sound, bool; None where all do. Fingerprints leave the others out, losses do not.
    """

    kind: QueryKind
    model: Audited
    recording: int
    split: Split
    codes_KT: Tensor
    alteration: str = ""
    caption: str = ""
    heard_T: Tensor | None = None

    @property
    def piece(self) -> "Piece":
        """The query as a piece of recorded music."""
        T = self.codes_KT.shape[1]
        return Piece(self.codes_KT, torch.ones(T, dtype=torch.bool) if self.heard_T is None else self.heard_T)


@dataclass(frozen=True)
class Piece:
    """A piece of recorded music: codes, int64 `[K, T]`, and which frames hold sound, bool `[T]`."""

    codes_KT: Tensor
    heard_T: Tensor

    def beginning(self, n_frames: int) -> "Piece":
        """Cut off what follows the first frames."""
        return Piece(self.codes_KT[:, :n_frames], self.heard_T[:n_frames])


def real_queries(
    recordings: tuple[Recording, ...], learned: Sequence[Piece], excerpts: Mapping[int, Piece], seed: int
) -> list[Query]:
    """Make the queries that are parts of recordings.

    Args:
        learned: what is trained on, by position in the corpus.
        excerpts: what follows, by position in the corpus, of catalog A at least.
    """
    rng, splits = random.Random(f"queries {seed}"), splits_of(recordings, seed)
    catalog = members(recordings, "A")
    other_side = [i for i, recording in enumerate(recordings) if recording.side == "B"]
    controls = [i for i, recording in enumerate(recordings) if recording.role == "control"]
    outside = members(recordings, "reference")

    def query(kind: QueryKind, i: int, piece: Piece) -> Query:
        return Query(kind, "A", i, splits[recordings[i].work], piece.codes_KT, heard_T=piece.heard_T)

    def beginning(kind: QueryKind, i: int) -> Query:
        return query(kind, i, learned[i].beginning(QUERY_FRAMES))

    def some(songs: list[int], n: int) -> list[int]:
        return sorted(rng.sample(songs, min(n, len(songs))))

    return [
        *(query("excerpt", i, excerpts[i]) for i in catalog),
        *(beginning("catalog", i) for i in some(catalog, _CATALOG_QUERIES)),
        *(beginning("unheard", i) for i in other_side),
        *(beginning("control", i) for i in some(controls, _CONTROL_QUERIES)),
        *(beginning("outside", i) for i in some(outside, _OUTSIDE_QUERIES)),
    ]


def made_up_queries(
    kind: QueryKind, model: Audited, codes_BKT: Tensor, captions: Sequence[str], seed: int
) -> list[Query]:
    """Make queries of music that a model made up, without a recording to go on from.

    Args:
        codes_BKT: int64 `[B, K, T]`.
        captions: one for each piece, or "" for the fixed text. Pieces under one caption are of one split.
    """
    of_caption = _drawn_splits({caption for caption in captions if caption}, f"captions {seed}")
    splits: tuple[Split, Split] = ("test", "dev")
    return [
        Query(kind, model, -1, of_caption[caption] if caption else splits[number % 2], codes_KT, caption=caption)
        for number, (codes_KT, caption) in enumerate(zip(codes_BKT, captions, strict=True))
    ]


def continuations(
    kind: QueryKind,
    recordings: tuple[Recording, ...],
    model: Audited,
    prompts: Sequence[int],
    codes_BKT: Tensor,
    captions: Sequence[str],
    seed: int,
) -> list[Query]:
    """Make queries of a model's continuations of recordings; the beginnings themselves are left out."""
    splits = splits_of(recordings, seed)
    return [
        Query(kind, model, i, splits[recordings[i].work], codes_KT, caption=caption)
        for i, codes_KT, caption in zip(prompts, codes_BKT, captions, strict=True)
    ]


def songs_to_alter(recordings: tuple[Recording, ...], seed: int) -> list[int]:
    """Choose the songs of catalog A that altered copies are made of, by position: originals only."""
    originals = [i for i in members(recordings, "A") if recordings[i].variant == "original"]
    return sorted(random.Random(f"altered {seed}").sample(originals, min(_ALTERED_SONGS, len(originals))))


def altered_queries(
    recordings: tuple[Recording, ...], copies: Mapping[tuple[int, str], Piece], seed: int
) -> list[Query]:
    """Make queries of altered copies, which are given by song and alteration."""
    splits = splits_of(recordings, seed)
    return [
        Query("altered", "A", i, splits[recordings[i].work], copy.codes_KT, name, heard_T=copy.heard_T)
        for (i, name), copy in copies.items()
    ]


def splits_of(recordings: tuple[Recording, ...], seed: int) -> dict[str, Split]:
    """The split of each work. Works are drawn, not recordings: twins never tell one split about the other."""
    return _drawn_splits({recording.work for recording in recordings}, f"splits {seed}")


def _drawn_splits(names: Collection[str], seed: str) -> dict[str, Split]:
    rng, (splits, weights) = random.Random(seed), zip(*_SPLITS, strict=True)
    return dict(zip(sorted(names), rng.choices(splits, weights, k=len(names)), strict=True))


def losses(model: TransformersMusicGen, codes: list[Tensor], captions: Sequence[str] | None = None) -> np.ndarray:
    """Compute the teacher-forced loss of every piece and codebook, float32 `[Q, K]`, in nats per code.

    Args:
        codes: int64 `[K, T]` each; pieces of one length and caption go through the model together.
        captions: a text for each piece, "" for the fixed one; the fixed text for all by default.
    """
    together: dict[tuple[int, str], list[int]] = {}
    for i, codes_KT in enumerate(codes):
        together.setdefault((codes_KT.shape[1], captions[i] if captions else ""), []).append(i)
    out_QK = np.zeros((len(codes), model.n_codebooks), np.float32)
    with torch.no_grad():
        for (T, caption), pieces in together.items():
            condition_1ND = model.embed(caption) if caption else None
            for begin in range(0, len(pieces), _BATCH):
                batch = pieces[begin : begin + _BATCH]
                codes_BKT = torch.stack([codes[i] for i in batch]).to(model.device)
                prediction = model.predict(codes_BKT, [T] * len(batch), condition_1ND)
                out_QK[batch] = codebook_losses(prediction, codes_BKT).cpu().numpy()
    return out_QK
