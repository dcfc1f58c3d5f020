"""Embeddings of the audio that a song's codes stand for, by models that know nothing of the music model.

Both channels have the same vector: no embedder says which of its numbers are of the notes, and which of the sound.

Shape legend: B = chunks, W = windows, D = fingerprint dimensions.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lumina_ray.embedding.open import open_embedder
from lumina_ray.embedding.windows import cut_windows
from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients import SongGradient, WeightCall, gradient_tiles
from lumina_ray.model.interface import AttributableModel
from lumina_ray.vocabulary import Channel


class VectorsOfChunks(ABC):
    """Base of extractions that make one vector of each chunk, and that of a song as their weighted mean.

    Each chunk is looked at alone, at its own length, so that its neighbours in a batch change no bit. Its vector `e` is
    written as the product `e · 1`, so that the code that sums gradients also sums vectors.
    """

    def __init__(self, specification: Specification) -> None:
        self._channels = specification.channels
        # These weights have shapes and no data: only the sum of a song that needs several batches uses the shapes.
        self.weights = [nn.Parameter(torch.empty(specification.dims[c], 1, device="meta")) for c in self._channels]

    @abstractmethod
    def of_chunk(self, codes_KT: Tensor, heard_T: np.ndarray) -> dict[Channel, Tensor]:
        """Make a float32 vector `[D]` per channel from a chunk's codes or latents and its frames with sound."""

    def capture(self, codes_BKT: Tensor, n_frames: list[int], heard_BT: Tensor) -> list[WeightCall]:
        ones_B11 = torch.ones(len(codes_BKT), 1, 1, device=codes_BKT.device)
        made: list[dict[Channel, Tensor] | None] = [
            self.of_chunk(codes_KT[:, :n], heard_T[:n].cpu().numpy()) if n else None
            for codes_KT, heard_T, n in zip(codes_BKT, heard_BT, n_frames, strict=True)
        ]
        calls = []
        for i, channel in enumerate(self._channels):
            # A row that only fills the batch has no vector.
            none_D = torch.zeros(self.weights[i].shape[0], device=codes_BKT.device)
            vectors_BD = torch.stack([none_D if one is None else one[channel].to(none_D) for one in made])
            calls.append(WeightCall(i, 0, ones_B11, vectors_BD[:, None]))
        return calls

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        return {
            self._channels[tile.parameter]: tile.values[:, 0].double() for tile in gradient_tiles(calls, rows, scales)
        }

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return {self._channels[tile.parameter]: tile.values[:, 0].double() for tile in gradient.tiles()}

    def vectors(self, sums: dict[Channel, Tensor]) -> dict[Channel, Tensor]:
        return sums


class Embeddings(VectorsOfChunks):
    """Mean of an embedder's vectors over a chunk's windows, by the frames with sound in each.

    The audio is what the codec makes of the codes, which stores keep; the audio itself they do not.
    """

    def __init__(self, model: AttributableModel, specification: Specification) -> None:
        super().__init__(specification)
        self._model = model
        name = find_kind(specification.kind, specification.representation).embedder
        self._embedder = open_embedder(name, model.device)

    def of_chunk(self, codes_KT: Tensor, heard_T: np.ndarray) -> dict[Channel, Tensor]:
        windows_WN, weights_W = cut_windows(self._model.decode(codes_KT), heard_T, self._embedder.row)
        vectors_WD = self._embedder(torch.from_numpy(windows_WN)).double()
        mean_D = torch.from_numpy(weights_W / weights_W.sum()) @ vectors_WD
        return dict.fromkeys(self._channels, mean_D.float())
