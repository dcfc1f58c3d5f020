"""A ground-truth bank on disk: recordings, queries, models, and what retrained models think of the queries."""

import hashlib
import io
import json
import lzma
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lumina_ray.demo.songs import DemoSong
from lumina_ray.errors import StoreError
from lumina_ray.files import atomic_path
from lumina_ray.truth.corpus import Recording
from lumina_ray.truth.models import Start, TextParts, Weights, flat, unflat
from lumina_ray.truth.queries import Piece, Query
from lumina_ray.truth.recipe import Recipe, Training
from lumina_ray.truth.retrainings import Retrainings

SHIPPED = Path(__file__).parent / "shipped"
"""The small bank that comes with the software."""
MANIFEST_FILE = "bank.json"
BASE = "base"
"""Name of the model that all others of a bank start from."""
TEXT = "text"
"""Name under which the text encoder lies beside models."""
VERSION = 3
"""Version of the banks that this software builds and reads."""
_QUERY_FIELDS = ("kind", "model", "recording", "split", "alteration", "caption")


@dataclass(frozen=True)
class Bank(Retrainings):
    """Everything that a measure of attribution needs; nothing in it depends on a method.

    Attributes:
        recordings, codes: the corpus, and its codes, int64 `[K, T]` each, which models learn from.
        models: decoders: "base", which all others start from; those of whole catalogs, "A", "A-second" from another
            seed, "B", "reference" and more references; "A-early" and "B-early".
        queries: those that all models were asked about.
        extra_queries: those that need no losses: altered copies, and more that models A and B made up.
        trainings: of the models that the losses are of, whole catalogs first.
        losses_RQK: float32, in nats per code: of every query and codebook under every trained model.
        captions: of every recording.
        text: what models attend to text by.
        heard: which frames of each recording hold sound, bool `[T]`.
    """

    recipe: Recipe
    recordings: tuple[Recording, ...]
    codes: list[Tensor]
    queries: list[Query]
    extra_queries: list[Query]
    models: dict[str, Weights]
    trainings: list[Training]
    losses_RQK: np.ndarray
    captions: tuple[str, ...]
    text: TextParts
    heard: Sequence[Tensor]

    def learned(self, i: int) -> Piece:
        """A recording, by position in the corpus."""
        return Piece(self.codes[i], self.heard[i])

    @property
    def start(self) -> Start:
        """The common start of the bank's models."""
        return Start(self.models[BASE], self.text, self.captions)


def save_bank(bank: Bank, folder: Path) -> None:
    """Write a bank: a JSON manifest with checksums, and two compressed files that hold arrays and weights."""
    arrays: dict[str, np.ndarray] = {"losses": bank.losses_RQK}
    queries = [*bank.queries, *bank.extra_queries]
    arrays |= _packed("codes", bank.codes) | _packed("queries", [query.codes_KT for query in queries])
    # Most frames hold sound: bits of those that do not compress to nothing.
    arrays["heard"] = np.packbits(np.concatenate([heard_T.numpy() for heard_T in bank.heard]))
    arrays["queries_heard"] = np.packbits(np.concatenate([query.piece.heard_T.numpy() for query in queries]))
    files = {"arrays.npz.xz": _write(folder / "arrays.npz.xz", arrays)}
    files["weights.npz.xz"] = _write(
        folder / "weights.npz.xz", _differences(flat(bank.models | {TEXT: bank.text.weights}))
    )
    manifest = {
        "version": VERSION,
        "files": files,
        "recipe": asdict(bank.recipe),
        "recordings": [asdict(recording) for recording in bank.recordings],
        "queries": [{k: getattr(query, k) for k in _QUERY_FIELDS} for query in queries],
        "trainings": [asdict(training) for training in bank.trainings],
        "captions": bank.captions,
        "words": bank.text.words,
    }
    with atomic_path(folder / MANIFEST_FILE) as temporary:
        temporary.write_text(json.dumps(manifest))


