"""Compare exact derivatives of a bank's model A with the bank's trainings without songs.

    python -m benchmarks.replay --out FOLDER --queries 2

Model A is trained again and recorded in FOLDER; a record that does not end with the bank's stored weights is refused.
The mean loss of the queries of each kind, and the losses of some queries by themselves, are differentiated with respect
to the weight of each song, and compared with random tenths, random halves and single songs left out. The bank's tenths
are the gate (`lumina_ray.replay.gate`): 32 removals of the same run. Prints r, slope and rank of each after every pass,
and writes FOLDER/agreement.json and FOLDER/replayed.json, which a bank keeps beside itself. At the end the default
method is asked about the same queries: FOLDER/beside.json. Interrupted, it goes on.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from rich.console import Console

from benchmarks.codebooks import single_effects
from cluster.progress import show_steps
from lumina_ray.errors import NumericsError
from lumina_ray.files import atomic_path
from lumina_ray.methods import METHODS
from lumina_ray.replay.gate import MIN_R, SLOPES
from lumina_ray.replay.record import Record, parameter_names, record
from lumina_ray.replay.reverse import differentiate
from lumina_ray.truth.agreement import cluster
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.evaluation_set import EvaluationSet
from lumina_ray.truth.fingerprints import FingerprintKey, make_fingerprints
from lumina_ray.truth.measures import draw_again, lds_in_draws
from lumina_ray.truth.queries import Split
from lumina_ray.truth.replayed import (
    ASKED,
    REPLAYED_FILE,
    Replayable,
    Replayed,
    Scalar,
    as_group,
    hash_of_asked,
    removal_agreement,
    replayable,
    save_replayed,
    scalars_of,
)
from lumina_ray.truth.scores import BOTH, scores
from lumina_ray.vocabulary import DEFAULT_METHOD

GATE = "tenth-"
PREFIXES = (GATE, "half-", "single-")


def main(
    out: Annotated[Path, typer.Option(help="Folder for the record and what is computed.")],
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    split: Annotated[Literal["dev", "test"], typer.Option(help="Queries that are asked.")] = "test",
    queries: Annotated[int, typer.Option(min=0, help="Of each kind, by themselves; besides the mean of all.")] = 2,
    together: Annotated[int, typer.Option(min=1, help="Scalars in a pass: they share its replay.")] = 6,
) -> None:
    """Compare exact derivatives of a bank's model A with trainings without songs."""
    # The last bits of a training depend on the number of threads.
    torch.set_num_threads(1)
    console, loaded = Console(), load_bank(bank)
    (audited,) = (training for training in loaded.trainings if training.name == "A")
    opened = replayable(loaded.recipe, audited, loaded.codes, loaded.start)
    begin_s = time.process_time()
    with show_steps("Training", len(opened.training.steps), console) as step:
        recorded = record(opened.training, out, report=lambda *_: step())
    console.print(f"recorded in {time.process_time() - begin_s:.0f} s of a core")
    check_end(loaded, opened, recorded)
    chosen = list(scalars_of(loaded, split, queries))
    found: list[Scalar] = []
    for begin in range(0, len(chosen), together):
        scalars = chosen[begin : begin + together]
        begin_s = time.process_time()
        found += derive(loaded, recorded, scalars, out, console)
        console.print(f"{len(scalars)} scalars in {time.process_time() - begin_s:.0f} s of a core")
        replayed = Replayed(recorded.identity, hash_of_asked(loaded, found), opened.songs, tuple(found))
        save_replayed(replayed, out / REPLAYED_FILE)
        report(loaded, replayed, out, console)
    if queries:
        beside_default(loaded, replayed, split, out, console)


def check_end(bank: Bank, opened: Replayable, recorded: Record) -> None:
    """Refuse a record that ends with other weights than the bank's model A.

    Raises:
        NumericsError: it does.
    """
    own_P = recorded.state(len(opened.training.steps)).theta_P.half()
    stored = [bank.models["A"][name].flatten() for name in parameter_names(opened.training)]
    if not torch.equal(own_P, torch.cat(stored)):
        raise NumericsError(f"{recorded.folder}: the training ends with another model than the bank's A")


