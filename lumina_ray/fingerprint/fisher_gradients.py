"""Gradients of a model's output heads in the metric of its Fisher information: unlearning to first order.

One small step that forgets a piece ẑ changes the loss of a song z by `∇L(z)ᵀ (F + λ)⁻¹ ∇L(ẑ) / N`
(`lumina_ray.unlearning`). Half of the inverse goes to each side, `(F + λ)^(−1/2) ∇L`, so that the inner product of two
fingerprints does the rest, and no song's loss needs to be computed again for a query.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from lumina_ray.fingerprint.channels import ProjectedHeadGradients
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients import SongGradient, Tile, WeightCall, gradient_tiles
from lumina_ray.model.fisher import fisher_of
from lumina_ray.model.interface import MusicModel
from lumina_ray.unlearning.select import select_parts
from lumina_ray.unlearning.unlearn import DAMPING, inverse_fisher
from lumina_ray.vocabulary import Channel


class FisherHeadGradients(ProjectedHeadGradients):
    """Open "fisher": gradients of the output heads, times the inverse root of the damped Fisher information.

    λ is a fraction of F's mean over the heads of all codebooks, also where one channel is computed alone.
    """

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        """
        Raises:
            ModelError: the model has no Fisher information.
        """
        super().__init__(model, specification, fresh=False)
        parts = select_parts(model, "heads")
        inverse = inverse_fisher(fisher_of(model), parts, DAMPING)
        roots = {id(part.parameter): v.sqrt().float() for part, v in zip(parts, inverse, strict=True)}
        self._roots = [roots[id(weight)].to(model.device) for weight in self.weights]

    def of_chunks(
        self, calls: Sequence[WeightCall], rows: Sequence[int], scales: Sequence[float]
    ) -> dict[Channel, Tensor]:
        return self._projector(self._scaled(gradient_tiles(calls, rows, scales)))

    def of_song(self, gradient: SongGradient) -> dict[Channel, Tensor]:
        return self._projector(self._scaled(gradient.tiles()))

    def _scaled(self, tiles: Iterable[Tile]) -> Iterator[Tile]:
        for tile in tiles:
            root_mN = self._roots[tile.parameter][tile.first_row : tile.first_row + len(tile.values)]
            yield replace(tile, values=tile.values * root_mN)
