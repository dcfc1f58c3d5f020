"""Evaluation sets: the songs, queries and controls that one audited model's scores are needed for.

Shape legend: N songs, Q queries.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import Audited, members
from lumina_ray.truth.queries import Query, QueryKind, Split
from lumina_ray.vocabulary import Kind

JUDGED: tuple[Kind, ...] = ("companion", "influence", "tokens")
"""Kinds of fingerprints that policies are judged on; code histograms are the floor, which needs no model."""
AGAINST_REFERENCE = ("influence",)
"""Methods that also have a row with the reference model's scores taken off."""
_UNCHANGED_BUT_FOR_CODING = "mp3"


@dataclass(frozen=True)
class EvaluationSet:
    """Everything that one audited model is asked about.

    Attributes:
        model: the catalog that it was trained on.
        split: of all queries.
        songs: positions in the corpus: the catalog's songs, then twins and cells of the other catalog.
        n_catalog: how many of the songs are the catalog's.
        controls: positions in the corpus of music that no model knows.
    """

    model: Audited
    split: Split
    songs: tuple[int, ...]
    n_catalog: int
    queries: tuple[Query, ...]
    controls: tuple[int, ...]

    @property
    def copies(self) -> list[int]:
        """Positions of the queries that are whole songs and were only coded again."""
        return [q for q, query in enumerate(self.queries) if query.alteration == _UNCHANGED_BUT_FOR_CODING]

    def of_kind(self, *kinds: str) -> list[int]:
        """Positions of the queries of some kinds."""
        return [q for q, query in enumerate(self.queries) if query.kind in kinds]


def evaluation_set(bank: Bank, model: Audited, split: Split, kind: Kind | None = "influence") -> EvaluationSet:
    """Everything that one model's scores are needed for.

    Args:
        kind: of the fingerprints. Only those that policies are offered on are asked about copies, and about controls
            under model A: a third of the work.
    """
    catalog = members(bank.recordings, model)
    other = [i for i, recording in enumerate(bank.recordings) if recording.side not in ("", model)]
    # Queries with losses are all of model A: there are models of parts of catalog A only.
    queries = [query for query in (*bank.extra_queries, *bank.queries) if (query.model, query.split) == (model, split)]
    controls: list[int] = []
    if model == "A" and kind in JUDGED:
        controls = [i for i, recording in enumerate(bank.recordings) if recording.role == "control"]
    if kind not in JUDGED:
        queries = [query for query in queries if query.kind != "altered"]
    return EvaluationSet(
        model=model,
        split=split,
        songs=(*catalog, *other),
        n_catalog=len(catalog),
        queries=tuple(queries),
        controls=tuple(controls),
    )


def works(bank: Bank, split: Split, *kinds: QueryKind) -> set[str]:
    """Name the works that have a query of a split, of these kinds or else of any; no work belongs to both splits."""
    queries = [q for q in (*bank.queries, *bank.extra_queries) if q.split == split and q.recording >= 0]
    return {bank.recordings[q.recording].work for q in queries if not kinds or q.kind in kinds}


def twin_places(bank: Bank, asked: EvaluationSet) -> Iterator[tuple[str, int, int]]:
    """List twin works of the split: name, and the places of its trained and its unheard recording among the songs."""
    of_split = works(bank, asked.split)
    places: dict[str, list[int]] = {}
    for place, i in enumerate(asked.songs):
        if bank.recordings[i].role == "twin" and bank.recordings[i].work in of_split:
            places.setdefault(bank.recordings[i].work, []).append(place)
    # The catalog comes first.
    for work, (trained, unheard) in places.items():
        yield work, trained, unheard
