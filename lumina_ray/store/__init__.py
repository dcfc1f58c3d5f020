"""Fingerprints on disk: Parquet, one row a song, with the run that made them."""

import lazy_loader

# The names are in __init__.pyi, and are loaded when they are used: some of them import torch, which takes seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
