"""Codes → teacher-forced loss → the factors of the tracked weights' gradients → their tiles and moments."""

from lumina_ray.gradients.capture import Use, capture, capture_heads, freeze
from lumina_ray.gradients.loss import chunk_losses
from lumina_ray.gradients.moments import merge, moments
from lumina_ray.gradients.tiles import SongGradient, Tile, gradient_tiles

__all__ = [
    "SongGradient",
    "Tile",
    "Use",
    "capture",
    "capture_heads",
    "chunk_losses",
    "freeze",
    "gradient_tiles",
    "merge",
    "moments",
]