def derive(bank: Bank, recorded: Record, scalars: Sequence[Scalar], out: Path, console: Console) -> list[Scalar]:
    """Differentiate some scalars in one pass, or read what an earlier call found."""
    name = hash_of_asked(bank, scalars)[:12]
    path = out / "derivatives" / f"{recorded.identity[:12]}-{name}.npy"
    if not path.exists():
        groups = [as_group([bank.queries[q] for q in scalar.queries]) for scalar in scalars]
        with show_steps("Derivatives", len(recorded.training.steps), console) as step:
            made_QN = differentiate(recorded, groups, path.with_suffix(".unfinished"), lambda *_: step())
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, made_QN)
    return [replace(scalar, derivatives=tuple(of)) for scalar, of in zip(scalars, np.load(path).tolist(), strict=True)]


def report(bank: Bank, replayed: Replayed, out: Path, console: Console) -> None:
    """Print and write the agreement with each kind of removal, for each kind of query."""
    agreements: dict[str, dict[str, float]] = {}
    for prefix in PREFIXES:
        for what, scalars in {
            "all": list(replayed.scalars),
            **{f"{kind}, mean": replayed.of_kind(kind, alone=False) for kind in ASKED},
            **{f"{kind}, alone": replayed.of_kind(kind, alone=True) for kind in ASKED},
        }.items():
            if scalars and bank.of_kind(prefix):
                columns = [one.queries for one in scalars]
                agreement = removal_agreement(bank, prefix, columns, replayed.songs, replayed.derivatives(scalars))
                agreements[f"{prefix} {what}"] = asdict(agreement)
    for what, values in agreements.items():
        console.print(what, {name: round(value, 3) for name, value in values.items()})
    of_gate = agreements[f"{GATE} all"]
    passed = of_gate["r"] >= MIN_R and SLOPES[0] <= of_gate["slope"] <= SLOPES[1]
    console.print(f"gate: {'passed' if passed else 'failed'} (r at least {MIN_R}, slope {SLOPES[0]} to {SLOPES[1]})")
    with atomic_path(out / "agreement.json") as temporary:
        temporary.write_text(json.dumps(agreements, indent=1) + "\n")


def beside_default(bank: Bank, replayed: Replayed, split: Split, out: Path, console: Console) -> None:
    """Print and write LDS by each kind of removal of the queries that were asked alone, and the default's on the same.

    LDS is the mean over queries of the rank correlation over trainings; differences are paired in the same draws.
    """
    method = METHODS[DEFAULT_METHOD]
    assert method.kind is not None
    alone = {kind: [one.queries[0] for one in replayed.of_kind(kind, alone=True)] for kind in ASKED}
    columns = [q for of in alone.values() for q in of]
    asked = EvaluationSet("A", split, replayed.songs, len(replayed.songs), tuple(bank.queries[q] for q in columns), ())
    key: FingerprintKey = ("A", "A", method.kind)
    made = {key: make_fingerprints(bank, "A", method.kind, asked)}
    scores_QN = scores(bank, method, BOTH, asked, asked.n_catalog, made)
    effects_NQK, left_out = single_effects(bank)
    # What each song does alone, added up: the most that scores which add up can say of several songs.
    added_QN = effects_NQK.mean(axis=2)[[left_out.index(song) for song in replayed.songs]].T
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind, of_kind in alone.items():
        default_QN = scores_QN[[columns.index(q) for q in of_kind]]
        # Leaving out a song raises the loss by minus the derivative.
        replay_QN = -replayed.derivatives(replayed.of_kind(kind, alone=True))
        clusters = [cluster(bank.queries[q], q) for q in of_kind]
        for prefix in PREFIXES:
            rows = bank.of_kind(prefix)
            losses_RQ = bank.losses_RQK[np.ix_(rows, of_kind)].mean(axis=2, dtype=np.float64)
            masks_RN, draws = bank.masks(rows, list(replayed.songs)), draw_again(len(rows), clusters)
            scored = {"replay": replay_QN, DEFAULT_METHOD: default_QN, "single songs, added up": added_QN[of_kind]}
            judged = {name: lds_in_draws(of, masks_RN, losses_RQ, draws) for name, of in scored.items()}
            judged["replay is ahead"] = judged["replay"] - judged[DEFAULT_METHOD]
            found[f"{prefix} {kind}"] = {name: asdict(of.estimate) for name, of in judged.items()}
            console.print(f"{prefix} {kind}", {name: str(of.estimate) for name, of in judged.items()})
    with atomic_path(out / "beside.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
