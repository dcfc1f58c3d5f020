"""A ground-truth bank of small diffusion transformers on disk, and what it says of fingerprints.

    BANK/dit_bank.json   recipe, recordings, queries and trainings, and the sha256 of the other file
        /arrays.npz      latents, weights of the base model and of model A, and what every model thinks of every query

Models of halves of the catalog are not kept: what they think of the queries is all that is asked of them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lumina_ray.demo.songs import DemoSong
from lumina_ray.errors import StoreError
from lumina_ray.files import atomic_path, sha256_of
from lumina_ray.fingerprint import Fingerprinter, Specification
from lumina_ray.truth.agreement import cluster
from lumina_ray.truth.corpus import Audited, Recording, members
from lumina_ray.truth.dit_models import DitStart, Weights, new_model, with_weights
from lumina_ray.truth.measures import Resampled, draw_again, effective_queries, lds_in_draws
from lumina_ray.truth.models import flat, unflat
from lumina_ray.truth.packing import packed, unpacked
from lumina_ray.truth.queries import TRAINED_FRAMES, Piece, Query, Split
from lumina_ray.truth.recipe import Recipe, Training
from lumina_ray.truth.retrainings import Retrainings
from lumina_ray.truth.scores import BOTH, ScoredChannel, standardised
from lumina_ray.truth.unlearning import song_codes
from lumina_ray.vocabulary import CHANNELS, Channel, Kind, SongCodes

DIT_BANK_FILE = "dit_bank.json"
DIT_VERSION = 1
_ARRAYS_FILE = "arrays.npz"
_QUERY_FIELDS = ("kind", "model", "recording", "split", "caption")
BASE, TEXT = "base", "text"
WHOLE: Audited = "A"


@dataclass(frozen=True)
class DitBank(Retrainings):
    """A bank of diffusion transformers.

    Attributes:
        recipe: by which it was built.
        recordings: the corpus.
        learned: what models learn from, by position in the corpus.
        queries: those that all models were asked about.
        start: what all models start from.
        weights: of the audited model.
        trainings: of the models that the losses are of, the audited one first.
        losses_RQK: float32: of every query under every model; K is 1, the mean over rows of latents.
    """

    recipe: Recipe
    recordings: tuple[Recording, ...]
    learned: list[Piece]
    queries: list[Query]
    start: DitStart
    weights: Weights
    trainings: list[Training]
    losses_RQK: np.ndarray


def save_dit_bank(bank: DitBank, folder: Path) -> None:
    """Write a bank."""
    arrays = {"losses": bank.losses_RQK} | flat({BASE: bank.start.weights, TEXT: bank.start.text, WHOLE: bank.weights})
    queries = [query.piece for query in bank.queries]
    for name, pieces in (("learned", bank.learned), ("queries", queries)):
        arrays |= packed(name, pieces, np.float16)
    with atomic_path(folder / _ARRAYS_FILE) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    manifest = {
        "version": DIT_VERSION,
        "arrays_sha256": sha256_of(folder / _ARRAYS_FILE),
        "recipe": asdict(bank.recipe),
        "recordings": [asdict(recording) for recording in bank.recordings],
        "captions": bank.start.captions,
        "words": bank.start.words,
        "queries": [{name: getattr(query, name) for name in _QUERY_FIELDS} for query in bank.queries],
        "trainings": [asdict(training) for training in bank.trainings],
    }
    with atomic_path(folder / DIT_BANK_FILE) as temporary:
        temporary.write_text(json.dumps(manifest) + "\n", encoding="utf-8")


def load_dit_bank(folder: Path) -> DitBank:
    """Read a bank.

    Raises:
        StoreError: there is none, it is damaged, or another version of this software made it.
    """
    path = folder / DIT_BANK_FILE
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if (version := manifest.get("version")) != DIT_VERSION:
            raise StoreError(f"{path}: a bank of version {version}, this software reads {DIT_VERSION}; build it again")
        if sha256_of(folder / _ARRAYS_FILE) != manifest["arrays_sha256"]:
            raise StoreError(f"{folder / _ARRAYS_FILE}: damaged (its sha256 is another); fetch the bank again")
        with np.load(folder / _ARRAYS_FILE) as file:
            arrays = {name: file[name] for name in file.files}
        pieces = {name: unpacked(name, arrays, np.float32) for name in ("learned", "queries")}
        models = unflat({name: array for name, array in arrays.items() if name.split("/")[0] in (BASE, TEXT, WHOLE)})
        recipe = manifest["recipe"] | {"checkpoints": tuple(manifest["recipe"]["checkpoints"])}
        return DitBank(
            recipe=Recipe(**recipe),
            recordings=tuple(Recording(**of | {"song": DemoSong(**of["song"])}) for of in manifest["recordings"]),
            learned=pieces["learned"],
            queries=[
                Query(**fields, codes_KT=piece.codes_KT, heard_T=piece.heard_T)
                for fields, piece in zip(manifest["queries"], pieces["queries"], strict=True)
            ],
            start=DitStart(tuple(manifest["words"]), models[BASE], models[TEXT], tuple(manifest["captions"])),
            weights=models[WHOLE],
            trainings=[
                Training(of["name"], tuple(of["songs"]), of["seed"], tuple(of["removed"]))
                for of in manifest["trainings"]
            ],
            losses_RQK=arrays["losses"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, BadZipFile) as error:
        raise StoreError(f"{path}: cannot be read ({error}); `lumina truth build --family dit` makes a bank") from error


Describe = Callable[[Sequence[SongCodes]], dict[Channel, np.ndarray]]
"""Makes unit vectors of pieces: float32 `[n, D]` by channel."""


def agreement(
    bank: DitBank, kind: Kind, split: Split, weights: Weights | None = None
) -> dict[str, dict[ScoredChannel, Resampled]]:
    """Linear datamodeling scores of cosines of a kind of fingerprint, by kind of query and by channel, and together.

    Args:
        weights: of the model that fingerprints are made with; by default the audited one's.
    """
    model = with_weights(bank.recipe, bank.start, bank.weights if weights is None else weights)
    fingerprinter = Fingerprinter(model, Specification.for_model(model, kind))

    def described(pieces: Sequence[SongCodes]) -> dict[Channel, np.ndarray]:
        made = list(fingerprinter.many(pieces))
        return {c: np.stack([one.vectors[c] for one in made]) for c in CHANNELS}

    return agreement_of(bank, split, described)


def agreement_of(bank: DitBank, split: Split, describe: Describe) -> dict[str, dict[ScoredChannel, Resampled]]:
    """Linear datamodeling scores of cosines of descriptions; truth is the losses of the models of random halves."""
    frame_rate_hz = with_weights(bank.recipe, bank.start, bank.weights).frame_rate_hz
    songs = members(bank.recordings, WHOLE)
    of_songs = describe([_song(bank.learned[i], frame_rate_hz) for i in songs])
    rows, out = bank.of_kind("half"), dict[str, dict[ScoredChannel, Resampled]]()
    masks_RN = bank.masks(rows, songs)
    for of in dict.fromkeys(query.kind for query in bank.queries):
        asked = [query for query in bank.queries if (query.kind, query.split) == (of, split)]
        if not asked:
            continue
        of_queries = describe([song_codes(query.codes_KT, frame_rate_hz, query.heard_T) for query in asked])
        losses_RQ = bank.losses_RQK[np.ix_(rows, bank.columns(asked))].mean(axis=2, dtype=np.float64)
        draws = draw_again(len(rows), [cluster(query, place) for place, query in enumerate(asked)])
        scores: dict[ScoredChannel, np.ndarray] = {c: of_queries[c] @ of_songs[c].T for c in CHANNELS}
        scores[BOTH] = np.sum([standardised(scores_QN) for scores_QN in scores.values()], axis=0)
        out[of] = {c: lds_in_draws(scores_QN, masks_RN, losses_RQ, draws) for c, scores_QN in scores.items()}
    return out


def untrained(bank: DitBank) -> Weights:
    """Random weights of the audited model's size."""
    return {
        name: tensor.half()
        for name, tensor in new_model(bank.recipe, bank.start.words).transformer.state_dict().items()
    }


def diversity(bank: DitBank, split: Split) -> dict[str, float]:
    """How many queries without anything in common those of each kind are worth, by the losses of random halves."""
    rows, out = bank.of_kind("half"), dict[str, float]()
    for of in dict.fromkeys(query.kind for query in bank.queries):
        asked = [query for query in bank.queries if (query.kind, query.split) == (of, split)]
        if asked:
            out[of] = effective_queries(bank.losses_RQK[np.ix_(rows, bank.columns(asked))].mean(axis=2))
    return out


def _song(piece: Piece, frame_rate_hz: float) -> SongCodes:
    beginning = piece.beginning(TRAINED_FRAMES)
    return song_codes(beginning.codes_KT, frame_rate_hz, beginning.heard_T)
