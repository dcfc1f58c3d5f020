"""Codes → gradients → one unit vector per channel, under a specification that travels with it."""

import lazy_loader

# Its names are in __init__.pyi, and are loaded when they are used: torch, which comes with some, takes seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
