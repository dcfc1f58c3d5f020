"""Songs' codes → one unit vector per channel, song by song or several songs in one batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lumina_ray.errors import SpecificationMismatch
from lumina_ray.fingerprint.codes import SongCodes
from lumina_ray.fingerprint.extraction import make_extraction
from lumina_ray.fingerprint.specification import Channel, Specification
from lumina_ray.gradients import SongGradient, Use, first_tile, freeze, gradient_tiles
from lumina_ray.model.interface import MusicModel
from lumina_ray.model.statistics import STATISTICS_FILE


@dataclass(frozen=True)
class Fingerprint:
    """Vectors of one song.

    Attributes:
        vectors: per channel float32 `[D]`, of unit length (or all zero when the gradient is exactly zero).
        chunk_vectors: per channel float32 `[n, D]`, the same for each chunk alone; `[0, D]` unless asked for.
        chunk_weights: float64 `[n]`, each chunk's share of the song's valid codes; they add up to 1.
        norms: per channel the length of what `vectors` is the direction of, in float64.
    """

    vectors: dict[Channel, np.ndarray]
    chunk_vectors: dict[Channel, np.ndarray]
    chunk_weights: np.ndarray
    norms: dict[Channel, float]


@dataclass
class _Song:
    """A song on its way through batches."""

    chunks: Sequence[np.ndarray]
    shares: list[float]
    chunk_vectors: list[dict[Channel, np.ndarray]]
    gradient: SongGradient | None = None
    directions: "_Directions | None" = None


@dataclass(frozen=True)
class _Directions:
    """Unit vectors and the lengths that they had."""

    vectors: dict[Channel, np.ndarray]
    norms: dict[Channel, float]


class Fingerprinter:
    """Makes fingerprints of one specification with one model.

    The model always sees batches of one shape: `chunks_in_flight` chunks, padded to the specification's length and
    filled up with empty ones. Every chunk's gradient is a product of its own rows, and a song's is the sum of its
    chunks' in the order of the song. So a vector depends on nothing but the song's own codes: not on its neighbours, a
    worker or an order of songs. It does depend, in its last bits, on `chunks_in_flight`, which is therefore part of
    the environment that is recorded with it.
    """

    def __init__(self, model: MusicModel, specification: Specification, chunks_in_flight: int = 1) -> None:
        """Args: a model, a specification made for these very weights, and the batch that memory allows.

        Raises:
            SpecificationMismatch: the specification names other weights, or other statistics of music.
        """
        if specification.weights_sha256 != model.weights_sha256:
            raise SpecificationMismatch(
                f"the specification was made for weights {specification.weights_sha256[:12]}, "
                f"model {model.name!r} has weights {model.weights_sha256[:12]}; open the model it was made with"
            )
        expected = specification.statistics_sha256
        if expected and expected != (found := model.statistics.sha256):
            raise SpecificationMismatch(
                f"the specification was made with statistics of music {expected[:12]}, model {model.name!r} has "
                f"{found[:12]}; put its {STATISTICS_FILE} back, or fingerprint everything again"
            )
        self.model = model
        self.specification = specification
        self.chunks_in_flight = chunks_in_flight
        self._chunk_frames = round(specification.chunk_s * model.frame_rate_hz)
        freeze(model)
        self._extraction = make_extraction(model, specification)
        self.weights = tuple(self._extraction.weights)

    def __call__(self, codes: SongCodes, *, per_chunk: bool = False) -> Fingerprint:
        """Fingerprint one song; see `many`."""
        return next(self.many([codes], per_chunk=per_chunk))

    def many(self, songs: Sequence[SongCodes], *, per_chunk: bool = False) -> Iterator[Fingerprint]:
        """Fingerprint songs, several in one batch where they are short, in their order.

        Args:
            per_chunk: also give each chunk's own vectors, the evidence for what in a query drives a match.
        """
        started: list[_Song] = []
        batch: list[tuple[_Song, int]] = []
        for codes in songs:
            song = self._start(codes)
            # A song is never split that need not be: how it is added up must follow from its own length alone.
            if len(batch) + len(song.chunks) > self.chunks_in_flight:
                yield from self._process(batch, started, per_chunk)
                batch = []
            started.append(song)
            for i in range(len(song.chunks)):
                batch.append((song, i))
                if len(batch) == self.chunks_in_flight:
                    yield from self._process(batch, started, per_chunk)
                    batch = []
        yield from self._process(batch, started, per_chunk)

    def process_fillings(self, *, of_long_song: bool = False) -> None:
        """Put a full batch of empty chunks through: all that it costs in memory. No result is read.

        Args:
            of_long_song: the chunks are the last of a song that needs several batches; otherwise, a song by themselves.
        """
        gradient = self._no_gradient() if of_long_song else None
        # One tile costs as much as the next.
        uses = [first_tile(use) for use in self._extraction.capture(*self._batch([]))]
        if gradient is not None:
            gradient.add(gradient_tiles(uses, [0], [1.0]), 1.0)
        self._extraction.of_chunks(uses, range(self.chunks_in_flight), [1.0] * self.chunks_in_flight)

    def _start(self, codes: SongCodes) -> _Song:
        K = self.model.n_codebooks
        weights = [sum(max(n - k, 0) for k in range(K)) for n in codes.frames]
        return _Song(codes.chunks, [weight / sum(weights) for weight in weights], [])

    def _process(self, batch: list[tuple[_Song, int]], started: list[_Song], per_chunk: bool) -> Iterator[Fingerprint]:
        """Put a batch through the model, and give out the songs at the head of `started` that it completes."""
        if batch:
            self._add(batch, per_chunk)
        while started and (directions := started[0].directions) is not None:
            yield self._finish(started.pop(0), directions)

    def _add(self, batch: list[tuple[_Song, int]], per_chunk: bool) -> None:
        chunks = [song.chunks[i] for song, i in batch]
        uses = self._extraction.capture(*self._batch(chunks))
        if per_chunk:
            for row, (song, _) in enumerate(batch):
                song.chunk_vectors.append(self._summarise(uses, [row], [1.0]).vectors)
        rows: dict[int, list[int]] = {}
        for row, (song, _) in enumerate(batch):
            rows.setdefault(id(song), []).append(row)
        for of_song in rows.values():
            song, first = batch[of_song[0]]
            _, last = batch[of_song[-1]]
            n = len(song.chunks)
            if first == 0 and last == n - 1:
                song.directions = self._summarise(uses, of_song, song.shares)
                continue
            if song.gradient is None:
                song.gradient = self._no_gradient()
            unscale = 1.0 / self.specification.loss_scale
            for row in of_song:
                song.gradient.add(gradient_tiles(uses, [row], [unscale]), song.shares[batch[row][1]])
            if last == n - 1:
                song.directions = self._directions(self._extraction.of_song(song.gradient))
                song.gradient = None

    def _summarise(self, uses: list[Use], rows: list[int], shares: list[float]) -> _Directions:
        scaled = [share / self.specification.loss_scale for share in shares]
        return self._directions(self._extraction.of_chunks(uses, rows, scaled))

    def _directions(self, sums: dict[Channel, Tensor]) -> _Directions:
        units, norms = {}, {}
        for channel, vector in self._extraction.vectors(sums).items():
            norm = vector.norm()
            units[channel] = (vector / norm if norm > 0 else vector).float().cpu().numpy()
            norms[channel] = float(norm)
        return _Directions(units, norms)

    def _no_gradient(self) -> SongGradient:
        return SongGradient([weight.shape for weight in self.weights], self.model.device)

    def _finish(self, song: _Song, directions: _Directions) -> Fingerprint:
        dims = self.specification.dims
        return Fingerprint(
            {c: directions.vectors[c] for c in self.specification.channels},
            {
                c: np.array([chunk[c] for chunk in song.chunk_vectors], np.float32).reshape(-1, dims[c])
                for c in self.specification.channels
            },
            np.array(song.shares, np.float64),
            {c: directions.norms[c] for c in self.specification.channels},
        )

    def _batch(self, chunks: list[np.ndarray]) -> tuple[Tensor, list[int]]:
        # One shape for every batch: kernels, and with them the last bits, can change with the shape.
        codes_BKT = np.zeros((self.chunks_in_flight, self.model.n_codebooks, self._chunk_frames), np.int64)
        n_frames = [0] * self.chunks_in_flight
        for row, chunk_KT in enumerate(chunks):
            n_frames[row] = chunk_KT.shape[1]
            codes_BKT[row, :, : n_frames[row]] = chunk_KT
        return torch.from_numpy(codes_BKT).to(self.model.device), n_frames
