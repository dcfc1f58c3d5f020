"""Which extraction makes which kind of fingerprint."""

from collections.abc import Sequence

from torch import nn

from lumina_ray.fingerprint.channels import Extraction, ProjectedGradients, ProjectedHeadGradients, Statistics
from lumina_ray.fingerprint.sketches import FactGrass, LoGra
from lumina_ray.fingerprint.specification import Channel, Specification
from lumina_ray.fingerprint.tokens import TokenHistograms
from lumina_ray.model.interface import MusicModel
from lumina_ray.model.tracked import TRACKED_TENSORS, TrackedTensor

_ATTENTION: tuple[TrackedTensor, ...] = ("self_in_proj", "self_out_proj")


def make_extraction(model: MusicModel, specification: Specification) -> Extraction:
    """The extraction that a specification asks for."""
    layers = specification.layers
    match specification.kind:
        case "stats":
            return Statistics(model, specification)
        case "jl":
            # As published: self-attention (P) and the output heads (M) (LUMINA v7).
            of_channel: dict[Channel, Sequence[nn.Parameter]] = {
                c: _weights(model, layers[c], _ATTENTION) if c == "P" else model.heads() for c in layers
            }
            return ProjectedGradients(model, specification, of_channel)
        case "gradient":
            of_channel = {c: _weights(model, layers[c], TRACKED_TENSORS) for c in layers}
            return ProjectedGradients(model, specification, of_channel)
        case "influence" | "head-gradient":
            return ProjectedHeadGradients(model, specification)
        case "logra":
            return LoGra(model, specification)
        case "factgrass":
            return FactGrass(model, specification)
        case "tokens":
            return TokenHistograms(model, specification)


def _weights(model: MusicModel, layers: list[int], tensors: tuple[TrackedTensor, ...]) -> list[nn.Parameter]:
    return [weight for layer in layers for tensor in tensors for weight in model.tracked(layer, tensor)]
