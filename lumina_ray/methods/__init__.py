"""Methods of attribution, all behind two verbs: `cache` a catalog, `attribute` queries."""

from lumina_ray.methods.features import Features
from lumina_ray.methods.kernel import RIDGE, kernel_scores, nonnegative_kernel_scores
from lumina_ray.methods.method import METHODS, Kernel, Method
from lumina_ray.methods.preconditioner import DAMPING, fold, fold_among_themselves, ridge_fold, second_moment
from lumina_ray.methods.score import Cached, attribute, cache

__all__ = [
    "DAMPING",
    "METHODS",
    "RIDGE",
    "Cached",
    "Features",
    "Kernel",
    "Method",
    "attribute",
    "cache",
    "fold",
    "fold_among_themselves",
    "kernel_scores",
    "nonnegative_kernel_scores",
    "ridge_fold",
    "second_moment",
]
