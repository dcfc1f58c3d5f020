"""The tracked weights, and the text under which gradients are taken. This module needs no torch."""

from typing import Literal, get_args

# The order in which statistics are concatenated.
TrackedTensor = Literal["self_in_proj", "self_out_proj", "cross_in_proj", "cross_out_proj", "linear1", "linear2"]
TRACKED_TENSORS: tuple[TrackedTensor, ...] = get_args(TrackedTensor)

# Teacher forcing happens under one fixed text. With no text there is nothing to attend to, the cross-attention
# gradients are exactly zero and a third of the `stats` vector is dead.
CONDITION_TEXT = "music"
