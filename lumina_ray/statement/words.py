"""Names that a statement and whoever asks for one share."""

from typing import Literal

By = Literal["owner", "creator", "song"]
"""What a statement has a line for."""

Kind = Literal["named", "contested", "unnamed"]
"""Kinds of lines: see `lumina_ray.statement.parties.Party`."""
