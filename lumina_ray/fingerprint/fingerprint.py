"""Turns songs' codes into one unit vector per channel, with several songs in one batch where they are short."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumina_ray.audio import MIN_SOUND_S
from lumina_ray.errors import SpecificationMismatch
from lumina_ray.fingerprint.extraction import make_extraction
from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.fingerprint.specification import Specification, measured_sha256
from lumina_ray.fingerprint.stretches import Stretch, calls_in, cut
from lumina_ray.gradients import SongGradient, WeightCall, first_tile, freeze, gradient_tiles
from lumina_ray.model.interface import AttributableModel
from lumina_ray.vocabulary import Channel, SongCodes


@dataclass(frozen=True)
class Fingerprint:
    """Vectors of one song with n chunks.

    Attributes:
        vectors: float32 `[D]` per channel, of unit length, or all zero where the gradient is exactly zero.
        chunk_vectors: float32 `[m, D]` per channel, the unit vector of each stretch alone; `[0, D]` unless asked for.
        chunk_weights: float64 `[n]`, each chunk's fraction of the song's valid codes that hold sound; they add up to 1.
        stretches: m of them: the chunks, or their halves in a song of few chunks; none unless asked for.
        stretch_weights: each stretch's fraction of the valid codes that hold sound; m numbers that add up to 1.
        norms: per channel, the length that the vector had before it was scaled to 1, in float64.
    """

    vectors: dict[Channel, np.ndarray]
    chunk_vectors: dict[Channel, np.ndarray]
    chunk_weights: np.ndarray
    norms: dict[Channel, float]
    stretches: tuple[Stretch, ...] = ()
    stretch_weights: tuple[float, ...] = ()


@dataclass
class _Song:
    """A song whose chunks are going through batches."""

    chunks: Sequence[np.ndarray]
    heard: Sequence[np.ndarray]
    chunk_weights: list[float]
    stretches: list[Stretch]
    chunk_vectors: list[dict[Channel, np.ndarray]]
    gradient: SongGradient | None = None
    directions: "_Directions | None" = None


@dataclass(frozen=True)
class _Directions:
    """Unit vectors, and the lengths that they had before they were scaled to 1."""

    vectors: dict[Channel, np.ndarray]
    norms: dict[Channel, float]


class Fingerprinter:
    """Makes fingerprints of one specification with one model.

    The model always sees batches of one shape: `chunks_in_flight` chunks, padded to the specification's length and
    filled up with empty ones. A chunk's gradient is a product of its own rows. A song's gradient is the sum of its
    chunks' gradients, in the order of the song. So a vector depends only on the song's own codes, and not on other
    songs, their order or the worker. Its last bits do depend on `chunks_in_flight`, which is therefore recorded with
    the rest of the environment.
    """

    def __init__(self, model: AttributableModel, specification: Specification, chunks_in_flight: int = 1) -> None:
        """Open the specification's extraction on a model, and freeze the model's weights.

        Args:
            model: the model that the specification was made for.
            specification: how a song becomes a vector.
            chunks_in_flight: number of chunks per batch (`choose_chunks_in_flight`).

        Raises:
            SpecificationMismatch: the specification was made with other weights, or with other music statistics, Fisher
                information, companion or embedder.
        """
        if specification.weights_sha256 != model.weights_sha256:
            raise SpecificationMismatch(
                f"the specification was made for weights {specification.weights_sha256[:12]}, "
                f"model {model.name!r} has weights {model.weights_sha256[:12]}; open the model it was made with"
            )
        expected = specification.statistics_sha256
        if expected and expected != (found := measured_sha256(model, specification.kind)):
            what = specification.measured
            raise SpecificationMismatch(
                f"the specification was made with a {what} of hash {expected[:12]}, model {model.name!r} has "
                f"{found[:12]}; put its {what} back, or fingerprint everything again"
            )
        self.model = model
        self.specification = specification
        self.chunks_in_flight = chunks_in_flight
        self._chunk_frames = math.ceil(specification.chunk_s * model.frame_rate_hz)
        # A chunk of no more frames than this has no halves.
        whole = find_kind(specification.kind, specification.representation).whole_chunks
        self._undivided = self._chunk_frames if whole else self._chunk_frames // 2
        freeze(model)
        self._extraction = make_extraction(model, specification)
        self.weights = tuple(self._extraction.weights)

    def __call__(self, codes: SongCodes, *, per_chunk: bool = False) -> Fingerprint:
        """Fingerprint one song; see `many`."""
        return next(self.many([codes], per_chunk=per_chunk))

    def many(self, songs: Sequence[SongCodes], *, per_chunk: bool = False) -> Iterator[Fingerprint]:
        """Fingerprint songs, several in one batch where they are short, in their order.

        Args:
            songs: codes, with 1 chunk or more per song.
            per_chunk: whether to also return the vectors of each stretch: of each chunk, or of its halves where a song
                has few. They show what part of a query drives a match, and how far it resembles itself.

        Yields:
            One fingerprint per song, in the order of `songs`.
        """
        started: list[_Song] = []
        batch: list[tuple[_Song, int]] = []
        for codes in songs:
            song = self._start(codes, per_chunk)
            # A song is split only where it must be: the way it is summed must depend on its own length alone.
            if len(batch) + len(song.chunks) > self.chunks_in_flight:
                yield from self._process(batch, started)
                batch = []
            started.append(song)
            for i in range(len(song.chunks)):
                batch.append((song, i))
                if len(batch) == self.chunks_in_flight:
                    yield from self._process(batch, started)
                    batch = []
        yield from self._process(batch, started)

    def process_fillings(self, *, of_long_song: bool = False) -> None:
        """Put a full batch of empty chunks through the model, which costs as much memory as real ones.

        Args:
            of_long_song: whether the chunks stand for the last ones of a song that needs several batches; otherwise
                they stand for a song by themselves.
        """
        gradient = self._no_gradient() if of_long_song else None
        # One tile is enough, because all tiles cost the same memory.
        calls = [first_tile(call) for call in self._extraction.capture(*self._batch([]))]
        if gradient is not None:
            gradient.add(gradient_tiles(calls, [0], [1.0]), 1.0)
        self._extraction.of_chunks(calls, range(self.chunks_in_flight), [1.0] * self.chunks_in_flight)

    def _start(self, codes: SongCodes, per_chunk: bool) -> _Song:
        weights = [self._valid_codes(heard_T, 0, len(heard_T)) for heard_T in codes.heard]
        stretches: list[Stretch] = []
        if per_chunk:
            least = math.ceil(MIN_SOUND_S * self.model.frame_rate_hz)
            stretches = cut(codes.heard, self._undivided, least)
        return _Song(codes.chunks, codes.heard, [weight / sum(weights) for weight in weights], stretches, [])

    def _valid_codes(self, heard_T: np.ndarray, start: int, stop: int) -> int:
        """Count what is predicted and holds sound, in some frames of a chunk."""
        counted_T = np.zeros_like(heard_T)
        counted_T[start:stop] = heard_T[start:stop]
        return sum(self.model.representation.counted(counted_T))

    def _process(self, batch: list[tuple[_Song, int]], started: list[_Song]) -> Iterator[Fingerprint]:
        """Put a batch through the model, and yield the songs at the head of `started` that it completes."""
        if batch:
            self._add(batch)
        while started and (directions := started[0].directions) is not None:
            yield self._finish(started.pop(0), directions)

    def _add(self, batch: list[tuple[_Song, int]]) -> None:
        calls = self._extraction.capture(*self._batch([(song.chunks[i], song.heard[i]) for song, i in batch]))
        for row, (song, i) in enumerate(batch):
            for stretch in (one for one in song.stretches if one.chunk == i):
                of = calls_in(calls, stretch, song.chunks[i].shape[1], self._chunk_frames)
                song.chunk_vectors.append(self._summarise(of, [row], [1.0]).vectors)
        rows: dict[int, list[int]] = {}
        for row, (song, _) in enumerate(batch):
            rows.setdefault(id(song), []).append(row)
        for of_song in rows.values():
            song, first = batch[of_song[0]]
            _, last = batch[of_song[-1]]
            n = len(song.chunks)
            if first == 0 and last == n - 1:
                song.directions = self._summarise(calls, of_song, song.chunk_weights)
                continue
            if song.gradient is None:
                song.gradient = self._no_gradient()
            unscale = 1.0 / self.specification.loss_scale
            for row in of_song:
                song.gradient.add(gradient_tiles(calls, [row], [unscale]), song.chunk_weights[batch[row][1]])
            if last == n - 1:
                song.directions = self._directions(self._extraction.of_song(song.gradient))
                song.gradient = None

    def _summarise(self, calls: list[WeightCall], rows: list[int], chunk_weights: list[float]) -> _Directions:
        scaled = [chunk_weight / self.specification.loss_scale for chunk_weight in chunk_weights]
        return self._directions(self._extraction.of_chunks(calls, rows, scaled))

    def _directions(self, sums: dict[Channel, Tensor]) -> _Directions:
        units, norms = {}, {}
        for channel, vector in self._extraction.vectors(sums).items():
            norm = vector.norm()
            units[channel] = (vector / norm if norm > 0 else vector).float().cpu().numpy()
            norms[channel] = float(norm)
        return _Directions(units, norms)

    def _no_gradient(self) -> SongGradient:
        # A 1×1 convolution is a matrix, too.
        return SongGradient([weight.flatten(1).shape for weight in self.weights], self.model.device)

    def _finish(self, song: _Song, directions: _Directions) -> Fingerprint:
        dims = self.specification.dims
        valid = [self._valid_codes(song.heard[one.chunk], one.start, one.stop) for one in song.stretches]
        return Fingerprint(
            {c: directions.vectors[c] for c in self.specification.channels},
            {
                c: np.array([chunk[c] for chunk in song.chunk_vectors], np.float32).reshape(-1, dims[c])
                for c in self.specification.channels
            },
            np.array(song.chunk_weights, np.float64),
            {c: directions.norms[c] for c in self.specification.channels},
            tuple(song.stretches),
            tuple(codes / sum(valid) for codes in valid),
        )

    def _batch(self, chunks: list[tuple[np.ndarray, np.ndarray]]) -> tuple[Tensor, list[int], Tensor]:
        # Every batch has one shape, because another shape can select other kernels, and so change the last bits.
        representation = self.model.representation
        codes_BKT = np.zeros((self.chunks_in_flight, representation.rows, self._chunk_frames), representation.dtype)
        heard_BT = np.zeros((self.chunks_in_flight, self._chunk_frames), bool)
        n_frames = [0] * self.chunks_in_flight
        for row, (chunk_KT, heard_T) in enumerate(chunks):
            n_frames[row] = chunk_KT.shape[1]
            codes_BKT[row, :, : n_frames[row]] = chunk_KT
            heard_BT[row, : n_frames[row]] = heard_T
        codes, heard = (torch.from_numpy(array).to(self.model.device) for array in (codes_BKT, heard_BT))
        return codes, n_frames, heard
