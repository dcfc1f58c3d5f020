"""Do composition (P) and production (M) exist in truth? What leaving one song out does to each codebook of a query.

    python -m benchmarks.codebooks

Only a bank's trainings without one song are asked, from model A's own seed: their effects have no noise of retraining.
First, over songs: the rank correlation of effects on the first codebook with those on the others, beside that of the
third with the fourth, which no channel sets apart. Then, for cells, where scores are crossed with instruments: how much
larger than other songs' the effects of a song with the same score, or the same instruments, are, in standard deviations
over songs, with the standard error over pairs. If the first codebook were composition, the same score would matter more
to it than to the others.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import spearmanr

from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.replayed import ASKED


def single_effects(bank: Bank) -> tuple[np.ndarray, list[int]]:
    """Effect of leaving each song out on each query and codebook, float64 `[N, Q, K]`; and the songs, by position."""
    rows = bank.of_kind("single-")
    whole = [training.name for training in bank.trainings].index("A")
    songs = [song for row in rows for song in bank.trainings[row].removed]
    return bank.losses_RQK[rows].astype(np.float64) - bank.losses_RQK[whole], songs


def rank_over_songs(one_NQ: np.ndarray, other_NQ: np.ndarray) -> float:
    """Rank correlation over songs, mean over queries."""
    return float(np.mean([spearmanr(x_N, y_N).statistic for x_N, y_N in zip(one_NQ.T, other_NQ.T, strict=True)]))


def cell_effects(bank: Bank, effects_NQK: np.ndarray, songs: list[int]) -> dict[str, np.ndarray]:
    """Standardised effects of cells on unheard cells: on the first codebook and on the others, `[pairs, 2]`, by kin."""
    z_NQK = (effects_NQK - effects_NQK.mean(axis=0)) / effects_NQK.std(axis=0)
    found: dict[str, list[tuple[float, float]]] = {"same score": [], "same instruments": [], "neither": []}
    for q, query in enumerate(bank.queries):
        asked = bank.recordings[query.recording]
        if query.kind != "unheard" or asked.role != "cell":
            continue
        for n, song in enumerate(songs):
            other = bank.recordings[song]
            if other.role == "cell":
                same_score, same_instruments = other.work == asked.work, other.variant == asked.variant
                kin = "same score" if same_score else "same instruments" if same_instruments else "neither"
                found[kin].append((float(z_NQK[n, q, 0]), float(z_NQK[n, q, 1:].mean())))
    return {kin: np.array(pairs) for kin, pairs in found.items() if pairs}


def main(bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED) -> None:
    """Print both tables."""
    loaded = load_bank(bank)
    effects_NQK, songs = single_effects(loaded)
    print(
        f"{len(songs)} songs left out, one at a time\n\n| test queries | first, others | third, fourth |\n|---|---|---|"
    )
    for kind, kinds in ASKED.items():
        asked = [q for q, query in enumerate(loaded.queries) if query.kind in kinds and query.split == "test"]
        of_kind = effects_NQK[:, asked]
        first = rank_over_songs(of_kind[:, :, 0], of_kind[:, :, 1:].mean(axis=2))
        print(f"| {kind} | {first:.2f} | {rank_over_songs(of_kind[:, :, 2], of_kind[:, :, 3]):.2f} |")
    print("\n| unheard cells and a song with | pairs | first codebook | others |\n|---|---|---|---|")
    for kin, pairs in cell_effects(loaded, effects_NQK, songs).items():
        errors = pairs.std(axis=0, ddof=1) / np.sqrt(len(pairs))
        cells = (f"{mean:.2f} ± {error:.2f}" for mean, error in zip(pairs.mean(axis=0), errors, strict=True))
        print(f"| {kin} | {len(pairs)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    typer.run(main)
