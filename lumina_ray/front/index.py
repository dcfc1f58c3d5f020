"""An index for Python users: build or open it, and attribute audio files; snapshot and model are loaded once."""

import os
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lumina_ray.files import check_lasting
from lumina_ray.front.device import find_device
from lumina_ray.front.ray_address import check_ray_address
from lumina_ray.index import IndexConfig, Snapshot, build_index, load_snapshot
from lumina_ray.report.shown import ShownReport
from lumina_ray.storage import AnyPath, Location, locate
from lumina_ray.vocabulary import DEFAULT_CANDIDATES, DEFAULT_POLICY, DEFAULT_TOP_K

if TYPE_CHECKING:
    from lumina_ray.attribution import Report
    from lumina_ray.attribution.confirmation import Confirmation
    from lumina_ray.attribution.replay import Replay
    from lumina_ray.fingerprint import Fingerprinter
    from lumina_ray.vocabulary import QueryFingerprint

Progress = Callable[[int, int, str], object]
"""Called after each file with the number done, the number in all, and the file's name."""


class Index:
    """A snapshot of an index, with the model that made it; `index` and `open_index` make one.

    Attributes:
        snapshot: the songs, their vectors and the calibration.
    """

    def __init__(self, snapshot: Snapshot, model: str | None, device: str) -> None:
        self.snapshot = snapshot
        self._model = model
        self._device = device

    @property
    def version(self) -> str:
        """Name of the snapshot, such as "v0007"."""
        return self.snapshot.version

    def __len__(self) -> int:
        """Songs that may be found."""
        return self.snapshot.n_present

    def __repr__(self) -> str:
        return f"Index({self.version}, {len(self)} songs, channels {' and '.join(self.snapshot.indexes)})"

    def attribute(
        self,
        audio: AnyPath,
        policy: str = DEFAULT_POLICY,
        top_k: int = DEFAULT_TOP_K,
        candidates: int = DEFAULT_CANDIDATES,
    ) -> ShownReport:
        """Find the songs that shaped an audio file, per channel, by how much, and how sure we are.

        Args:
            audio: path of an audio file, or its address in a bucket.
            policy: "calibrated" (ours), "v8" or "v7" (published).
            top_k: songs that are judged in each channel, the most similar ones.
            candidates: songs that are listed in each channel, besides all that qualify; no number depends on it.

        Raises:
            AudioError: the file cannot be used.
            ModelError: the index's model is not at hand.
            SpecificationMismatch: the model that was given is not the index's.
            UsageError: no such policy, or a number below 1.
        """
        return self.attribute_all([audio], policy, top_k, candidates)[0]

    def attribute_all(
        self,
        audio: Iterable[AnyPath],
        policy: str = DEFAULT_POLICY,
        top_k: int = DEFAULT_TOP_K,
        candidates: int = DEFAULT_CANDIDATES,
        progress: Progress | None = None,
    ) -> list[ShownReport]:
        """Attribute several audio files. The model is loaded once; the reports are those of `attribute`.

        Args:
            audio: paths of audio files.
            progress: called after each file, such as `lambda done, total, name: print(done, total, name)`.

        Raises:
            AudioError: a file cannot be used; the others are then not attributed either.
            Others as `attribute`.
        """
        from lumina_ray.attribution import attribute_all

        files, queries = list(audio), []
        for done, file in enumerate(files, start=1):
            queries.append(self._fingerprint(file))
            if progress is not None:
                progress(done, len(files), str(file))
        reports = attribute_all(queries, self.snapshot, policy, top_k, candidates)
        return [ShownReport.of(report) for report in reports]

    def confirm(
        self, audio: AnyPath, report: "Report", store: AnyPath, fisher: str | os.PathLike[str] | None = None
    ) -> "Confirmation":
        """Confirm a report by forgetting: rank its songs by what the model loses with the audio, among random songs.

        Args:
            audio: the file that the report is about.
            report: what `attribute` gave.
            store: the store that the index was built from, or the living catalog, which holds the songs' codes.
            fisher: a file of `lumina fisher`; by default the one in the model's folder.

        Raises:
            ModelError: there is no Fisher information.
            SpecificationMismatch: the store or the Fisher information is of another model, or the audio of another
                report.
            StoreError: the store lacks a song of the index.
            UnlearningError: the audio is silent or cannot be forgotten; the model is as before.
        """
        from lumina_ray.attribution.confirmer import open_confirmer
        from lumina_ray.audio import load_chunks

        confirmer = open_confirmer(self._fingerprinter.model, store, None if fisher is None else Path(fisher))
        return confirmer(load_chunks(locate(audio)).chunks, report)

    def replay(self, audio: AnyPath, report: "Report", run: str | os.PathLike[str]) -> "Replay":
        """Compute what leaving each listed song out of the training would have done to the audio's loss, on Ray.

        The training is replayed twice, for the loss of the first codebook and of all, at four to five trainings each;
        the first question to a run also takes its gate, six trainings. All of it is kept in the run's folder, and an
        interrupted call goes on.

        Args:
            audio: the file that the report is about; of a long one, chunks at equal distances.
            report: what `attribute` gave.
            run: folder of the training that the index's model ended, by `lumina train`.

        Raises:
            SpecificationMismatch: the run ended with another model than the index's, or cannot be replayed here, or the
                audio is that of another report.
            StoreError: the run is not finished, or damaged.
            NumericsError: its derivatives do not predict removals; names both numbers.
            UnlearningError: the audio is silent.
            ClusterError: the cluster cannot run it.
        """
        check_ray_address()
        from functools import partial

        from cluster.replay import replay as replay_on_ray
        from lumina_ray.attribution.confirm import QUERY_CHUNKS, thinned
        from lumina_ray.attribution.replay import Removals, replay_finding
        from lumina_ray.audio import load_chunks
        from lumina_ray.errors import SpecificationMismatch
        from lumina_ray.fingerprint import encode_song
        from lumina_ray.model.files import weights_sha256
        from lumina_ray.replay.gate import check_gate
        from lumina_ray.replay.question import channel_effects, questions
        from lumina_ray.replay.record import read_run
        from lumina_ray.replay.run import MODEL_FOLDER, check_finished, load_songs, open_training

        folder = Path(run).resolve()
        check_finished(folder)
        if (ended := weights_sha256(folder / MODEL_FOLDER)) != report.basis.weights_sha256:
            raise SpecificationMismatch(
                f"{folder}: ended with a model of weights {ended[:12]}, the index's has "
                f"{report.basis.weights_sha256[:12]}; give the run of the model that the index was made with"
            )
        query = encode_song(self._fingerprinter.model, load_chunks(locate(audio)).chunks)
        if query.sha256 != report.query.codes_sha256:
            raise SpecificationMismatch(f"{audio} is not the audio that the report is about: their codes differ")
        groups = questions(thinned(query, QUERY_CHUNKS))
        found = replay_on_ray(partial(open_training, folder), folder, groups)
        gate = check_gate(folder)
        return replay_finding(
            report,
            load_songs(folder).ids,
            channel_effects(found, query.chunks[0].shape[0]),
            run_sha256=gate.record,
            steps=read_run(folder)["steps"],
            gate=Removals(gate.r, gate.slope, gate.removals, gate.queries, gate.predicted, gate.actual),
        )

    def _fingerprint(self, audio: AnyPath) -> "QueryFingerprint":
        from lumina_ray.audio import load_chunks
        from lumina_ray.fingerprint import fingerprint_query

        return fingerprint_query(self._fingerprinter, load_chunks(locate(audio)))

    @cached_property
    def _fingerprinter(self) -> "Fingerprinter":
        from lumina_ray.attribution.fingerprinter import open_fingerprinter

        return open_fingerprinter(self.snapshot, self._model, find_device(self._device))


