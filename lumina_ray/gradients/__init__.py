"""From codes to gradients: teacher-forced loss, factors of the tracked weights' gradients, their tiles and moments."""

from lumina_ray.gradients.capture import WeightCall, capture, capture_heads, freeze
from lumina_ray.gradients.loss import chunk_losses, codebook_losses
from lumina_ray.gradients.moments import merge, moments
from lumina_ray.gradients.tiles import SongGradient, Tile, first_tile, gradient_tiles
from lumina_ray.gradients.two_sided import two_sided_projection

__all__ = [
    "SongGradient",
    "Tile",
    "WeightCall",
    "capture",
    "capture_heads",
    "chunk_losses",
    "codebook_losses",
    "first_tile",
    "freeze",
    "gradient_tiles",
    "merge",
    "moments",
    "two_sided_projection",
]
