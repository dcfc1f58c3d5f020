"""A file in, a report out: what `lumina attribute` does, and the model that an index asks for."""

from pathlib import Path

from lumina_ray.attribution.attribute import DEFAULT_POLICY, DEFAULT_TOP_K, attribute
from lumina_ray.attribution.schema import Report
from lumina_ray.audio import Audio, load_audio
from lumina_ray.errors import ModelError, SpecificationMismatch
from lumina_ray.fingerprint import Fingerprinter, QueryFingerprint, Specification, fingerprint_query
from lumina_ray.index import Snapshot, load_snapshot
from lumina_ray.model import BUNDLED, find_model, open_model
from lumina_ray.model.files import AUDIOCRAFT_PREFIX, weights_sha256
from lumina_ray.storage import Location


def attribute_audio(
    audio: Location,
    index: Location,
    *,
    model: str | None = None,
    policy: str = DEFAULT_POLICY,
    top_k: int = DEFAULT_TOP_K,
    device: str = "cpu",
) -> Report:
    """Attribute an audio file to the songs of an index.

    Args:
        index: an index folder, of which the newest snapshot is taken, or one snapshot.
        model: the model that made the index, where it does not lie where it lay then.

    Raises:
        AudioError: the file cannot be used.
        StoreError: no index there, or a damaged one.
        ModelError: the index's model is not at hand.
        SpecificationMismatch: `model` is another one.
        UsageError: an unknown policy.
    """
    snapshot = load_snapshot(index)
    query = fingerprint_decoded(load_audio(audio), str(audio), snapshot, model=model, device=device)
    return attribute(query, snapshot, policy, top_k)


def fingerprint_decoded(
    audio: Audio, name: str, snapshot: Snapshot, *, model: str | None, device: str
) -> QueryFingerprint:
    """Fingerprint audio as a snapshot's songs were; `name` is what errors call it. Raises as `attribute_audio`."""
    specification = Specification.from_dict(snapshot.manifest["specification"])
    opened = open_model(matching_model(snapshot, model), device, specification.torch_dtype)
    return fingerprint_query(Fingerprinter(opened, specification), audio, name)


def matching_model(snapshot: Snapshot, asked: str | None = None) -> str:
    """The name of the model that made a snapshot, checked by the hash of its weights without loading them.

    Args:
        asked: where the model lies now; by default where it lay when the catalog was fingerprinted, or, if that is
            gone, a bundled model with the same weights.

    Raises:
        ModelError: the model is not at hand.
        SpecificationMismatch: the model found has other weights.
    """
    wanted = snapshot.manifest["specification"]["weights_sha256"]
    name = asked or snapshot.manifest["model"]
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
