"""Gradients in the metric of a model's Fisher information: unlearning to first order.

One small step that forgets a piece ẑ changes the loss of a song z by `∇L(z)ᵀ (F + λ)⁻¹ ∇L(ẑ) / N`
(`lumina_ray.unlearning`). Half of the inverse goes to each side, `(F + λ)^(−1/2) ∇L`, so that the inner product of two
fingerprints does the rest, and no song's loss needs to be computed again for a query.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor, nn

from lumina_ray.fingerprint.channels import Project, ProjectedGradients, ProjectedHeadGradients, band_weights
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.gradients import Tile
from lumina_ray.model.fisher import fisher_of
from lumina_ray.model.interface import AttributableModel, MusicModel
from lumina_ray.unlearning.select import Layers, select_parts
from lumina_ray.unlearning.unlearn import DAMPING, inverse_fisher


class FisherHeadGradients(ProjectedHeadGradients):
    """Open "fisher" of codes: gradients of the output heads, times the inverse root of the damped Fisher information.

    λ is a fraction of F's mean over the heads of all codebooks, also where one channel is computed alone.
    """

    def __init__(self, model: MusicModel, specification: Specification) -> None:
        """
        Raises:
            ModelError: the model has no Fisher information.
        """
        super().__init__(model, specification, fresh=False)
        self._projector = _scaled_first(self._projector, _inverse_roots(model, self.weights, "heads"))


class FisherBandGradients(ProjectedGradients):
    """Open "fisher" of latents: gradients of a band's layers, times the inverse root of the damped Fisher information.

    No output layer of a diffusion transformer belongs to one channel. λ is a fraction of F's mean over all layers.
    """

    def __init__(self, model: AttributableModel, specification: Specification) -> None:
        """
        Raises:
            ModelError: the model has no Fisher information.
        """
        super().__init__(model, specification, band_weights(model, specification))
        self._projector = _scaled_first(self._projector, _inverse_roots(model, self.weights, "layers"))


def _inverse_roots(model: AttributableModel, weights: Sequence[nn.Parameter], layers: Layers) -> list[Tensor]:
    """`(F + λ)^(−1/2)` of each weight, float32 in its shape, with λ by F's mean over a choice of layers."""
    parts = select_parts(model, layers)
    inverse = inverse_fisher(fisher_of(model), parts, DAMPING)
    roots = {id(part.parameter): v.sqrt().float() for part, v in zip(parts, inverse, strict=True)}
    return [roots[id(weight)].to(model.device) for weight in weights]


def _scaled_first(project: Project, roots: Sequence[Tensor]) -> Project:
    """Multiply each tile by its part of the weight's inverse root, and then project."""
    return lambda tiles: project(_scaled(tiles, roots))


def _scaled(tiles: Iterable[Tile], roots: Sequence[Tensor]) -> Iterator[Tile]:
    for tile in tiles:
        root_mN = roots[tile.parameter][tile.first_row : tile.first_row + len(tile.values)]
        yield replace(tile, values=tile.values * root_mN)
