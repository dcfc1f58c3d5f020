"""How often is the song that a query comes from the one that matters most to it? What no policy that is right can beat.

    python -m benchmarks.own_songs

Asked are a bank's trainings without one song: by how much does each raise the query's loss? An excerpt comes from its
recording, a continuation from the song whose seconds it goes on from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import numpy as np
import typer

from benchmarks.codebooks import single_effects
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.measures import Estimate
from lumina_ray.truth.power import fraction
from lumina_ray.truth.queries import QueryKind, Split


@dataclass(frozen=True)
class OwnSongs:
    """The places of queries' own songs, 1 being the largest effect of all songs that were left out.

    Attributes:
        ranks: one for each query.
        median_effect: of a query's own song, in standard deviations of all songs' effects on it.
    """

    ranks: tuple[int, ...]
    median_effect: float

    @property
    def first(self) -> Estimate:
        """The part of queries whose own song comes first, with its exact 95 % interval."""
        return fraction([rank == 1 for rank in self.ranks])


def own_songs(bank: Bank, kind: QueryKind, split: Split) -> OwnSongs | None:
    """Rank the own songs of one kind's queries; None where the bank has none whose song was left out once."""
    effects_NQK, songs = single_effects(bank)
    effects_NQ = effects_NQK.mean(axis=2)
    asked = [
        (q, songs.index(query.recording))
        for q, query in enumerate(bank.queries)
        if (query.kind, query.model, query.split) == (kind, "A", split) and query.recording in songs
    ]
    if not asked:
        return None
    own = [effects_NQ[song, q] for q, song in asked]
    ranks = tuple(int((effects_NQ[:, q] > of_own).sum()) + 1 for (q, _), of_own in zip(asked, own, strict=True))
    spreads = [effects_NQ[:, q].std() for q, _ in asked]
    return OwnSongs(ranks, float(np.median(np.array(own) / spreads)))


def main(
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    kinds: Annotated[list[str] | None, typer.Option("--kind", help="Of queries; may be given several times.")] = None,
) -> None:
    """Print a table of the kinds of queries that have a song of their own."""
    loaded = load_bank(bank)
    wanted: Sequence[str] = kinds or get_args(QueryKind)
    for kind in wanted:
        for split in ("dev", "test"):
            if (found := own_songs(loaded, kind, split)) is not None:  # type: ignore[arg-type]
                first = found.first
                print(
                    f"{kind}, {split}: {len(found.ranks)} queries; own song first {first.value:.0%} "
                    f"[{first.low:.0%}, {first.high:.0%}], median rank {np.median(found.ranks):g}; "
                    f"its effect {found.median_effect:.1f} SD"
                )


if __name__ == "__main__":
    typer.run(main)
