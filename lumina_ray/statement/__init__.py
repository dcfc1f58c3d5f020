"""Statements: many attribution reports added up, with a line for each rights-holder. Needs neither Ray nor torch."""

import lazy_loader

# Loaded on first use: the endpoint and its client need the schema alone.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
