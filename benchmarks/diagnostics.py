"""Do diagnostics of score matrices, which need no retraining, rank methods as retraining does?

    uv run --no-sync python -m benchmarks.diagnostics

Every method, model and channel gives one matrix of scores for each of three kinds of queries. Each diagnostic is
compared with minus the agreement with retraining over these matrices by Spearman's rank correlation: 1 means that low
is good, as claimed. Beside them are κ̄ of the bank's controls, which is what `lumina calibrate` measures, and random
numbers, a floor. Writes results/diagnostics.json.
"""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from lumina_ray.calibration import catalog_centre
from lumina_ray.diagnostics.reliability import Diagnostics, ScoreSums
from lumina_ray.diagnostics.reliability import judge as judge_sums
from lumina_ray.embedding.table import EMBEDDERS
from lumina_ray.fingerprint.kinds import find_kind
from lumina_ray.methods import METHODS
from lumina_ray.truth.agreement import POOLED, Agreement
from lumina_ray.truth.bank import BASE, SHIPPED, Bank, load_bank
from lumina_ray.truth.evaluation_set import EvaluationSet
from lumina_ray.truth.fingerprints import UNTRAINED, FingerprintKey, Fingerprints, make_fingerprints
from lumina_ray.truth.floors import floor_set
from lumina_ray.truth.measures import DRAWS, Estimate, Resampled
from lumina_ray.truth.queries import QueryKind, Split
from lumina_ray.truth.scores import scores
from lumina_ray.vocabulary import Channel, Kind

RESULTS = Path(__file__).parent / "results"
DIAGNOSTICS = tuple(field.name for field in fields(Diagnostics))
CONTROLS, RANDOM = "kappa of controls", "random numbers"
MEASURES: dict[str, tuple[QueryKind, ...]] = {
    "lds_excerpt": ("excerpt",),
    "lds_continuations": POOLED["continuations"],
    "alone_pieces_specific": POOLED["pieces"],
}
"""Agreement with retraining by which matrices are ranked, and the kinds of queries that a matrix is of."""
# With one checkpoint it is grad-dot times a constant.
_LEFT_OUT = ("tracin", "random")


@dataclass(frozen=True)
class Matrix:
    """One matrix of scores: what its diagnostics and its agreement with retraining are on one kind of query.

    Attributes:
        fingerprint: kind of fingerprint: methods of one kind are no independent witnesses.
        control_kappa: κ̄ of the similarities of the bank's controls to the catalog under the same fingerprint.
        control_kappa_adjusted: the same less each song's mean similarity to the catalog.
    """

    method: str
    fingerprint: Kind
    weights: str
    channel: Channel
    measure: str
    collapse: float
    control_kappa: float
    control_kappa_adjusted: float
    values: Diagnostics
    agreement: Estimate


def planned(bank: Bank, kinds: Sequence[Kind]) -> list[tuple[str, Kind]]:
    """List the weights and kinds of fingerprints: kinds without a backward pass under every model that is at hand."""
    others = [name for name in bank.models if name == "A-early" or name.startswith("reference") or name == BASE]
    out = []
    for kind in kinds:
        cheap = find_kind(kind).needs == "forward"
        out += [(weights, kind) for weights in ("A", *((*others, UNTRAINED) if cheap else ()))]
    return out


def control_kappas(made: Fingerprints, asked: EvaluationSet, channel: Channel) -> tuple[float, float]:
    """κ̄ of controls' similarities, as `lumina calibrate` measures it: as they are, and adjusted."""
    songs_ND = made.vectors[channel][: asked.n_catalog]
    controls_CD = made.vectors[channel][len(asked.songs) + len(asked.queries) :]
    similarity_NC = songs_ND.astype(np.float64) @ controls_CD.astype(np.float64).T
    means_N = songs_ND.astype(np.float64) @ catalog_centre(songs_ND)
    adjusted_NC = similarity_NC - means_N[:, None]
    return tuple(judge_sums(ScoreSums.of(one)).found.kappa for one in (similarity_NC, adjusted_NC))  # type: ignore[return-value]


def judge(
    bank: Bank, asked: EvaluationSet, made: dict[FingerprintKey, Fingerprints]
) -> tuple[list[Matrix], dict[str, np.ndarray]]:
    """Diagnose and judge every matrix.

    Returns:
        The matrices, and by measure the agreement of its matrices in each bootstrap draw, float64 `[draws, matrices]`.
    """
    agreement, out = Agreement(bank, asked), []
    draws: dict[str, list[np.ndarray]] = {}
    for (_, weights, kind), fingerprints in made.items():
        for method in (one for one in METHODS.values() if one.kind == kind and one.name not in _LEFT_OUT):
            for channel in method.channels:
                controls = control_kappas(fingerprints, asked, channel)
                scores_QN = scores(bank, method, channel, asked, asked.n_catalog, made, weights=(weights,))
                agreed: dict[str, Resampled] = agreement(channel, scores_QN)
                for measure in (one for one in MEASURES if one in agreed):
                    found = judge_sums(ScoreSums.of(scores_QN[asked.of_kind(*MEASURES[measure])].T))
                    draws.setdefault(measure, []).append(agreed[measure].draws_n)
                    out.append(
                        Matrix(
                            method.name,
                            kind,
                            weights,
                            channel,
                            measure,
                            found.collapse,
                            *controls,
                            found.found,
                            agreed[measure].estimate,
                        )
                    )
    return out, {measure: np.stack(of, axis=1) for measure, of in draws.items()}


