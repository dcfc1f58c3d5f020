"""The report card: what every method of attribution is worth, on a bank that none of them had a part in.

Shapes: N songs, Q queries, R retrained models, W works.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lumina_ray.calibration import ALPHA
from lumina_ray.calibration.use import use_p_values
from lumina_ray.errors import UsageError
from lumina_ray.fingerprint import CHANNELS, Channel, Fingerprinter, Kind, SongCodes, Specification
from lumina_ray.fingerprint.catalog_statistics import catalog_statistics
from lumina_ray.methods import METHODS, Features, Method, attribute, cache
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import CATALOGS, Audited, members
from lumina_ray.truth.false_positives import FalsePositives, false_positives
from lumina_ray.truth.measures import Estimate, bootstrap, lds, mean, precedence
from lumina_ray.truth.models import learning_rates, with_weights
from lumina_ray.truth.queries import QUERY_FRAMES, TRAINED_FRAMES, Query, Split, losses
from lumina_ray.truth.stability import Stability, stability

# Whose scores a reference model's are taken off, too.
_AGAINST_REFERENCE = ("influence",)
JUDGED: tuple[Kind, ...] = ("influence", "stats", "jl")
"""Kinds of fingerprints that policies are offered on."""
_UNCHANGED_BUT_FOR_CODING = "mp3"
# The kinds that losses are needed with, which take a pass of their own.
_SHOW_USE = {METHODS[name].kind for name in _AGAINST_REFERENCE}
_WITH_LOSSES = _SHOW_USE | {method.kind for method in METHODS.values() if method.residual}
RELATIVE = " − reference"
FIT = "log-likelihood"


@dataclass(frozen=True)
class Asked:
    """What the scores of one audited model are asked for.

    Attributes:
        model: the catalog that it was trained on.
        songs: positions in the corpus: the catalog's, then twins and cells of the other catalog.
        n_catalog: how many of them are the catalog's.
        queries: of one split.
        controls: positions in the corpus of music that no model knows.
    """

    model: Audited
    songs: tuple[int, ...]
    n_catalog: int
    queries: tuple[Query, ...]
    controls: tuple[int, ...]


@dataclass(frozen=True)
class Fingerprints:
    """Of one kind under one set of weights: n = songs, then queries, then controls, per channel.

    Attributes:
        vectors: float32 `[n, D]` of unit length.
        norms: float64 `[n]`.
        probabilities: float64 `[n]`, `exp(−loss)`; None for kinds that nobody asks for them with.
        seconds_per_song: of processor time, for a song of 15 s, both channels.
        chunk_vectors: of each altered copy that is a whole song and only coded again, `[n, D]` each; of kinds that are
            `JUDGED`.
    """

    vectors: dict[Channel, np.ndarray]
    norms: dict[Channel, np.ndarray]
    probabilities: np.ndarray | None
    blocks: dict[Channel, int]
    seconds_per_song: float
    chunk_vectors: dict[Channel, list[np.ndarray]]


@dataclass(frozen=True)
class Row:
    """One method in one channel.

    Attributes:
        measures: by name; see `MEASURES`.
        found: by alteration: how often a song is the first of its whole catalog for an altered copy of it.
        numbers: that are kept of a song.
        seconds_per_song: of one core, to make them.
    """

    method: str
    channel: Channel
    measures: dict[str, Estimate]
    found: dict[str, Estimate]
    numbers: int
    seconds_per_song: float


@dataclass(frozen=True)
class Alarms:
    """False positives of one policy, at one size of catalog, with one kind of fingerprint in one channel."""

    kind: Kind
    channel: Channel
    found: FalsePositives


@dataclass(frozen=True)
class Steadiness:
    """Of shares by one kind of fingerprint in one channel."""

    kind: Kind
    channel: Channel
    found: Stability


@dataclass(frozen=True)
class Use:
    """Can one number a song, whatever the query, tell whether a model was trained on it?

    Attributes:
        signal: how likely the model finds the song, `FIT`; with `RELATIVE`, beyond what the reference finds.
        twins: of a work's two recordings, how often the one that was trained on has more of it.
        trained, unheard: how often songs that the model was trained on, and twins and cells that it was not, have
            p ≤ 0.05 by the bank's controls (`lumina_ray.calibration.use`); over works and controls, both drawn again.
    """

    signal: str
    twins: Estimate
    trained: Estimate
    unheard: Estimate


@dataclass(frozen=True)
class Card:
    """Everything that is measured."""

    split: Split
    rows: list[Row]
    alarms: list[Alarms]
    steadiness: list[Steadiness]
    use: list[Use]


Made = Mapping[tuple[Audited, str, Kind], Fingerprints]
"""By audited model, whose weights, and kind."""

MEASURES = {
    "lds_excerpt": "agreement with retraining on unheard excerpts of catalog songs: linear datamodeling score",
    "lds_generated": "the same on music that the model made up",
    "creators": "agreement with retraining without each creator's songs, on unheard excerpts of catalog songs",
    "twins_prompted": "how often the recording that was trained on is preferred to its twin, by how the model goes on "
    "from either; 0.5 is a coin",
    "twins_generated": "the same, by music that the model made up from nothing",
    "same_score": "how often, for an unheard recording, a song with the same score and other instruments is ahead of "
    "one that shares neither",
    "same_instruments": "the same for a song with the same instruments and another score",
}


def asked_of(bank: Bank, model: Audited, split: Split, kind: Kind | None = "influence") -> Asked:
    """Everything that one model's scores are needed for.

    Args:
        kind: of fingerprints: only those that policies are offered on are asked about copies and controls, which are a
            third of the work; and only of those that show use are both models asked about controls.
    """
    catalog = members(bank.recordings, model)
    other = [i for i, recording in enumerate(bank.recordings) if recording.side not in ("", model)]
    queries = [query for query in bank.extra_queries if query.model == model]
    if model == "A":
        # Only of A are there models of halves.
        queries += [query for query in bank.queries if query.kind in ("excerpt", "generated", "unheard")]
    queries = [query for query in queries if query.split == split]
    controls: list[int] = []
    if kind in (JUDGED if model == "A" else _SHOW_USE):
        controls = [i for i, recording in enumerate(bank.recordings) if recording.role == "control"]
    if kind not in JUDGED:
        queries = [query for query in queries if query.kind != "altered"]
    return Asked(model, (*catalog, *other), len(catalog), tuple(queries), tuple(controls))


def fingerprints(bank: Bank, weights: str, kind: Kind, asked: Asked) -> Fingerprints:
    """Fingerprint songs and queries; the part of the work that takes a model.

    Args:
        weights: which of the bank's models.
    """
    model = with_weights(bank.recipe, bank.models[weights])
    if kind == "influence":
        learned = next(members(bank.recordings, name) for name in CATALOGS if weights.startswith(name))
        catalog = [_song_codes(bank.codes[i][:, :TRAINED_FRAMES].numpy(), model.frame_rate_hz) for i in learned]
        catalog_statistics(model, lambda: catalog, range(len(catalog)))
    specification = Specification.for_model(model, kind)
    fingerprinter = Fingerprinter(model, specification)
    songs, controls = ([bank.codes[i][:, :TRAINED_FRAMES] for i in of] for of in (asked.songs, asked.controls))
    pieces = [*songs, *(query.codes_KT for query in asked.queries), *controls]
    begin_s = time.process_time()
    made = list(fingerprinter.many([_song_codes(codes_KT.numpy(), model.frame_rate_hz) for codes_KT in pieces]))
    seconds = time.process_time() - begin_s
    n_frames = sum(codes_KT.shape[1] for codes_KT in pieces)
    copies = [_song_codes(asked.queries[q].codes_KT.numpy(), model.frame_rate_hz) for q in _copies(asked)]
    in_chunks = list(fingerprinter.many(copies, per_chunk=True)) if kind in JUDGED else []
    return Fingerprints(
        vectors={c: np.stack([one.vectors[c] for one in made]) for c in CHANNELS},
        norms={c: np.array([one.norms[c] for one in made]) for c in CHANNELS},
        probabilities=np.exp(-losses(model, pieces).mean(axis=1, dtype=np.float64)) if kind in _WITH_LOSSES else None,
        blocks={c: specification.blocks(c) for c in CHANNELS},
        seconds_per_song=seconds / n_frames * TRAINED_FRAMES,
        chunk_vectors={c: [one.chunk_vectors[c] for one in in_chunks] for c in CHANNELS},
    )


def _copies(asked: Asked) -> list[int]:
    return [q for q, query in enumerate(asked.queries) if query.alteration == _UNCHANGED_BUT_FOR_CODING]


def needs(names: Sequence[str]) -> list[tuple[Audited, str, Kind]]:
    """Fingerprints that some methods' rows take: audited model, whose weights, kind.

    Raises:
        UsageError: there is no method of a name.
    """
    if unknown := [name for name in names if name not in METHODS]:
        raise UsageError(f"no method {unknown[0]!r}; there are {', '.join(METHODS)}")
    wanted: dict[tuple[Audited, str, Kind], None] = {}
    models: tuple[Audited, ...] = ("A", "B")
    for method in (METHODS[name] for name in names):
        if method.kind is not None:
            for model in models:
                relative = ("reference",) if method.name in _AGAINST_REFERENCE else ()
                for weights in (*_weights(method, model), *relative):
                    wanted[model, weights, method.kind] = None
    return list(wanted)


def report_card(
    bank: Bank,
    names: Sequence[str],
    asked: Mapping[Audited, Asked],
    made: Made,
) -> Iterator[Row]:
    """Every method's rows.

    Args:
        asked: by audited model.
        made: what `needs` lists.
    """
    for name in names:
        method = METHODS[name]
        for channel in method.channels:
            yield _row(bank, method, channel, asked, made, relative=False)
            if name in _AGAINST_REFERENCE:
                yield _row(bank, method, channel, asked, made, relative=True)


def false_alarms(A: Asked, made: Fingerprints, kind: Kind) -> Iterator[Alarms]:
    """How often policies call a song influential for a control, by fingerprints of one kind under model A."""
    for channel, vectors_nD in made.vectors.items():
        controls_CD = vectors_nD[len(A.songs) + len(A.queries) :]
        for found in false_positives(vectors_nD[: A.n_catalog], controls_CD):
            yield Alarms(kind, channel, found)


def steadiness(A: Asked, made: Fingerprints, kind: Kind) -> Iterator[Steadiness]:
    """How far shares of re-encoded songs move, by fingerprints of one kind under model A."""
    copies = _copies(A)
    originals = [A.songs.index(A.queries[q].recording) for q in copies]
    for channel, vectors_nD in made.vectors.items():
        found = stability(
            vectors_nD[: A.n_catalog],
            vectors_nD[len(A.songs) + len(A.queries) :],
            vectors_nD[[len(A.songs) + q for q in copies]],
            made.chunk_vectors[channel],
            originals,
        )
        yield Steadiness(kind, channel, found)


def evidence_of_use(bank: Bank, asked: Mapping[Audited, Asked], made: Made, kind: Kind) -> Iterator[Use]:
    """What losses alone say: a model that learned from a song finds it more likely than one that never saw it.

    A reference takes off how likely the song is to begin with (Watson et al. 2022, arXiv:2111.08440).

    Args:
        kind: any whose fingerprints were made under the audited models and the reference.
    """
    for relative in (False, True):
        twins: dict[str, list[float]] = {}
        fits: dict[Audited, np.ndarray] = {}
        for of in asked.values():
            fit = _fit(made[of.model, of.model, kind])
            if relative:
                fit = fit - _fit(made[of.model, "reference", kind])
            fits[of.model] = fit
            for work, trained, unheard in _pairs(bank, of):
                twins.setdefault(work, []).append(precedence(fit[[trained]], fit[[unheard]]))
        yield Use(
            FIT + RELATIVE * relative,
            twins=mean(np.array([np.mean(wins) for wins in twins.values()])),
            trained=_significant(bank, asked, fits, trained=True),
            unheard=_significant(bank, asked, fits, trained=False),
        )


def _fit(of: Fingerprints) -> np.ndarray:
    if of.probabilities is None:
        raise ValueError("these fingerprints were made without losses")
    return np.log(of.probabilities)


def _significant(
    bank: Bank, asked: Mapping[Audited, Asked], fits: Mapping[Audited, np.ndarray], *, trained: bool
) -> Estimate:
    """How often songs have p ≤ `ALPHA` by the controls, over the works of the queries' split and both models."""
    split = {bank.recordings[q.recording].work for q in asked["A"].queries if q.kind in ("excerpt", "unheard")}
    songs: dict[str, list[tuple[Audited, int]]] = {}
    for of in asked.values():
        for place, i in enumerate(of.songs):
            if (place < of.n_catalog) == trained and bank.recordings[i].work in split:
                songs.setdefault(bank.recordings[i].work, []).append((of.model, place))
    works = list(songs.values())
    controls = {model: fits[model][-len(of.controls) :] for model, of in asked.items()}

    def rate(chosen_W: np.ndarray, drawn_C: np.ndarray) -> float:
        found = []
        for model, fit in fits.items():
            places = [place for w in chosen_W for whose, place in works[w] if whose == model]
            found.append(use_p_values(fit[places], controls[model][drawn_C]) <= ALPHA)
        return float(np.concatenate(found).mean())

    n_controls = len(asked["A"].controls)

    def draw(rng: np.random.Generator) -> float:
        return rate(rng.integers(len(works), size=len(works)), rng.integers(n_controls, size=n_controls))

    return bootstrap(rate(np.arange(len(works)), np.arange(n_controls)), draw)


