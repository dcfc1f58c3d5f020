"""One small interface over MusicGen, with an adapter for transformers and one for audiocraft."""

import lazy_loader

# The names are in __init__.pyi, and are loaded when they are used: torch, which comes with some, takes seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
