"""The model that an index asks for, which fingerprints queries as the index's songs were."""

from pathlib import Path

from lumina_ray.errors import ModelError, SpecificationMismatch
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.index import Snapshot
from lumina_ray.model import BUNDLED, find_model, open_model
from lumina_ray.model.files import AUDIOCRAFT_PREFIX, weights_sha256


def open_fingerprinter(snapshot: Snapshot, model: str | None, device: str) -> Fingerprinter:
    """Load the model that made a snapshot, to fingerprint queries as its songs were.

    Args:
        model: where it lies now, see `matching_model`.

    Raises:
        ModelError: the model is not at hand.
        SpecificationMismatch: the model found has other weights.
    """
    specification = Specification.from_dict(snapshot.record.specification)
    opened = open_model(matching_model(snapshot, model), device, specification.torch_dtype)
    return Fingerprinter(opened, specification)


def matching_model(snapshot: Snapshot, asked: str | None = None) -> str:
    """The name of the model that made a snapshot, checked by the hash of its weights without loading them.

    Args:
        asked: where the model lies now; by default where it lay when the catalog was fingerprinted, or, if that is
            gone, a bundled model with the same weights.

    Raises:
        ModelError: the model is not at hand.
        SpecificationMismatch: the model found has other weights.
    """
    wanted = snapshot.record.specification["weights_sha256"]
    name = asked or snapshot.record.model
    try:
        folder = find_model(name.removeprefix(AUDIOCRAFT_PREFIX))
    except ModelError:
        if asked:
            raise
        same = [bundled for bundled in BUNDLED if weights_sha256(find_model(bundled)) == wanted]
        if not same:
            raise
        return same[0]
    if (found := weights_sha256(folder)) != wanted:
        raise SpecificationMismatch(
            f"index {snapshot.version} was made with weights {wanted[:12]}, model {name!r} has {found[:12]}; pass the "
            "model that the index was made with"
        )
    # Workers and replicas have another working directory.
    return str(folder) if Path(name).expanduser().is_dir() else name
