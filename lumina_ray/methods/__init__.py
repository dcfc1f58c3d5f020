"""Methods of attribution. Every method has two verbs: `cache` a catalog, then `attribute` queries."""

from lumina_ray.methods.features import Features
from lumina_ray.methods.kernel import RIDGE, kernel_scores, nonnegative_kernel_scores
from lumina_ray.methods.method import BY_VECTORS, METHODS, Kernel, Method
from lumina_ray.methods.preconditioner import (
    DAMPING,
    precondition,
    precondition_by_own_moment,
    ridge_precondition,
    second_moment,
)
from lumina_ray.methods.score import Cached, attribute, cache

__all__ = [
    "BY_VECTORS",
    "DAMPING",
    "METHODS",
    "RIDGE",
    "Cached",
    "Features",
    "Kernel",
    "Method",
    "attribute",
    "cache",
    "kernel_scores",
    "nonnegative_kernel_scores",
    "precondition",
    "precondition_by_own_moment",
    "ridge_precondition",
    "second_moment",
]
