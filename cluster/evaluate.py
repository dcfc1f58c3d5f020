"""Put methods of attribution to the test on a ground-truth bank: a Ray task makes each kind of fingerprint."""

from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from rich.console import Console

from cluster.progress import show_steps
from cluster.session import ray_session
from lumina_ray.fingerprint.likelihood import Likelihood
from lumina_ray.methods import BY_VECTORS, METHODS
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.card import Card
from lumina_ray.truth.corpus import Audited
from lumina_ray.truth.evaluation_set import AGAINST_REFERENCE, JUDGED, EvaluationSet, evaluation_set
from lumina_ray.truth.false_positives import FalsePositives, false_positives
from lumina_ray.truth.fingerprints import (
    FingerprintKey,
    Fingerprints,
    make_fingerprints,
    model_of,
    required_fingerprints,
)
from lumina_ray.truth.floors import Floors, floor_set, required_floors
from lumina_ray.truth.membership import likelihoods, membership_rows, models_asked
from lumina_ray.truth.method_rows import MethodRow, method_rows
from lumina_ray.truth.power import Power, power
from lumina_ray.truth.queries import Split
from lumina_ray.truth.replayed import Replayed, replay_row
from lumina_ray.truth.stability import Stability, stability
from lumina_ray.vocabulary import Channel, Kind

_RETRIES = 3


def evaluate(
    bank: Bank,
    names: Sequence[str] = BY_VECTORS,
    split: Split = "test",
    console: Console | None = None,
    replayed: Replayed | None = None,
) -> Card:
    """Make the report card of some methods.

    Args:
        replayed: derivatives that the bank keeps: the row `replay`, which all fingerprints are held against.

    Raises:
        UsageError: there is no method of a name.
        ClusterError: there is no Ray to be had.
    """
    console = console or Console(stderr=True)
    required = required_fingerprints(names)
    of_floors = floor_set(bank, split)
    # Membership is no method's. It is measured where its references are wanted in any case.
    asked_of_songs = models_asked(bank) if set(names) & set(AGAINST_REFERENCE) else []

    def asked(kind: Kind | None) -> dict[Audited, EvaluationSet]:
        return {model: evaluation_set(bank, model, split, kind) for model in ("A", "B")}

    with ray_session():
        shared = ray.put(bank)
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)
        make, judge, find = remote(_fingerprints), remote(_judge), remote(_likelihoods)
        making = {
            (model, weights, kind): make.remote(shared, weights, kind, asked(kind)[model], False)
            for model, weights, kind in required
        }
        making_floors = {
            (model, weights, kind): make.remote(shared, weights, kind, of_floors, True)
            for model, weights, kind in required_floors(bank, names)
        }
        finding = {name: find.remote(shared, name, split) for name in asked_of_songs}
        made: dict[FingerprintKey, Fingerprints] = _results(making, "Fingerprints", console)
        kinds = [kind for model, weights, kind in required if (model, weights) == ("A", "A") and kind in JUDGED]
        judging = {kind: judge.remote(asked(kind)["A"], making["A", "A", kind]) for kind in kinds}
        made_floors: dict[FingerprintKey, Fingerprints] = _results(making_floors, "Floors", console)
        judged: dict[Kind, _Judged] = _results(judging, "Policies", console)
        found: dict[str, dict[int, Likelihood]] = _results(finding, "Membership", console)
    floors = Floors(bank, of_floors, made_floors)
    rows: list[MethodRow] = []
    with show_steps("Methods", len(names), console) as step:
        for name in names:
            rows += method_rows(bank, [name], asked(METHODS[name].kind), made, floors)
            step()
    replay, not_replayed = replay_row(bank, replayed, split) if replayed else (None, [])
    if replay is not None:
        rows.append(replay)
    return Card(
        split=split,
        rows=rows,
        false_positives={kind: alarms for kind, (alarms, _, _) in judged.items()},
        stability={kind: shares for kind, (_, shares, _) in judged.items()},
        power={kind: of_queries for kind, (_, _, of_queries) in judged.items()},
        membership=list(membership_rows(bank, split, found)) if found else [],
        left_out=floors.agreement.refusals() + not_replayed,
        queries=floors.agreement.diversity,
    )


def _fingerprints(bank: Bank, weights: str, kind: Kind, asked: EvaluationSet, stand_in: bool) -> Fingerprints:
    torch.set_num_threads(1)
    return make_fingerprints(bank, weights, kind, asked, stand_in=stand_in)


def _likelihoods(bank: Bank, weights: str, split: Split) -> dict[int, Likelihood]:
    torch.set_num_threads(1)
    return likelihoods(bank, model_of(bank, weights), weights, split)


_Judged = tuple[dict[Channel, list[FalsePositives]], dict[Channel, Stability], list[Power]]


def _judge(A: EvaluationSet, made: Fingerprints) -> _Judged:
    """Measure what policies do with one kind of fingerprint under model A."""
    torch.set_num_threads(1)
    n, end = len(A.songs), len(A.songs) + len(A.queries)
    catalog = {c: vectors_nD[: A.n_catalog] for c, vectors_nD in made.vectors.items()}
    controls = {c: vectors_nD[end:] for c, vectors_nD in made.vectors.items()}
    copies = {c: vectors_nD[[n + q for q in A.copies]] for c, vectors_nD in made.vectors.items()}
    originals = [A.songs.index(A.queries[q].recording) for q in A.copies]
    asked = {c: vectors_nD[n:end] for c, vectors_nD in made.vectors.items()}
    return (
        false_positives(catalog, controls),
        stability(catalog, controls, copies, made.chunk_vectors, originals),
        power(catalog, controls, asked, A.queries, A.songs[: A.n_catalog]),
    )


def _results(tasks: Mapping[Any, ray.ObjectRef], title: str, console: Console) -> dict[Any, Any]:
    """Wait for tasks and give what they return."""
    waiting = list(tasks.values())
    with show_steps(title, len(waiting), console) as step:
        while waiting:
            done, waiting = ray.wait(waiting)
            # Now, and not when all are done, if one of them raises.
            ray.get(done)
            step()
    return {name: ray.get(reference) for name, reference in tasks.items()}