def scores(
    bank: Bank, method: Method, channel: Channel, of: Asked, n_songs: int, made: Made, *, relative: bool = False
) -> np.ndarray:
    """Of the first songs that are asked for, by a method: float64 `[Q, n_songs]`.

    Args:
        made: at least what `needs` lists for the method.
        relative: take off the scores under the reference model.
    """
    audited = _scores(bank, method, channel, of, n_songs, made, _weights(method, of.model))
    if not relative:
        return audited
    return standardised(audited) - standardised(_scores(bank, method, channel, of, n_songs, made, ("reference",)))


def _scores(
    bank: Bank, method: Method, channel: Channel, of: Asked, n_songs: int, made: Made, weights: Sequence[str]
) -> np.ndarray:
    if method.kind is None:
        return np.random.default_rng(0).standard_normal((len(of.queries), n_songs))
    parts = [made[of.model, name, method.kind] for name in weights]
    N, Q = len(of.songs), len(of.queries)
    rates = learning_rates(bank.recipe, of.n_catalog)
    songs, queries = (_features(parts, channel, where, rates) for where in (slice(n_songs), slice(N, N + Q)))
    return attribute(cache(method, songs), queries)


def _row(
    bank: Bank,
    method: Method,
    channel: Channel,
    asked: Mapping[Audited, Asked],
    made: Made,
    relative: bool,
) -> Row:
    A = asked["A"]
    of_catalog = scores(bank, method, channel, A, A.n_catalog, made, relative=relative)
    measures = _agreement(bank, A, of_catalog)
    of_all = {
        of.model: scores(bank, method, channel, of, len(of.songs), made, relative=relative) for of in asked.values()
    }
    measures |= _twins(bank, asked, of_all) | _cells(bank, A, of_catalog)
    size, seconds = 0, 0.0
    if method.kind is not None:
        used = [made["A", name, method.kind] for name in (*_weights(method, "A"), *(("reference",) * relative))]
        size = sum(one.vectors[channel].shape[1] for one in used)
        seconds = sum(one.seconds_per_song for one in used)
    return Row(method.name + RELATIVE * relative, channel, measures, _found(A, of_catalog), size, seconds)


