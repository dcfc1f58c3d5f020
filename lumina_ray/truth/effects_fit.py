"""The fit of effects on a bank: chosen on dev, checked on test, and kept as a file that says what it holds for."""

import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
from pydantic import TypeAdapter, ValidationError

from lumina_ray.calibration.effects import FIT_VERSION, STRICT, catalog_sha256
from lumina_ray.errors import StoreError, UsageError
from lumina_ray.files import atomic_path, read_file
from lumina_ray.methods import METHODS
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.corpus import Audited, members
from lumina_ray.truth.effects import MIN_MODELS, EffectMap, Measured, Retrained, fit_map, retraining_noise, z_scores
from lumina_ray.truth.effects_check import BestCheck, EffectCheck, check_best, check_halves, check_removals
from lumina_ray.truth.evaluation_set import EvaluationSet
from lumina_ray.truth.fingerprints import AllFingerprints, make_fingerprints, required_fingerprints
from lumina_ray.truth.queries import TRAINED_FRAMES, Query, QueryKind, Split
from lumina_ray.truth.retrainings import Retrainings
from lumina_ray.truth.scores import control_scores, scores
from lumina_ray.truth.unlearning import song_codes
from lumina_ray.vocabulary import Channel

KINDS: tuple[QueryKind, ...] = ("excerpt", "generated", "captioned", "guided", "prompted", "continued")
"""Kinds of queries that have effects: music beside what a model learned, and what it made up."""
_MODEL: Audited = "A"
_FITTED_ON: Split = "dev"
_CHECKED_ON: Split = "test"
_HALVES, _TENTHS, _SINGLES = "half", "tenth", "single"
_REMOVALS = (_TENTHS, _SINGLES, "without-creator", "without-class")
_AGAIN = "again"


@dataclass(frozen=True)
class KindEffects:
    """Effects on one kind of query.

    Attributes:
        fitted: on split dev.
        checks: on split test, one for each group of retrained models that the bank has.
        best: on split test, where the bank leaves every song out once.
    """

    __pydantic_config__ = STRICT

    fitted: EffectMap
    checks: tuple[EffectCheck, ...]
    best: tuple[BestCheck, ...]


@dataclass(frozen=True)
class Effects:
    """Worth of one method's scores in nats, for one method, model and catalog alone.

    Attributes:
        method: whose scores they are.
        model: the bank's audited model.
        weights_sha256, specification_sha256: its weights, and how it made fingerprints.
        catalog_sha256: the music of its catalog, by `lumina_ray.calibration.effects.catalog_sha256`.
        n_layers, dim, heads: of its decoder.
        n_songs: of its catalog.
        n_controls: that z is told by.
        kinds: by kind of query.
        left_out: for each other kind, why it has none.
    """

    __pydantic_config__ = STRICT

    version: Literal[4]
    method: str
    model: Audited
    weights_sha256: str
    specification_sha256: str
    catalog_sha256: str
    n_layers: int
    dim: int
    heads: int
    n_songs: int
    n_controls: int
    kinds: dict[QueryKind, KindEffects]
    left_out: dict[QueryKind, str]


def fit_effects(bank: Bank, method: str) -> Effects:
    """Fit effects of every kind of query that a bank has losses of; makes fingerprints, with model A.

    Raises:
        UsageError: there is no such method, it looks at no music, there are too few controls, or no kind can be fitted.
        NumericsError: scores that cannot be right.
    """
    required = [key for key in required_fingerprints([method]) if key[0] == _MODEL and key[1] != "reference"]
    splits: tuple[Split, Split] = (_FITTED_ON, _CHECKED_ON)
    asked = {split: effect_set(bank, split) for split in splits}
    left_out: dict[QueryKind, str] = {}
    for kind in KINDS:
        if missing := [split for split in splits if not asked[split].of_kind(kind)]:
            left_out[kind] = f"the bank has no losses of this kind on {' and '.join(missing)}"
    _check_any(left_out)
    z = {}
    for split, of in asked.items():
        made = {key: make_fingerprints(bank, key[1], key[2], of) for key in required}
        z[split] = z_of(bank, method, of, made)
        first = made[required[0]]
    kinds = fit_kinds(bank, asked, z, left_out)
    recipe = bank.recipe
    return Effects(
        version=FIT_VERSION,
        method=method,
        model=_MODEL,
        weights_sha256=first.weights_sha256,
        specification_sha256=first.specification_sha256,
        catalog_sha256=_catalog_sha256(bank),
        n_layers=recipe.n_layers,
        dim=recipe.dim,
        heads=recipe.heads,
        n_songs=asked[_FITTED_ON].n_catalog,
        n_controls=len(asked[_FITTED_ON].controls),
        kinds=kinds,
        left_out=left_out,
    )