def rank_agreement(matrices: Sequence[Matrix], lds_nM: np.ndarray, seed: int = 0) -> dict[str, Estimate]:
    """Spearman's correlation of each diagnostic with minus the agreement over matrices.

    The interval is over retrained models and queries, by the draws of the agreement, and over kinds of fingerprints,
    drawn again with all of their matrices.
    """
    rng = np.random.default_rng(seed)
    lds_M = np.array([one.agreement.value for one in matrices])
    kinds = sorted({one.fingerprint for one in matrices})
    of_kind = [np.flatnonzero([one.fingerprint == kind for one in matrices]) for kind in kinds]
    drawn = [
        np.concatenate([of_kind[i] for i in rng.integers(len(kinds), size=len(kinds))]) for _ in range(len(lds_nM))
    ]
    columns = {name: np.array([getattr(one.values, name) for one in matrices]) for name in DIAGNOSTICS}
    columns |= {CONTROLS: np.array([one.control_kappa for one in matrices])}
    out = {}
    for name, x_M in columns.items():
        of_draws = np.array([_spearman(x_M[i], -lds_M_n[i]) for i, lds_M_n in zip(drawn, lds_nM, strict=True)])
        out[name] = Resampled(_spearman(x_M, -lds_M), of_draws).estimate
    # Other numbers in each draw: the interval is what chance gives for so many matrices of so few kinds.
    numbers = rng.standard_normal((len(lds_nM), len(matrices)))
    by_chance = np.array([_spearman(x_M[i], -lds_M[i]) for i, x_M in zip(drawn, numbers, strict=True)])
    out[RANDOM] = Resampled(float(by_chance.mean()), by_chance).estimate
    return out


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where one of them is constant, as in a draw of one matrix."""
    x, y = rankdata(x), rankdata(y)
    if not (np.ptp(x) and np.ptp(y)):
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def main(
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    split: Annotated[Split, typer.Option(help="dev is for choosing.")] = "dev",
    kind: Annotated[
        list[str] | None, typer.Option(help="Only fingerprints of this kind; may be given several times.")
    ] = None,
) -> None:
    """Compare diagnostics with retraining over all methods and models."""
    begin_s = time.process_time()
    loaded, console = load_bank(bank), Console(width=120)
    asked = floor_set(loaded, split)
    controls = tuple(i for i, recording in enumerate(loaded.recordings) if recording.role == "control")
    kept = {one for kinds in MEASURES.values() for one in kinds}
    queries = tuple(query for query in asked.queries if query.kind in kept)
    asked = replace(asked, controls=controls, queries=queries)
    absent = {f"embedding:{name}" for name, row in EMBEDDERS.items() if not row.bundled}
    kinds = kind or [k for k in dict.fromkeys(m.kind for m in METHODS.values()) if k and k not in absent]
    made: dict[FingerprintKey, Fingerprints] = {}
    for weights, one in planned(loaded, kinds):
        made["A", weights, one] = make_fingerprints(loaded, weights, one, asked, stand_in=not weights.startswith("A"))
        console.print(f"{one} under {weights}: {time.process_time() - begin_s:.0f} CPU s")
    matrices, draws = judge(loaded, asked, made)
    found = {}
    for measure, draws_nM in draws.items():
        of_measure = [one for one in matrices if one.measure == measure]
        found[measure] = rank_agreement(of_measure, draws_nM)
        _print_matrices(console, measure, of_measure)
    _print_agreement(console, found, {measure: draws_nM.shape[1] for measure, draws_nM in draws.items()})
    RESULTS.mkdir(exist_ok=True)
    body = {
        "split": split,
        "spearman_with_minus_agreement": {m: {name: asdict(e) for name, e in of.items()} for m, of in found.items()},
        "matrices": [asdict(one) for one in matrices],
        "draws": DRAWS,
        "cpu_seconds": time.process_time() - begin_s,
        "environment": {"numpy": np.__version__, "machine": platform.machine()},
    }
    (RESULTS / "diagnostics.json").write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _print_matrices(console: Console, measure: str, matrices: Sequence[Matrix]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"Matrices by {measure}, best first")
    for heading in ("method", "weights", "", "agreement"):
        table.add_column(heading, no_wrap=True)
    headings = ("κ̄", "R1", "R2:5", "c", "R1\ncentred", "R2:5\ncentred", "collapse", "κ̄ of\ncontrols", "adjusted")
    for heading in headings:
        table.add_column(heading, justify="right")
    for one in sorted(matrices, key=lambda one: -one.agreement.value):
        values = (*(getattr(one.values, name) for name in DIAGNOSTICS), one.collapse, one.control_kappa)
        shown = [f"{value:.2f}" for value in (*values, one.control_kappa_adjusted)]
        table.add_row(one.method, one.weights, one.channel, f"{one.agreement.value:.2f}", *shown)
    console.print(table)


def _print_agreement(console: Console, found: dict[str, dict[str, Estimate]], counts: dict[str, int]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Spearman of each diagnostic with minus the agreement")
    table.add_column("diagnostic", no_wrap=True)
    for measure in found:
        table.add_column(f"{measure}\n{counts[measure]} matrices", justify="right", no_wrap=True)
    for name in next(iter(found.values())):
        table.add_row(
            name, *(f"{of[name].value:.2f} [{of[name].low:.2f}, {of[name].high:.2f}]" for of in found.values())
        )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
