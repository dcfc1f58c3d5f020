"""A ground-truth bank of an operator's own model and catalog on disk.

    BANK/own_bank.json   recipe, songs, queries and trainings, and the sha256 of the other file
        /arrays.npz      codes of the music, and what every model thinks of every query
        /model/          the model of the whole catalog, in the transformers format, with what is measured on it

Models of parts of the catalog are not kept: what they think of the queries is all that is asked of them.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lumina_ray.errors import StoreError
from lumina_ray.files import atomic_path, sha256_of
from lumina_ray.truth.own_music import OwnSong
from lumina_ray.truth.own_recipe import OwnRecipe
from lumina_ray.truth.packing import packed, unpacked
from lumina_ray.truth.queries import Piece, Query
from lumina_ray.truth.recipe import Training
from lumina_ray.truth.retrainings import Retrainings

OWN_BANK_FILE = "own_bank.json"
MODEL_FOLDER = "model"
OWN_VERSION = 1
_ARRAYS_FILE = "arrays.npz"
_QUERY_FIELDS = ("kind", "model", "recording", "split", "caption")


@dataclass(frozen=True)
class OwnBank(Retrainings):
    """A bank of an operator's own model and catalog.

    Attributes:
        base: name of the model that all others start from.
        base_sha256: hash of its weights.
        catalog_sha256: hash of the catalog's whole songs, by `lumina_ray.calibration.effects.catalog_sha256`.
        model: folder of the model of the whole catalog.
        recordings: the catalog's songs, by number.
        learned: what models learned of each.
        controls: music that is no part of the catalog.
        queries: those that all models were asked about.
        trainings: of the models that the losses are of: the base model, which learned no song, the model of the whole
            catalog, "A", and those of parts of it.
        losses_RQK: float32, in nats per code: of every query and codebook under every model.
    """

    recipe: OwnRecipe
    base: str
    base_sha256: str
    catalog_sha256: str
    model: Path
    recordings: tuple[OwnSong, ...]
    learned: list[Piece]
    controls: list[Piece]
    queries: list[Query]
    trainings: list[Training]
    losses_RQK: np.ndarray

    def loss_of(self, name: str, kind: str) -> float:
        """Mean loss of queries of a kind under a model, in nats per code."""
        row = [training.name for training in self.trainings].index(name)
        return float(self.losses_RQK[row, [q for q, query in enumerate(self.queries) if query.kind == kind]].mean())


def save_own_bank(bank: OwnBank, folder: Path) -> None:
    """Write a bank, whose model lies in the folder already."""
    queries = [query.piece for query in bank.queries]
    arrays = {"losses": bank.losses_RQK}
    for name, pieces in (("learned", bank.learned), ("controls", bank.controls), ("queries", queries)):
        arrays |= packed(name, pieces, np.uint16)
    with atomic_path(folder / _ARRAYS_FILE) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    manifest = {
        "version": OWN_VERSION,
        "arrays_sha256": sha256_of(folder / _ARRAYS_FILE),
        "recipe": asdict(bank.recipe),
        "base": bank.base,
        "base_sha256": bank.base_sha256,
        "catalog_sha256": bank.catalog_sha256,
        "songs": [asdict(song) for song in bank.recordings],
        "queries": [{name: getattr(query, name) for name in _QUERY_FIELDS} for query in bank.queries],
        "trainings": [asdict(training) for training in bank.trainings],
    }
    with atomic_path(folder / OWN_BANK_FILE) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def load_own_bank(folder: Path) -> OwnBank:
    """Read a bank; its model is not opened.

    Raises:
        StoreError: there is none, it is damaged, or another version of this software made it.
    """
    path = folder / OWN_BANK_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if (version := manifest.get("version")) != OWN_VERSION:
            raise StoreError(f"{path}: a bank of version {version}, this software reads {OWN_VERSION}; build it again")
        if sha256_of(folder / _ARRAYS_FILE) != manifest["arrays_sha256"]:
            raise StoreError(f"{folder / _ARRAYS_FILE}: damaged (its sha256 is another); fetch the bank again")
        with np.load(folder / _ARRAYS_FILE) as arrays:
            pieces = {name: unpacked(name, arrays, np.int64) for name in ("learned", "controls", "queries")}
            losses_RQK = arrays["losses"]
        return OwnBank(
            recipe=OwnRecipe(**manifest["recipe"]),
            base=manifest["base"],
            base_sha256=manifest["base_sha256"],
            catalog_sha256=manifest["catalog_sha256"],
            model=folder / MODEL_FOLDER,
            recordings=tuple(OwnSong(**song) for song in manifest["songs"]),
            learned=pieces["learned"],
            controls=pieces["controls"],
            queries=[
                Query(**fields, codes_KT=piece.codes_KT, heard_T=piece.heard_T)
                for fields, piece in zip(manifest["queries"], pieces["queries"], strict=True)
            ],
            trainings=[
                Training(fields["name"], tuple(fields["songs"]), fields["seed"], tuple(fields["removed"]))
                for fields in manifest["trainings"]
            ],
            losses_RQK=losses_RQK,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise StoreError(f"{path}: cannot be read ({error}); `lumina truth build --base` makes a bank") from error