def _weights(method: Method, model: str) -> tuple[str, ...]:
    return (model,) if method.checkpoints == "last" else (f"{model}-early", model)


def _features(parts: Sequence[Fingerprints], channel: Channel, where: slice, rates: np.ndarray) -> Features:
    probabilities = [part.probabilities for part in parts if part.probabilities is not None]
    return Features(
        np.stack([part.vectors[channel][where] for part in parts]),
        np.stack([part.norms[channel][where] for part in parts]),
        parts[0].blocks[channel],
        rates[-len(parts) :],
        np.stack([p[where] for p in probabilities]) if probabilities else None,
    )


def standardised(scores_QN: np.ndarray) -> np.ndarray:
    """Of each query, on the scale of its own scores: two models' lengths and levels mean nothing to each other."""
    spread_Q1 = scores_QN.std(axis=1, keepdims=True)
    return (scores_QN - scores_QN.mean(axis=1, keepdims=True)) / np.where(spread_Q1 > 0, spread_Q1, 1)


def _agreement(bank: Bank, A: Asked, scores_QN: np.ndarray) -> dict[str, Estimate]:
    position = {id(query): i for i, query in enumerate(bank.queries)}
    out = {}
    for name, kind, trainings in (
        ("lds_excerpt", "excerpt", "half"),
        ("lds_generated", "generated", "half"),
        ("creators", "excerpt", "without"),
    ):
        rows = bank.of_kind(trainings)
        masks_RN = bank.masks(rows, list(A.songs[: A.n_catalog]))
        which = [q for q, query in enumerate(A.queries) if query.kind == kind]
        columns = [position[id(A.queries[q])] for q in which]
        losses_RQ = bank.losses_RQK[np.ix_(rows, columns)].mean(axis=2, dtype=np.float64)
        out[name] = lds(scores_QN[which], masks_RN, losses_RQ)
    return out


