"""Diagnostics of a matrix of scores: can it be trusted, and do the songs that it names share musical features?

numpy alone, without a model and without retraining. See docs/diagnostics.md.
"""

from lumina_ray.diagnostics.diagnosis import Diagnosis, Settings, diagnose
from lumina_ray.diagnostics.feature_tables import FeatureTable, read_features, read_genres
from lumina_ray.diagnostics.reliability import Diagnostics, Reliability, ScoreSums, chance, judge, sum_parts
from lumina_ray.diagnostics.score_tables import ScoreMatrix, read_scores

__all__ = [
    "Diagnosis",
    "Diagnostics",
    "FeatureTable",
    "Reliability",
    "ScoreMatrix",
    "ScoreSums",
    "Settings",
    "chance",
    "diagnose",
    "judge",
    "read_features",
    "read_genres",
    "read_scores",
    "sum_parts",
]
