"""Train models without the songs that a method names for a query. Resumable: what is on disk is not redone."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import ray
from rich.console import Console

from cluster.session import ray_session
from cluster.truth import run_missing, train_and_ask, training_device
from lumina_ray.files import atomic_path
from lumina_ray.methods import METHODS
from lumina_ray.truth.ablation import ABLATED, Ablation, ablations, removals
from lumina_ray.truth.bank import Bank
from lumina_ray.truth.evaluation_set import evaluation_set
from lumina_ray.truth.fingerprints import AllFingerprints, make_fingerprints, required_fingerprints
from lumina_ray.truth.queries import Split
from lumina_ray.truth.recipe import Training
from lumina_ray.truth.scores import scores, standardised
from lumina_ray.vocabulary import DEFAULT_METHOD

SIZES = (1, 3, 5)
QUERIES = RANDOM = 8


def ablate(
    bank: Bank,
    out: Path,
    method: str = DEFAULT_METHOD,
    sizes: Sequence[int] = SIZES,
    n_queries: int = QUERIES,
    n_random: int = RANDOM,
    split: Split = "test",
    console: Console | None = None,
) -> list[Ablation]:
    """Remove the best songs by both channels' scores together, for as many queries of each kind in `ABLATED`.

    Raises:
        UsageError: no such method, or impossible numbers.
        ClusterError: there is no Ray to be had.
    """
    console = console or Console(stderr=True)
    asked = evaluation_set(bank, "A", split)
    rows = []
    for kind in ABLATED:
        of_kind = asked.of_kind(kind)
        # Shuffled before they are cut: with a larger number the former queries stay.
        random.Random(f"ablation {kind}").shuffle(of_kind)
        rows += of_kind[: n_queries // len(ABLATED)]
    with console.status("Fingerprints"):
        made: AllFingerprints = {
            (model, weights, kind): make_fingerprints(bank, weights, kind, asked)
            for model, weights, kind in required_fingerprints([method])
            if model == "A"
        }
        scores_QN = np.sum(
            [
                standardised(scores(bank, METHODS[method], channel, asked, asked.n_catalog, made)[rows])
                for channel in METHODS[method].channels
            ],
            axis=0,
        )
    wanted = removals(bank, scores_QN, bank.columns([asked.queries[row] for row in rows]), sizes, n_random)
    paths = [out.resolve() / "parts" / _file_name(bank, removal.training) for removal in wanted]
    with ray_session():
        codes, start = ray.put(bank.codes), ray.put(bank.start)
        queries = ray.put([(query.codes_KT, query.caption) for query in bank.queries])
        device = training_device()
        run_missing("Trained without songs", train_and_ask, [
            (path, (bank.recipe, removal.training, codes, queries, start, device))
            for path, removal in zip(paths, wanted, strict=True)
        ], console)  # fmt: skip
    losses_RQ = np.stack([np.load(path)["losses"].mean(axis=1, dtype=np.float64) for path in paths])
    found = ablations(bank, wanted, losses_RQ)
    with atomic_path(out / "ablation.json") as temporary:
        temporary.write_text(
            json.dumps({"method": method, "split": split, "ablations": [asdict(one) for one in found]}, indent=1)
        )
    return found


def _file_name(bank: Bank, training: Training) -> str:
    # Another method names other songs for the same query, and another bank has other models and queries.
    identity = repr((training.songs, bank.recipe, len(bank.queries)))
    return f"{training.name}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.npz"
