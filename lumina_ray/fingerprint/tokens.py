"""Histograms of a song's codes: the floor that fingerprints made with a model's gradients must beat."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from lumina_ray.fingerprint.projection import SparseProjection
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients import SongGradient, Tile, WeightCall, gradient_tiles
from lumina_ray.model.interface import MusicModel
from lumina_ray.vocabulary import Channel, codebooks_of


class TokenHistograms:
    """Counts how often each code occurs: in the first codebook (P), and in the others (M). The model is never run.

    A histogram is written as the product `Σ_t onehot_t · 1/T`, so that the code that sums gradients also sums
    histograms.
    """

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        of_channel = {channel: codebooks_of(channel, model.n_codebooks) for channel in specification.layers}
        self._n_codes = model.codebook_size
        self._sizes = {channel: len(codebooks) * self._n_codes for channel, codebooks in of_channel.items()}
        # For each counted codebook: its number, its channel, and where it begins in the channel's long histogram.
        self._places = [(k, c, i * self._n_codes) for c, ks in of_channel.items() for i, k in enumerate(ks)]
        # These weights have shapes and no data: only the sum of a song that needs several batches uses the shapes.
        self.weights = [nn.Parameter(torch.empty(self._n_codes, 1, device="meta")) for _ in self._places]
        self._projections = {
            channel: SparseProjection(size, specification.dims[channel], specification.nonzeros, specification.seed)
            for channel, size in self._sizes.items()
            if size > specification.dims[channel]
        }

    def capture(self, codes_BKT: Tensor, n_frames: list[int], heard_BT: Tensor) -> list[WeightCall]:
        weight_BT1 = (heard_BT / heard_BT.sum(dim=1, keepdim=True).clamp(min=1))[..., None]
        return [
            WeightCall(i, 0, weight_BT1, functional.one_hot(codes_BKT[:, k], self._n_codes).float())
            for i, k in enumerate(k for k, _, _ in self._places)
        ]

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        return self._histograms(gradient_tiles(calls, rows, scales))

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return self._histograms(gradient.tiles())

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return sums

    def _histograms(self, tiles: Iterable[Tile]) -> dict[Channel, Tensor]:
        out: dict[Channel, Tensor] = {}
        for tile in tiles:
            _, channel, begin = self._places[tile.parameter]
            begin += tile.first_row
            if channel not in out:
                out[channel] = torch.zeros(self._sizes[channel], dtype=torch.float64, device=tile.values.device)
            out[channel][begin : begin + len(tile.values)] = tile.values[:, 0]
        return {channel: self._projected(channel, histogram) for channel, histogram in out.items()}

    def _projected(self, channel: Channel, histogram: Tensor) -> Tensor:
        if channel not in self._projections:
            return histogram
        projection = self._projections[channel]
        out = torch.zeros(projection.n_out, dtype=torch.float64, device=histogram.device)
        projection.add(out, 0, histogram)
        return out
