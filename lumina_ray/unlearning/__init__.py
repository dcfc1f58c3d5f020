"""Attribution by forgetting: which songs does a model predict worse once it has forgotten a piece of music?"""

import lazy_loader

# The names are in __init__.pyi, and are loaded when they are used: torch, which comes with most, takes seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
