"""Evidence of what two recordings share, from their sound alone: notes (`composition`) and sound (`sound`).

No model is run, so nothing here says where a model's output comes from: "shares notes" and "shares sound" are all that
it says.
"""

from lumina_ray.evidence.search import Match, NoiseBand, find, noise_band
from lumina_ray.evidence.table import EvidenceTable, read_table, write_table
from lumina_ray.evidence.vectors import evidence_vectors, query_vectors
from lumina_ray.vocabulary import EVIDENCE, Evidence

__all__ = [
    "EVIDENCE",
    "Evidence",
    "EvidenceTable",
    "Match",
    "NoiseBand",
    "evidence_vectors",
    "find",
    "noise_band",
    "query_vectors",
    "read_table",
    "write_table",
]
