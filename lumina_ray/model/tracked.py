"""The tracked weights, and the text under which gradients are taken. This module needs no torch."""

from typing import Literal

from lumina_ray.vocabulary import RepresentationName

TrackedTensor = Literal[
    "self_in_proj", "self_out_proj", "cross_in_proj", "cross_q", "cross_kv", "cross_out_proj", "linear1", "linear2"
]
TRACKED_TENSORS: tuple[TrackedTensor, ...] = (
    "self_in_proj", "self_out_proj", "cross_in_proj", "cross_out_proj", "linear1", "linear2",
)  # fmt: skip
"""Tensors of a MusicGen's layer, in the order in which statistics are concatenated."""

ROLES: dict[RepresentationName, tuple[TrackedTensor, ...]] = {
    "codes": TRACKED_TENSORS,
    # Conditions may have another width than the music, so that queries and keys are no rows of one matrix.
    "latents": ("self_in_proj", "self_out_proj", "cross_q", "cross_kv", "cross_out_proj", "linear1", "linear2"),
}
"""Tensors of a layer, by what the model writes music down in."""

ZERO_MEAN: dict[RepresentationName, frozenset[TrackedTensor]] = {
    # These tensors write into the residual stream. The gradient there sums to zero over features, because every path
    # to the loss goes through a layer norm. So the mean of these tensors' gradients is zero by construction.
    "codes": frozenset({"self_out_proj", "cross_out_proj", "linear2"}),
    # A diffusion transformer's output is made of the residual stream without a norm.
    "latents": frozenset(),
}
"""Tensors whose gradients have mean zero by construction."""

# Teacher forcing happens under one fixed text. With no text there is nothing to attend to, the cross-attention
# gradients are exactly zero and a third of the `stats` vector is dead.
CONDITION_TEXT = "music"
