"""Confirms reports by forgetting: an index's model with its Fisher information, and the store of the index's songs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lumina_ray.attribution.confirm import confirm, draw_random_songs, listed_songs
from lumina_ray.attribution.confirmation import Confirmation
from lumina_ray.attribution.schema import Report
from lumina_ray.audio import Chunk
from lumina_ray.errors import SpecificationMismatch
from lumina_ray.fingerprint import encode_song
from lumina_ray.model.fisher import Fisher, fisher_of, load_fisher
from lumina_ray.model.interface import AttributableModel
from lumina_ray.storage import AnyPath, locate
from lumina_ray.store.stream import StreamedStore, codes_of, stream_store


@dataclass(frozen=True)
class Confirmer:
    """Everything that a confirmation takes besides a report and its audio; `open_confirmer` makes one.

    Attributes:
        store: the one that the index was built from; made with the model.
    """

    model: AttributableModel
    fisher: Fisher
    store: StreamedStore

    def __call__(
        self,
        chunks: Sequence[Chunk],
        report: Report,
        most: int | None = None,
        go_on: Callable[[], object] = lambda: None,
    ) -> Confirmation:
        """Confirm a report.

        Args:
            chunks: of the audio that the report is about.
            most: songs of each channel that are confirmed, the first ones; all by default.
            go_on: as in `confirm`.

        Raises:
            SpecificationMismatch: it is the audio of another report.
            StoreError: the store lacks a song of the index, or is damaged.
            Others as `confirm`.
        """
        query = encode_song(self.model, chunks)
        if query.sha256 != report.query.codes_sha256:
            raise SpecificationMismatch("this is not the audio that the report is about: their codes differ")
        listed = listed_songs(report, most)
        everything = [song for songs in listed_songs(report).values() for song in songs]
        drawn = draw_random_songs(self.store.song_ids, everything, query.sha256)
        codes = codes_of(self.store, {*(song for songs in listed.values() for song in songs), *drawn})
        return confirm(self.model, self.fisher, query, listed, drawn, codes, go_on=go_on)


def open_confirmer(model: AttributableModel, store: AnyPath, fisher: Path | None = None) -> Confirmer:
    """Put together what confirms reports of a model.

    Args:
        fisher: a file of `lumina fisher`; by default the one in the model's folder.

    Raises:
        ModelError: there is no Fisher information.
        SpecificationMismatch: the store or the Fisher information is of another model.
        StoreError: no finished store there.
    """
    opened = stream_store(locate(store))
    check_store(opened, model.weights_sha256, str(store))
    if fisher is not None:
        model.fisher = load_fisher(fisher)
    return Confirmer(model, fisher_of(model), opened)


def check_store(store: StreamedStore, weights_sha256: str, name: str) -> None:
    """Check that a store was made with a model's weights.

    Raises:
        SpecificationMismatch: with others.
    """
    if (found := store.specification.weights_sha256) != weights_sha256:
        raise SpecificationMismatch(
            f"{name} was made with weights {found[:12]}, the index's model has {weights_sha256[:12]}; give the store "
            "that the index was built from"
        )
