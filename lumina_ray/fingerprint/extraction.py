"""Finds the extraction that makes a kind of fingerprint, and opens it on a model."""

from pkgutil import resolve_name

from lumina_ray.fingerprint.channels import Extraction
from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.fingerprint.specification import Specification
from lumina_ray.model.interface import AttributableModel


def make_extraction(model: AttributableModel, specification: Specification) -> Extraction:
    """The extraction for a specification's kind, on one model.

    Raises:
        UsageError: there is no such kind for what the model writes music down in.
        ModelError: the model's music statistics do not fit the specification.
    """
    return resolve_name(find_kind(specification.kind, specification.representation).extraction)(model, specification)
