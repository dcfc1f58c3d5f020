"""Put methods of attribution to the test on a ground-truth bank: a Ray task makes each kind of fingerprint.

lumina evaluate
ray job submit --working-dir . -- python -m cluster.evaluate --out OUT
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import ray
import torch
import typer
from rich.console import Console

from cluster.progress import show_steps
from cluster.session import ray_session
from lumina_ray.errors import LuminaError
from lumina_ray.fingerprint import Kind
from lumina_ray.methods import METHODS
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.card import (
    JUDGED,
    Alarms,
    Asked,
    Card,
    Fingerprints,
    Row,
    Steadiness,
    asked_of,
    evidence_of_use,
    false_alarms,
    fingerprints,
    needs,
    report_card,
    steadiness,
)
from lumina_ray.truth.corpus import Audited
from lumina_ray.truth.queries import Split
from lumina_ray.truth.results import save_card, tables

_RETRIES = 3


def evaluate(
    bank: Bank, names: Sequence[str] = tuple(METHODS), split: Split = "test", console: Console | None = None
) -> Card:
    """The report card of some methods.

    Raises:
        UsageError: there is no method of a name.
        ClusterError: there is no Ray to be had.
    """
    console = console or Console(stderr=True)
    wanted = needs(names)

    def asked(kind: Kind | None) -> dict[Audited, Asked]:
        return {model: asked_of(bank, model, split, kind) for model in ("A", "B")}

    with ray_session():
        shared = ray.put(bank)
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)
        make, judge = remote(_fingerprints), remote(_judged)
        making = {
            (model, weights, kind): make.remote(shared, weights, kind, asked(kind)[model])
            for model, weights, kind in wanted
        }
        made: dict[tuple[Audited, str, Kind], Fingerprints] = _results(making, "Fingerprints", console)
        kinds = [kind for model, weights, kind in wanted if (model, weights) == ("A", "A") and kind in JUDGED]
        judging = {kind: judge.remote(asked(kind)["A"], making["A", "A", kind], kind) for kind in kinds}
        found: dict[Kind, tuple[list[Alarms], list[Steadiness]]] = _results(judging, "False positives", console)
    rows: list[Row] = []
    with show_steps("Methods", len(names), console) as step:
        for name in names:
            rows += report_card(bank, [name], asked(METHODS[name].kind), made)
            step()
    alarms = [alarm for kind in kinds for alarm in found[kind][0]]
    steady = [steadiness for kind in kinds for steadiness in found[kind][1]]
    both = [kind for model, weights, kind in wanted if (model, weights) == ("A", "reference")]
    use = list(evidence_of_use(bank, asked(both[0]), made, both[0])) if both else []
    return Card(split, rows, alarms, steady, use)


def _fingerprints(bank: Bank, weights: str, kind: Kind, asked: Asked) -> Fingerprints:
    torch.set_num_threads(1)
    return fingerprints(bank, weights, kind, asked)


def _judged(A: Asked, made: Fingerprints, kind: Kind) -> tuple[list[Alarms], list[Steadiness]]:
    """What policies do with one kind of fingerprint."""
    torch.set_num_threads(1)
    return list(false_alarms(A, made, kind)), list(steadiness(A, made, kind))


def _results(tasks: Mapping[Any, ray.ObjectRef], title: str, console: Console) -> dict[Any, Any]:
    """What tasks return."""
    waiting = list(tasks.values())
    with show_steps(title, len(waiting), console) as step:
        while waiting:
            done, waiting = ray.wait(waiting)
            # Now, and not when all are done, if one of them raises.
            ray.get(done)
            step()
    return {name: ray.get(reference) for name, reference in tasks.items()}


def main(
    out: Annotated[Path, typer.Option(help="Folder for card.json and card.png.")],
    bank: Annotated[Path, typer.Option(help="Folder of a ground-truth bank.")] = SHIPPED,
    method: Annotated[list[str] | None, typer.Option(help="Only these; may be given several times.")] = None,
) -> None:
    """Put methods of attribution to the test on a ground-truth bank."""
    try:
        card = evaluate(load_bank(bank), method or tuple(METHODS))
        save_card(card, out)
    except LuminaError as error:
        typer.echo(f"cluster.evaluate: {error}", err=True)
        sys.exit(error.exit_code)
    Console().print(*tables(card))


if __name__ == "__main__":
    typer.run(main)
