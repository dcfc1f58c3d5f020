"""Which training songs shaped a piece of generated music, by how much, and how sure we are."""

__version__ = "0.1.0"
