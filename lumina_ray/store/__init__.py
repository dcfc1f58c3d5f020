"""Fingerprints on disk: Parquet, one row a song, with the run that made them."""

import lazy_loader

# Its names are in __init__.pyi, and are loaded when they are used: torch, which comes with some, takes seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
