"""Train models without the songs that a method names for a query. Resumable: what is on disk is not redone.

lumina truth ablate --out OUT
ray job submit --working-dir . -- python -m cluster.ablation --out OUT
"""

import hashlib
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import ray
import typer
from rich.console import Console

from cluster.session import ray_session
from cluster.truth import retrain, run_missing, training_device
from lumina_ray.catalog.files import atomic_path
from lumina_ray.errors import LuminaError
from lumina_ray.methods import METHODS
from lumina_ray.truth.ablation import Ablation, ablations, removals, sentence
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.card import Made, asked_of, fingerprints, needs, scores, standardised
from lumina_ray.truth.queries import Split
from lumina_ray.truth.recipe import Training

SIZES = (1, 3, 5)
QUERIES = RANDOM = 8


def ablate(
    bank: Bank,
    out: Path,
    method: str = "influence",
    sizes: Sequence[int] = SIZES,
    n_queries: int = QUERIES,
    n_random: int = RANDOM,
    split: Split = "test",
    console: Console | None = None,
) -> list[Ablation]:
    """Remove the best songs of excerpts and of generated pieces, half each, by both channels' scores together.

    Raises:
        UsageError: no such method, or impossible numbers.
        ClusterError: there is no Ray to be had.
    """
    console = console or Console(stderr=True)
    asked = asked_of(bank, "A", split)
    position = {id(query): i for i, query in enumerate(bank.queries)}
    rows = []
    for kind in ("excerpt", "generated"):
        of_kind = [q for q, query in enumerate(asked.queries) if query.kind == kind]
        # So that more queries are those of before and more.
        random.Random(f"ablation {kind}").shuffle(of_kind)
        rows += of_kind[: n_queries // 2]
    with console.status("Fingerprints"):
        made: Made = {
            (of, name, kind): fingerprints(bank, name, kind, asked) for of, name, kind in needs([method]) if of == "A"
        }
        scores_QN = np.sum(
            [
                standardised(scores(bank, METHODS[method], channel, asked, asked.n_catalog, made)[rows])
                for channel in METHODS[method].channels
            ],
            axis=0,
        )
    wanted = removals(bank, scores_QN, [position[id(asked.queries[row])] for row in rows], sizes, n_random)
    paths = [out.resolve() / "parts" / _file_name(bank, removal.training) for removal in wanted]
    with ray_session():
        codes, queries = ray.put(bank.codes), ray.put([query.codes_KT for query in bank.queries])
        device = training_device()
        run_missing("Trained without songs", retrain, [
            (path, (bank.recipe, removal.training, codes, queries, device))
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


def main(
    out: Annotated[Path, typer.Option(help="Folder for ablation.json; an interrupted run goes on there.")],
    bank: Annotated[Path, typer.Option(help="Folder of a ground-truth bank.")] = SHIPPED,
    method: Annotated[str, typer.Option(help="Whose best songs are left out (`lumina methods`).")] = "influence",
    top: Annotated[list[int] | None, typer.Option(help="Songs to leave out; may be given several times.")] = None,
) -> None:
    """Train models without the songs that a method names for a query."""
    try:
        found = ablate(load_bank(bank), out, method, top or SIZES)
    except LuminaError as error:
        typer.echo(f"cluster.ablation: {error}", err=True)
        sys.exit(error.exit_code)
    typer.echo("\n".join(sentence(one) for one in found))


if __name__ == "__main__":
    typer.run(main)