def effect_set(bank: Bank, split: Split) -> EvaluationSet:
    """The catalog's songs, the queries of a split that have effects, and controls, whatever the method."""
    queries = tuple(
        query for query in bank.queries if query.model == _MODEL and query.split == split and query.kind in KINDS
    )
    catalog = members(bank.recordings, _MODEL)
    controls = tuple(i for i, recording in enumerate(bank.recordings) if recording.role == "control")
    return EvaluationSet(_MODEL, split, tuple(catalog), len(catalog), queries, controls)


def z_of(bank: Bank, method: str, asked: EvaluationSet, made: AllFingerprints) -> dict[Channel, np.ndarray]:
    """`z_scores` of every query, `[Q, N]` for each of a method's channels.

    Raises:
        UsageError: the method looks at no music, or there are too few controls.
        NumericsError: scores that cannot be right.
    """
    of = METHODS[method]
    return {
        channel: z_scores(
            scores(bank, of, channel, asked, asked.n_catalog, made), control_scores(bank, of, channel, asked, made)
        )
        for channel in of.channels
    }


def fit_kinds(
    bank: Retrainings,
    asked: dict[Split, EvaluationSet],
    z: dict[Split, dict[Channel, np.ndarray]],
    left_out: dict[QueryKind, str],
) -> dict[QueryKind, KindEffects]:
    """Fit every kind of query that is not left out yet, or note why it cannot be.

    Args:
        asked, z: as in `fit_kind`.
        left_out: kinds that have no effects, and why; it gets those that cannot be fitted.

    Raises:
        UsageError: no kind can be fitted.
        NumericsError: see `fit_kind`.
    """
    kinds: dict[QueryKind, KindEffects] = {}
    for kind in KINDS:
        if kind not in left_out:
            try:
                kinds[kind] = fit_kind(bank, kind, asked, z)
            except UsageError as error:
                left_out[kind] = str(error)
    _check_any(left_out)
    return kinds


def fit_kind(
    bank: Retrainings,
    kind: QueryKind,
    asked: dict[Split, EvaluationSet],
    z: dict[Split, dict[Channel, np.ndarray]],
) -> KindEffects:
    """Fit one kind of query on dev and check it on test.

    Args:
        asked, z: of both splits, from `effect_set` and `z_of`.

    Raises:
        UsageError: too few models, queries or repeated trainings, or scores that do not go with losses.
        NumericsError: no score of a channel is above the controls' mean.
    """
    at = {split: of.of_kind(kind) for split, of in asked.items()}
    z_of_kind = {split: {c: z_QN[at[split]] for c, z_QN in z[split].items()} for split in at}
    queries = {split: [asked[split].queries[q] for q in places] for split, places in at.items()}
    halves, tenths, singles = (bank.of_kind(name) for name in (_HALVES, _TENTHS, _SINGLES))
    songs = list(asked[_FITTED_ON].songs[: asked[_FITTED_ON].n_catalog])
    chosen, judged = queries[_FITTED_ON], queries[_CHECKED_ON]
    noise = _Noise(_differences(bank, chosen))
    of_halves, of_tenths, of_singles = (
        Measured(_retrained(bank, rows, songs, chosen), noise.of(name))
        for name, rows in ((_HALVES, halves), (_TENTHS, tenths), (_SINGLES, singles))
    )
    fewest = of_singles if len(singles) >= MIN_MODELS else of_tenths
    fitted = fit_map(z_of_kind[_FITTED_ON], of_halves, of_tenths, fewest)
    z_judged, groups = z_of_kind[_CHECKED_ON], [_group(bank, query) for query in judged]
    checks = [check_halves(fitted, z_judged, _retrained(bank, halves, songs, judged), groups, noise.of(_HALVES))]
    whole = [training.name for training in bank.trainings].index(_MODEL)
    whole_Q = _losses(bank, [whole], judged)[0]
    best: tuple[BestCheck, ...] = ()
    for name in _REMOVALS:
        # One model alone differs from no other.
        if len(rows := bank.of_kind(name)) < 2:
            continue
        models, of_group = _retrained(bank, rows, songs, judged), noise.of(name if name == _SINGLES else _TENTHS)
        checks.append(check_removals(fitted, name, z_judged, models, groups, whole_Q, of_group))
        if name == _SINGLES and len(rows) == len(songs):
            left_out_R = (~models.kept_RN).argmax(axis=1)
            best = check_best(fitted, z_judged, (models.losses_RQ - whole_Q)[np.argsort(left_out_R)].T, of_group)
    return KindEffects(fitted, tuple(checks), best)


