"""Kinds of fingerprints, for tests that run through all of them."""

from lumina_ray.fingerprint.kinds import KINDS

BY_MODEL = tuple(name for name, row in KINDS.items() if row.needs != "codec")
"""Kinds without a pass of the codec, which takes long, or of an embedder, whose weights are not at hand here.

`test_embeddings.py` tests the others.
"""
