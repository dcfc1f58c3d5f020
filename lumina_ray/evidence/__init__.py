"""Evidence of what two recordings share, from their sound alone: notes (`composition`) and sound (`sound`).

No model is run, so nothing here says where a model's output comes from: "shares notes" and "shares sound" are all that
it says.
"""

from lumina_ray.evidence.vectors import EVIDENCE, Evidence, evidence_vectors, song_vectors

__all__ = ["EVIDENCE", "Evidence", "evidence_vectors", "song_vectors"]