def _twins(bank: Bank, asked: Mapping[Audited, Asked], scores: Mapping[Audited, np.ndarray]) -> dict[str, Estimate]:
    """Both audited models are asked: each work has one recording that A knows, and one that B knows."""
    out = {}
    for kind in ("prompted", "generated"):
        preferred: dict[str, list[float]] = {}
        for model, of in asked.items():
            for work, trained, unheard in _pairs(bank, of):
                asking = [
                    q
                    for q, query in enumerate(of.queries)
                    if query.kind == kind and (query.recording < 0 or bank.recordings[query.recording].work == work)
                ]
                if asking:
                    ahead = scores[model][asking, trained] - scores[model][asking, unheard]
                    preferred.setdefault(work, []).append(precedence(ahead, np.zeros(1)))
        out[f"twins_{kind}"] = mean(np.array([np.mean(wins) for wins in preferred.values()]))
    return out


def _pairs(bank: Bank, of: Asked) -> Iterator[tuple[str, int, int]]:
    """Of every twin work of the queries' split: its name, and where among the songs are the trained and the unheard."""
    split = {bank.recordings[q.recording].work for q in of.queries if q.kind == "prompted"}
    places: dict[str, list[int]] = {}
    for place, i in enumerate(of.songs):
        if bank.recordings[i].role == "twin" and bank.recordings[i].work in split:
            places.setdefault(bank.recordings[i].work, []).append(place)
    # The catalog comes first.
    for work, (trained, unheard) in places.items():
        yield work, trained, unheard


