"""Embeddings of audio by models that know nothing of the music model: baselines that every fingerprint must beat.

`table` lists them, `open_embedder` opens one, and each has a module of its own.
"""