@dataclass(frozen=True)
class _Noise:
    """Noise of retraining: the less is left out, the less two seeds differ in what it costs.

    Attributes:
        differences: by group of trainings, as `retraining_noise` takes them.
    """

    differences: dict[Hashable, np.ndarray]

    def of(self, group: str) -> float:
        """Give the noise of one group, or of all together where too few of it were trained again."""
        own = self.differences.get(group, np.zeros((0, 0)))
        return retraining_noise({group: own} if len(own) > 1 else self.differences)


def save_effects(effects: Effects, path: Path) -> None:
    """Write effects as JSON."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(asdict(effects), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_effects(path: Path) -> Effects:
    """Read effects.

    Raises:
        StoreError: the file is missing, damaged, or of another version.
    """
    try:
        found = json.loads(read_file(path))
        text = json.dumps(found, allow_nan=False)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: no effects ({error}); `lumina effects fit` makes them") from error
    version = found.get("version") if isinstance(found, dict) else None
    if version != FIT_VERSION:
        raise StoreError(f"{path}: effects of version {version}, this software reads {FIT_VERSION}; fit them again")
    try:
        # As JSON: lists are tuples there.
        return TypeAdapter(Effects).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise StoreError(f"{path}: {where}: {first['msg']}; fit them again") from error


def sentences(effects: Effects) -> Iterator[str]:
    """Say it for people."""
    for kind, one in effects.kinds.items():
        fitted, b, scatter = one.fitted, one.fitted.b, one.fitted.scatter
        yield (
            f"{kind}: b {b.value:.4f} [{b.low:.4f}, {b.high:.4f}] nats; scatter of a song {scatter.song:.2f}, of a "
            f"query {scatter.query:.2f}, hidden {scatter.hidden:.5f} nats; another seed {fitted.noise:.4f} nats; by "
            f"{fitted.n_models} models and {fitted.n_queries} queries on {_FITTED_ON}; where half of the catalog is "
            f"missing, b is {fitted.half_b.value:.4f}"
        )
        for check in one.checks:
            yield (
                f"  {check.removals}, {check.n_models} models and {check.n_queries} queries on {_CHECKED_ON}: slope "
                f"{check.slope}, R² {check.r2} of {check.reachable_r2:.3f}, intervals hold {check.coverage}; scores of "
                f"another query: slope {check.placebo_slope}, R² {check.placebo_r2}"
            )
            if check.mean_actual is not None:
                yield f"    mean rise predicted {check.mean_predicted:.4f} nats, actual {check.mean_actual}"
        for of in one.best:
            yield (
                f"  the {of.n_songs} with the largest effects, each alone: predicted {of.predicted:.4f} nats, actual "
                f"{of.actual}, intervals hold {of.coverage}"
            )
    for kind, reason in effects.left_out.items():
        yield f"{kind}: left out: {reason}"


def _check_any(left_out: dict[QueryKind, str]) -> None:
    if len(left_out) == len(KINDS):
        reasons = "; ".join(f"{kind}: {reason}" for kind, reason in left_out.items())
        raise UsageError(f"the bank has no kind of query that effects can be fitted for: {reasons}")


def _catalog_sha256(bank: Bank) -> str:
    """Hash what a bank's audited model was trained on, as the catalog of an index is hashed."""
    # Of the codes alone, so at whatever rate.
    of = (song_codes(bank.codes[i][:, :TRAINED_FRAMES], 1.0) for i in members(bank.recordings, _MODEL))
    return catalog_sha256(song.sha256 for song in of)


def _retrained(bank: Retrainings, rows: list[int], songs: list[int], queries: Sequence[Query]) -> Retrained:
    return Retrained(bank.masks(rows, songs), _losses(bank, rows, queries))


def _losses(bank: Retrainings, rows: list[int], queries: Sequence[Query]) -> np.ndarray:
    return bank.losses_RQK[np.ix_(rows, bank.columns(queries))].mean(axis=2, dtype=np.float64)


def _differences(bank: Retrainings, queries: Sequence[Query]) -> dict[Hashable, np.ndarray]:
    """Losses of models that were trained again minus those of the first, by group of trainings."""
    again = set(bank.of_kind(_AGAIN))
    first = {training.songs: row for row, training in enumerate(bank.trainings) if row not in again}
    out: dict[Hashable, list[np.ndarray]] = {}
    for row in sorted(again):
        of = first.get(bank.trainings[row].songs)
        if of is not None:
            name = bank.trainings[of].name.rpartition("-")[0]
            out.setdefault(name, []).append(np.subtract(*_losses(bank, [row, of], queries)))
    return {name: np.stack(rows) for name, rows in out.items()}


def _group(bank: Retrainings, query: Query) -> Hashable:
    """Name what a query shares with others: a work or a caption; of free pieces, nothing."""
    if query.recording >= 0:
        return bank.recordings[query.recording].work
    return cast(Hashable, query.caption or id(query))
