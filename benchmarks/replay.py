"""Compare exact derivatives of a bank's model A with the bank's trainings without songs.

    python -m benchmarks.replay --out FOLDER --queries 4

Model A is trained again and recorded in FOLDER; a replay that does not end with the bank's stored weights is refused.
The losses of some dev excerpts, and the mean loss of all, are differentiated with respect to the weight of each song,
after the gate (`lumina_ray.replay.gate`), and compared with random tenths, random halves and single songs left out.
Prints r, slope and rank agreement of each, and writes FOLDER/agreement.json. Interrupted, it goes on.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console

from cluster.replay import replay
from lumina_ray.errors import NumericsError
from lumina_ray.files import atomic_path
from lumina_ray.replay.record import open_record, parameter_names
from lumina_ray.replay.training import Training as ReplayTraining
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.recipe import Training
from lumina_ray.truth.replayed import Replayable, as_group, removal_agreement, replayable

PREFIXES = ("tenth-", "half-", "single-")
WHOLE = "all"
"""Name of the mean of all dev excerpts."""


def main(
    out: Annotated[Path, typer.Option(help="Folder for the record and what is computed.")],
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    queries: Annotated[int, typer.Option(min=0, help="Dev excerpts by themselves, besides the mean of all.")] = 3,
) -> None:
    """Compare exact derivatives of a bank's model A with trainings without songs."""
    console, loaded = Console(), load_bank(bank)
    (audited,) = (training for training in loaded.trainings if training.name == "A")
    dev = [q for q, query in enumerate(loaded.queries) if (query.kind, query.split) == ("excerpt", "dev")]
    alone = random.Random("replay").sample(dev, queries)
    columns = {WHOLE: dev} | {f"query-{q:03}": [q] for q in alone}
    groups = {name: as_group([loaded.queries[q] for q in of]) for name, of in columns.items()}
    opened = partial(open_training, bank, audited)
    found = replay(opened, out, groups, console=console)
    report(loaded, audited, out, columns, found, console)


def open_training(bank: Path, training: Training) -> ReplayTraining:
    """Make the training of a bank's model anew."""
    return _opened(load_bank(bank), training).training


def report(
    bank: Bank,
    training: Training,
    out: Path,
    columns: Mapping[str, Sequence[int]],
    found: dict[str, np.ndarray],
    console: Console,
) -> None:
    """Print and write the agreement with each kind of removal.

    Raises:
        NumericsError: the record ends with another model than the bank's.
    """
    torch.set_num_threads(1)
    replayed = _opened(bank, training)
    record = open_record(out.resolve(), replayed.training)
    own_P = record.state(len(replayed.training.steps)).theta_P.half()
    stored = [bank.models[training.name][name].flatten() for name in parameter_names(replayed.training)]
    if not torch.equal(own_P, torch.cat(stored)):
        raise NumericsError(f"{out}: the training ends with another model than the bank's {training.name}")
    derivatives_QN = np.stack([found[name] for name in columns])
    agreements = {
        prefix: asdict(removal_agreement(bank, prefix, list(columns.values()), replayed.songs, derivatives_QN))
        for prefix in PREFIXES
        if bank.of_kind(prefix)
    }
    for prefix, values in agreements.items():
        console.print(prefix, {name: round(value, 3) for name, value in values.items()})
    with atomic_path(out / "agreement.json") as temporary:
        temporary.write_text(json.dumps(agreements, indent=1) + "\n")


def _opened(bank: Bank, training: Training) -> Replayable:
    return replayable(bank.recipe, training, bank.codes, bank.start)


if __name__ == "__main__":
    typer.run(main)