def open_index(path: AnyPath, *, model: str | os.PathLike[str] | None = None, device: str = "auto") -> Index:
    """Open an index that `lr.index` or `lumina index` built. The model is loaded by the first attribution.

    Args:
        path: an index folder (its newest snapshot), or one snapshot.
        model: where the index's model lies now, if it has moved.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".

    Raises:
        StoreError: no index there, or a damaged one.
    """
    return Index(load_snapshot(path), None if model is None else os.fspath(model), device)


def index(
    store: AnyPath,
    out: AnyPath,
    *,
    kind: str = "auto",
    memory_gib: float | None = None,
    recall: float = 0.99,
    parallel: bool = False,
    effects: str | os.PathLike[str] | None = None,
    effects_kind: str | None = None,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
) -> Index:
    """Build the next snapshot of an index from a calibrated store, and open it.

    Args:
        store: a finished, calibrated store, or a living catalog.
        out: the index folder; a new snapshot is added to it.
        kind: "auto" (by size and memory), or a FAISS factory string such as "IVF1024,SQ8" or "HNSW32".
        memory_gib: memory that the index may take on a host that searches it; by default 0.35 of this one's.
        recall: recall@100 that an approximate index must reach, 0 to 1.
        parallel: add the pieces of an approximate index on Ray, all at once.
        effects: a file by `lumina effects fit` for this model, fingerprint and catalog: reports then tell influence.
        effects_kind: the kind of query that it was fitted on; may be left out where the file has one.
        model: where the store's model lies now, if it has moved.
        device: where `Index.attribute` computes: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        StoreError: the store is not calibrated, or has changed since.
        SpecificationMismatch: effects of another model, fingerprint or catalog.
        UsageError: a kind that FAISS does not know, or a kind of query that has no effects.
    """
    path = build_snapshot(
        store,
        out,
        kind=kind,
        memory_gib=memory_gib,
        recall=recall,
        parallel=parallel,
        effects=effects,
        effects_kind=effects_kind,
    )
    return open_index(path, model=model, device=device)


def build_snapshot(
    store: AnyPath,
    out: AnyPath,
    *,
    kind: str,
    memory_gib: float | None,
    recall: float,
    parallel: bool,
    effects: str | os.PathLike[str] | None = None,
    effects_kind: str | None = None,
) -> Location:
    """Build the next snapshot without opening it, and return its place. See `index`."""
    from lumina_ray.store import stream_store

    check_lasting(locate(out))
    file = None if effects is None else Path(effects)
    config = IndexConfig(kind, memory_gib and memory_gib * 2**30, recall, file, effects_kind)
    if parallel:
        check_ray_address()
        from cluster.index import build_index_on_ray

        return build_index_on_ray(locate(store), locate(out), config)
    return build_index(stream_store(locate(store)), locate(out), config)
