"""A report for machines (JSON), for a terminal (table) and for people (one HTML page)."""

import lazy_loader

# Loaded on first use: pictures take matplotlib, which takes seconds.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