def load_bank(folder: Path) -> Bank:
    """Read a bank.

    Raises:
        StoreError: there is none, it is damaged, or another version of this software made it.
    """
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder}: no ground-truth bank ({error}); `lumina truth build` makes one") from error
    if (version := manifest.get("version")) != VERSION:
        raise StoreError(
            f"{folder}: a bank of version {version}, this software reads {VERSION}; `lumina truth build` makes one"
        )
    arrays = _read(folder / "arrays.npz.xz", manifest["files"]["arrays.npz.xz"])
    weights = _read(folder / "weights.npz.xz", manifest["files"]["weights.npz.xz"])
    codes, of_queries = _unpacked("codes", arrays), _unpacked("queries", arrays)
    queries = [
        Query(**fields, codes_KT=codes_KT, heard_T=heard_T)
        for fields, codes_KT, heard_T in zip(
            manifest["queries"], of_queries, _unpacked_heard("queries_heard", arrays, of_queries), strict=True
        )
    ]
    models = unflat(_from_differences(weights))
    text = TextParts(tuple(manifest["words"]), models.pop(TEXT))
    n_asked = arrays["losses"].shape[1]
    recipe = manifest["recipe"] | {"checkpoints": tuple(manifest["recipe"]["checkpoints"])}
    return Bank(
        recipe=Recipe(**recipe),
        recordings=tuple(
            Recording(**fields | {"song": DemoSong(**fields["song"])}) for fields in manifest["recordings"]
        ),
        codes=codes,
        queries=queries[:n_asked],
        extra_queries=queries[n_asked:],
        models=models,
        trainings=[
            Training(**fields | {"songs": tuple(fields["songs"]), "removed": tuple(fields["removed"])})
            for fields in manifest["trainings"]
        ],
        losses_RQK=arrays["losses"],
        captions=tuple(manifest["captions"]),
        text=text,
        heard=_unpacked_heard("heard", arrays, codes),
    )


def _differences(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replace each model's weights by what the bits of its float16 numbers are more than the base model's, as uint16.

    The differences of a short training are small: they compress to two thirds of what the weights do, without loss.
    """
    return {name: array.view(np.uint16) - _bits_of_base(name, arrays) for name, array in arrays.items()}


def _from_differences(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: (array + _bits_of_base(name, arrays)).view(np.float16) for name, array in arrays.items()}


def _bits_of_base(name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    model, _, parameter = name.partition("/")
    base = arrays.get(f"{BASE}/{parameter}") if model != BASE else None
    return np.zeros_like(arrays[name], np.uint16) if base is None else base.view(np.uint16)


def _packed(name: str, codes: list[Tensor]) -> dict[str, np.ndarray]:
    # Whole rows one after another: a query that was cut out of a recording then costs next to nothing.
    flat = np.concatenate([codes_KT.numpy().astype(np.uint16).ravel() for codes_KT in codes])
    return {name: flat, f"{name}_shape": np.array([codes_KT.shape for codes_KT in codes], np.int32)}


def _unpacked(name: str, arrays: dict[str, np.ndarray]) -> list[Tensor]:
    shapes = arrays[f"{name}_shape"]
    pieces = np.split(arrays[name].astype(np.int64), np.cumsum(shapes.prod(axis=1))[:-1])
    return [torch.from_numpy(piece.reshape(shape)) for piece, shape in zip(pieces, shapes, strict=True)]


def _unpacked_heard(name: str, arrays: dict[str, np.ndarray], codes: list[Tensor]) -> list[Tensor]:
    lengths = [codes_KT.shape[1] for codes_KT in codes]
    bits = np.unpackbits(arrays[name], count=sum(lengths))
    return [torch.from_numpy(of.astype(bool)) for of in np.split(bits, np.cumsum(lengths)[:-1])]


def _write(path: Path, arrays: dict[str, np.ndarray]) -> str:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    data = lzma.compress(buffer.getvalue(), preset=6)
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _read(path: Path, sha256: str) -> dict[str, np.ndarray]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: missing ({error.strerror}); the bank is incomplete, fetch it again") from error
    if (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise StoreError(f"{path}: damaged, its hash is {found[:12]} and not {sha256[:12]}; fetch it again")
    with np.load(io.BytesIO(lzma.decompress(data))) as arrays:
        return {name: arrays[name] for name in arrays.files}