def _cells(bank: Bank, A: Asked, scores_QN: np.ndarray) -> dict[str, Estimate]:
    cells = [place for place in range(A.n_catalog) if bank.recordings[A.songs[place]].role == "cell"]
    ahead: dict[str, list[float]] = {"same_score": [], "same_instruments": []}
    for q, query in enumerate(A.queries):
        if query.kind != "unheard" or bank.recordings[query.recording].role != "cell":
            continue
        own = bank.recordings[query.recording]
        others = [(place, bank.recordings[A.songs[place]]) for place in cells]
        same_score = [p for p, other in others if other.work == own.work]
        same_sound = [p for p, other in others if other.variant == own.variant]
        neither = [p for p, other in others if other.work != own.work and other.variant != own.variant]
        ahead["same_score"].append(precedence(scores_QN[q, same_score], scores_QN[q, neither]))
        ahead["same_instruments"].append(precedence(scores_QN[q, same_sound], scores_QN[q, neither]))
    return {name: mean(np.array(values)) for name, values in ahead.items()}


def _found(A: Asked, scores_QN: np.ndarray) -> dict[str, Estimate]:
    first_Q = np.array(A.songs)[scores_QN.argmax(axis=1)]
    of: dict[str, list[float]] = {}
    for query, first in zip(A.queries, first_Q, strict=True):
        if query.kind == "altered":
            of.setdefault(query.alteration, []).append(float(query.recording == first))
    return {alteration: mean(np.array(values)) for alteration, values in of.items()}


def _song_codes(codes_KT: np.ndarray, frame_rate_hz: float) -> SongCodes:
    starts = range(0, codes_KT.shape[1], QUERY_FRAMES)
    chunks = tuple(codes_KT[:, start : start + QUERY_FRAMES].astype(np.uint16) for start in starts)
    return SongCodes(chunks, tuple(start / frame_rate_hz for start in starts))
