"""Which songs does a kind of fingerprint get wrong, and why? Its scores beside what leaving each song out did.

    python -m benchmarks.song_errors

Asked are a bank's trainings without one song. For each kind of query: the rank correlation over songs of scores with
effects, of single queries and of the mean over all; how often both put the same song first; and how far effects and
scores follow how common a song's codes are in the catalog. Then the songs that scores rank too low and too high.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from scipy.stats import rankdata, spearmanr

from benchmarks.codebooks import rank_over_songs, single_effects
from lumina_ray.methods import METHODS
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.evaluation_set import evaluation_set
from lumina_ray.truth.fingerprints import make_fingerprints, required_fingerprints
from lumina_ray.truth.queries import TRAINED_FRAMES
from lumina_ray.truth.replayed import ASKED
from lumina_ray.truth.scores import BOTH, scores
from lumina_ray.vocabulary import DEFAULT_METHOD

_SHOWN = 5


def commonness(bank: Bank, songs: list[int], catalog: list[int]) -> np.ndarray:
    """How common the codes of songs are: mean log count of their codes in the catalog, float64 `[N]`."""
    learned = {i: bank.codes[i][:, :TRAINED_FRAMES].numpy() for i in {*songs, *catalog}}
    n_codebooks, size = len(bank.codes[catalog[0]]), 1 + max(int(codes_KT.max()) for codes_KT in learned.values())
    counts_KC = np.zeros((n_codebooks, size))
    for i in catalog:
        for k in range(n_codebooks):
            counts_KC[k] += np.bincount(learned[i][k], minlength=size)
    logs_KC = np.log(np.maximum(counts_KC, 1))
    return np.array([np.mean([logs_KC[k, learned[i][k]].mean() for k in range(n_codebooks)]) for i in songs])


def misplaced(scores_N: np.ndarray, effects_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the songs that scores rank furthest below their effects, and furthest above them."""
    ahead_N = rankdata(scores_N) - rankdata(effects_N)
    order = np.argsort(ahead_N, kind="stable")
    return order[:_SHOWN], order[::-1][:_SHOWN]


def main(
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    method: Annotated[str, typer.Option(help="Of `lumina methods`.")] = DEFAULT_METHOD,
    split: Annotated[Literal["dev", "test"], typer.Option(help="Queries that are asked.")] = "dev",
) -> None:
    """Print agreement with single songs left out, and the songs that are furthest from it."""
    torch.set_num_threads(1)
    loaded = load_bank(bank)
    effects_NQK, songs = single_effects(loaded)
    effects_NQ = effects_NQK.mean(axis=2)
    asked = evaluation_set(loaded, "A", split, METHODS[method].kind)
    of_audited = [key for key in required_fingerprints([method]) if key[0] == "A" and key[1] != "reference"]
    made = {key: make_fingerprints(loaded, key[1], key[2], asked) for key in of_audited}
    catalog = list(asked.songs[: asked.n_catalog])
    scores_QN = scores(loaded, METHODS[method], BOTH, asked, asked.n_catalog, made)
    scores_QN = scores_QN[:, [catalog.index(song) for song in songs]]
    common_N = commonness(loaded, songs, catalog)
    place = {id(query): q for q, query in enumerate(loaded.queries)}
    for kind, kinds in ASKED.items():
        of_kind = [i for i, query in enumerate(asked.queries) if query.kind in kinds and id(query) in place]
        of_truth = effects_NQ[:, [place[id(asked.queries[i])] for i in of_kind]]
        of_scores = scores_QN[of_kind].T
        mean_truth_N, mean_scores_N = of_truth.mean(axis=1), of_scores.mean(axis=1)
        first = (of_truth.argmax(axis=0) == of_scores.argmax(axis=0)).mean()
        print(
            f"{kind}: {len(of_kind)} queries, {len(songs)} songs; rank {rank_over_songs(of_scores, of_truth):.2f}, of "
            f"the mean {spearmanr(mean_scores_N, mean_truth_N).statistic:.2f}; the same song first {first:.0%}; rank "
            f"with commonness: effects {spearmanr(common_N, mean_truth_N).statistic:.2f}, scores "
            f"{spearmanr(common_N, mean_scores_N).statistic:.2f}"
        )
        for what, places in zip(("too low", "too high"), misplaced(mean_scores_N, mean_truth_N), strict=True):
            for n in places:
                print(f"  {what}: {loaded.recordings[songs[n]].recording_id}, {loaded.captions[songs[n]]}")


if __name__ == "__main__":
    typer.run(main)
