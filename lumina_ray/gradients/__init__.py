"""Codes → teacher-forced loss → gradients of the tracked tensors."""

from lumina_ray.gradients.backward import chunk_gradients, freeze_all_but
from lumina_ray.gradients.loss import chunk_losses, head_gradients

__all__ = ["chunk_gradients", "chunk_losses", "freeze_all_but", "head_gradients"]
