"""Forms of Fisher information for forgetting to first order, compared on dev of a ground-truth bank.

    python -m benchmarks.fisher_forms measure     docs/fisher_forms.json
    python -m benchmarks.fisher_forms write       the table of docs/unlearning.md from that file

Scores are `∇L(z)ᵀ (F + λ)⁻¹ ∇L(ẑ)` of the first 10 s of every song z and query ẑ, by the loss of all codebooks. All
forms of F are made of the same chunks of the catalog and damped by the same rule, a fraction of F's mean over the
chosen weights; only F differs. Labels are the songs' codes, as in `lumina fisher`, or codes drawn from the model.

Sources: K-FAC, Martens and Grosse 2015, arXiv:1503.05671; EK-FAC, George et al. 2018, arXiv:1806.03884, and for
influence Grosse et al. 2023, arXiv:2308.03296.

Shape legend: n = chunks, Q = queries, N = songs, S = steps of a sequence, M, D = rows and columns of a weight,
d = weights of a block.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from torch import Tensor, nn

from benchmarks.unlearning import FULL, GROUPS, KEPT, PAGE, Measured, rounded
from lumina_ray.files import atomic_path
from lumina_ray.gradients.capture import Measure, capture, freeze
from lumina_ray.model.determinism import pin_numerics
from lumina_ray.model.interface import Losses, MusicModel
from lumina_ray.truth.bank import SHIPPED
from lumina_ray.truth.measures import Resampled
from lumina_ray.unlearning.select import Layers, Part, select_parts
from lumina_ray.vocabulary import Draws, SongCodes

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
RESULTS = PAGE.with_name("fisher_forms.json")

Form = Literal["identity", "diagonal", "kfac", "ekfac", "whole"]
Labels = Literal["songs", "model"]
FORMS: tuple[Form, ...] = ("diagonal", "kfac", "ekfac", "whole")
CHOICES: tuple[Layers, ...] = ("heads", "mlp", "self", "layers")
DAMPINGS = (10.0, 1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""Fractions of F's mean; of the mean of its n eigenvalues that are not zero where F is whole."""
# The diagonal by songs' codes comes first: what all others are compared with.
_TRIED: tuple[tuple[Labels, Form], ...] = (
    *(("songs", form) for form in FORMS),
    *(("model", form) for form in FORMS),
    ("songs", "identity"),
)
_BEGIN, _END = "<!-- fisher forms -->\n", "<!-- end of fisher forms -->"
_NAMES: dict[Form, str] = {
    "identity": "none",
    "diagonal": "diagonal",
    "kfac": "K-FAC",
    "ekfac": "EK-FAC",
    "whole": "whole",
}


@dataclass(eq=False)
class Block:
    """One weight's gradients over a catalog's chunks, and the second moments of their factors.

    Attributes:
        gradients_nMD: float32, of the loss of each chunk.
        weights_n: each chunk's part of all valid codes, float64.
        input_DD: mean of `x xᵀ` over all steps whose output has a gradient, float64.
        output_MM: mean over chunks, by `weights_n`, of `Σ_s dy_s dy_sᵀ`, float64. So `output ⊗ input` is the mean of
            squared gradients of chunks whose steps are independent.
    """

    gradients_nMD: Tensor
    weights_n: Tensor
    input_DD: Tensor
    output_MM: Tensor

    def basis(self, form: Form) -> tuple[Tensor, Tensor] | None:
        """Orthonormal columns for the outputs and for the inputs, float32; None for those of the weight itself."""
        if form not in ("kfac", "ekfac"):
            return None
        output, input_ = (torch.linalg.eigh(moment).eigenvectors.float() for moment in (self.output_MM, self.input_DD))
        return output, input_

    def spectrum(self, form: Form) -> Tensor:
        """F in that basis, where it is taken for diagonal: float64 `[M, D]`."""
        if form == "identity":
            return torch.ones(self.gradients_nMD.shape[1:], dtype=torch.float64)
        if form == "kfac":
            output_M, input_D = (torch.linalg.eigvalsh(m).clamp(min=0) for m in (self.output_MM, self.input_DD))
            return output_M[:, None] * input_D
        total_MD = torch.zeros(self.gradients_nMD.shape[1:], dtype=torch.float64)
        for weight, gradient_MD in zip(self.weights_n, rotated(self.gradients_nMD, self.basis(form)), strict=True):
            total_MD += weight * gradient_MD.double().square()
        return total_MD


def rotated(values_nMD: Tensor, basis: tuple[Tensor, Tensor] | None) -> Tensor:
    """Coordinates of weights' gradients in a basis of `Block.basis`, in the same shape."""
    return values_nMD if basis is None else basis[0].T @ values_nMD @ basis[1]


def drawn_by(model: MusicModel, seed: int) -> Measure:
    """Measure a model by codes that it draws itself, in place of those that it is given to read.

    The Fisher information is an expectation over these (Kunstner et al. 2019, arXiv:1905.12558).
    """
    generator = torch.Generator().manual_seed(seed)

    def measured(codes_BKT: Tensor, n_frames: list[int], draws: Draws | None) -> Losses:
        prediction = model.predict(codes_BKT, n_frames)
        odds = prediction.logits_BKTC.detach().flatten(0, 2).softmax(dim=1)
        drawn = torch.multinomial(odds, 1, generator=generator)
        return prediction.losses(drawn.view(codes_BKT.shape))

    return measured


def blocks_of(
    model: MusicModel, songs: Sequence[SongCodes], weights: Sequence[nn.Parameter], labels: Labels
) -> list[Block]:
    """Gather the gradients of some weights, each used once in a pass, over the chunks of some songs."""
    freeze(model)
    sizes = [weight.shape for weight in weights]
    inputs = [torch.zeros(D, D, dtype=torch.float64) for _, D in sizes]
    outputs = [torch.zeros(M, M, dtype=torch.float64) for M, _ in sizes]
    steps, counts = [0] * len(weights), []
    gradients: list[list[Tensor]] = [[] for _ in weights]
    chunks = [pair for song in songs for pair in zip(song.chunks, song.heard, strict=True)]
    for place, (chunk_KT, heard_T) in enumerate(chunks):
        codes_1KT = torch.from_numpy(chunk_KT.astype(np.int64))[None]
        calls = capture(
            model,
            codes_1KT,
            [chunk_KT.shape[1]],
            weights,
            (1.0,) * model.n_codebooks,
            heard_BT=torch.from_numpy(np.ascontiguousarray(heard_T))[None],
            measure=drawn_by(model, place) if labels == "model" else None,
        )
        assert sorted(call.parameter for call in calls) == list(range(len(weights)))
        counts.append(sum(model.representation.counted(heard_T)))
        for call in calls:
            i, x_SD, dy_SM = call.parameter, call.input_BSN[0], call.output_grad_BSM[0]
            gradients[i].append(dy_SM.T @ x_SD)
            reached_S = dy_SM.any(dim=1)
            steps[i] += int(reached_S.sum())
            inputs[i] += (x_SD[reached_S].T @ x_SD[reached_S]).double()
            outputs[i] += counts[-1] * (dy_SM.T @ dy_SM).double()
    weights_n = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    return [
        Block(torch.stack(of), weights_n, x_DD / n, dy_MM / sum(counts))
        for of, x_DD, dy_MM, n in zip(gradients, inputs, outputs, steps, strict=True)
    ]


def scores_by(
    blocks: Sequence[Block], form: Form, queries: Sequence[Tensor], songs: Sequence[Tensor]
) -> dict[float, np.ndarray]:
    """First-order scores by damping, float64 `[Q, N]`, up to a factor.

    Args:
        blocks: of all chosen weights.
        queries, songs: gradients by each block's weight, float32 `[Q, M, D]` and `[N, M, D]`.
    """
    if form == "whole":
        return _by_whole(blocks, queries, songs)
    spectra = [block.spectrum(form) for block in blocks]
    mean = sum(float(s.sum()) for s in spectra) / sum(s.numel() for s in spectra)
    out = {damping: np.zeros((len(queries[0]), len(songs[0]))) for damping in DAMPINGS}
    for block, spectrum, of_queries, of_songs in zip(blocks, spectra, queries, songs, strict=True):
        basis = block.basis(form)
        q_Qd, z_Nd = (rotated(values, basis).flatten(1) for values in (of_queries, of_songs))
        for damping, scores_QN in out.items():
            # λ / (F + λ) is at most 1, which float32 holds.
            metric_d = (damping * mean / (spectrum + damping * mean)).flatten().float()
            scores_QN += ((q_Qd * metric_d) @ z_Nd.T).double().numpy()
    return out


def _by_whole(blocks: Sequence[Block], queries: Sequence[Tensor], songs: Sequence[Tensor]) -> dict[float, np.ndarray]:
    """F with all of its entries, over all blocks together, by Woodbury's identity: products of gradients suffice."""
    root_n = blocks[0].weights_n.sqrt().numpy()
    chunks = [block.gradients_nMD for block in blocks]

    def products(one: Sequence[Tensor], other: Sequence[Tensor]) -> np.ndarray:
        pairs = zip(one, other, strict=True)
        return sum((a.flatten(1) @ b.flatten(1).T).double() for a, b in pairs).numpy()  # type: ignore[union-attr]

    own_nn = root_n[:, None] * products(chunks, chunks) * root_n
    q_Qn, z_Nn = (products(values, chunks) * root_n for values in (queries, songs))
    plain_QN = products(queries, songs)
    out = {}
    for damping in DAMPINGS:
        ridge = damping * np.trace(own_nn) / len(own_nn)
        out[damping] = plain_QN - q_Qn @ np.linalg.solve(own_nn + ridge * np.eye(len(own_nn)), z_Nn.T)
    return out


def trial(of: Measured, layers: Layers) -> list[dict]:
    """On dev: LDS of every form at every damping, and intervals at a form's best one.

    The best damping has the largest mean of both groups' LDS. Differences are to the diagonal by the songs' codes, of
    the same layers and of the heads, each at its own best damping, in the same draws.
    """
    rows: list[dict] = []
    reference, of_heads = best_diagonal(of, layers), best_diagonal(of, "heads")
    for labels, form in _TRIED:
        grid, damping, judged = _judged(of, layers, labels, form)
        rows.append(
            {
                "layers": layers,
                "labels": labels,
                "form": form,
                "damping": damping,
                "grid": {f"{tried:g}": lds for tried, lds in grid.items()},
                "lds": {group: asdict(value.estimate) for group, value in judged.items()},
                "ahead": {group: asdict((judged[group] - reference[group]).estimate) for group in judged},
                "ahead_of_heads": {group: asdict((judged[group] - of_heads[group]).estimate) for group in judged},
            }
        )
        print(layers, labels, form, f"{damping:g}", *(f"{name} {judged[name].estimate}" for name in judged), flush=True)
    return rows


def best_diagonal(of: Measured, layers: Layers) -> dict[str, Resampled]:
    """LDS on dev by group, of the diagonal by the songs' codes at its best damping."""
    return _judged(of, layers, "songs", "diagonal")[2]


@cache
def _judged(
    of: Measured, layers: Layers, labels: Labels, form: Form
) -> tuple[dict[float, dict[str, float]], float, dict[str, Resampled]]:
    """LDS on dev by damping and group; the best damping; and resampled LDS there."""
    parts = select_parts(of.model, layers)
    queries, songs = (by_part(of.gradients(pieces).of(layers), parts) for pieces in ("dev", "songs"))
    # One pass through all layers serves every choice of them; the heads are cheaper by themselves.
    captured: Layers = "heads" if layers == "heads" else "layers"
    blocks = [named_blocks(of, captured, labels)[id(part.parameter)] for part in parts]
    found = scores_by(blocks, form, queries, songs)
    grid = {damping: of.lds("dev", scores_QN) for damping, scores_QN in found.items()}
    best = max(grid, key=lambda damping: sum(grid[damping].values()))
    return grid, best, of.judge("dev", found[best])


@cache
def named_blocks(of: Measured, layers: Layers, labels: Labels) -> dict[int, Block]:
    """Blocks of a choice of layers, by the identity of their parameters."""
    weights = [part.parameter for part in select_parts(of.model, layers)]
    return dict(zip(map(id, weights), blocks_of(of.model, of.songs, weights, labels), strict=True))


def by_part(flat_nD: Tensor, parts: Sequence[Part]) -> list[Tensor]:
    """Gradients end to end as those by each part, float32 `[n, M, D]`."""
    pieces = flat_nD.split([part.values.numel() for part in parts], dim=1)
    return [piece.reshape(-1, *part.values.shape) for piece, part in zip(pieces, parts, strict=True)]


@app.command()
def measure(
    bank: Annotated[Path, typer.Argument(help="A ground-truth bank.")] = SHIPPED,
    results: Annotated[Path, typer.Option(help="The file of results, which lacks what is to be measured.")] = RESULTS,
    layers: Annotated[list[str] | None, typer.Option(help="Only these choices of layers.")] = None,
    kept: Annotated[Path, typer.Option(help="Folder with the diagonal that `benchmarks.unlearning` keeps.")] = KEPT,
) -> None:
    """Measure LDS of all forms for the choices of layers that the file lacks, and write each down once it is done."""
    pin_numerics()
    found = json.loads(results.read_text("utf-8")) if results.exists() else {"rows": [], "cpu_s": {}}
    of = Measured(bank, FULL, kept)
    queries = of.queries("dev")
    found["queries"] = {group: sum(query.kind in kinds for query in queries) for group, kinds in GROUPS.items()}
    found |= {"songs": len(of.catalog), "models": len(of.bank.of_kind("half"))}
    for choice in layers or CHOICES:
        if choice in found["cpu_s"]:
            continue
        begin_s = time.process_time()
        found["rows"] += trial(of, choice)  # type: ignore[arg-type]
        found["cpu_s"][choice] = time.process_time() - begin_s
        with atomic_path(results) as temporary:
            temporary.write_text(json.dumps(rounded(found), indent=1) + "\n", encoding="utf-8")


@app.command()
def write(
    results: Annotated[Path, typer.Option(help="The file of results.")] = RESULTS,
    page: Annotated[Path, typer.Option(help="The page whose table is made anew.")] = PAGE,
) -> None:
    """Write the table of the page."""
    page.write_text(with_table(json.loads(results.read_text("utf-8")), page.read_text("utf-8")), encoding="utf-8")


def with_table(results: dict, text: str) -> str:
    """Give a page's text with the table of some results."""
    head, begin, rest = text.partition(_BEGIN)
    _, end, tail = rest.partition(_END)
    if not end:
        raise ValueError(f"the page has no place for the table: {_BEGIN.strip()} {_END}")
    lines = [
        "| layers | F | labels | λ | excerpts | continuations | less the diagonal, excerpts | continuations "
        "| less the diagonal of `heads`, excerpts | continuations |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in results["rows"]:
        cells = [_interval(row["lds"][group]) for group in GROUPS]
        reference = (row["labels"], row["form"]) == ("songs", "diagonal")
        cells += ["–" if reference else _interval(row["ahead"][group], signed=True) for group in GROUPS]
        heads = row["layers"] == "heads"
        cells += ["–" if heads else _interval(row["ahead_of_heads"][group], signed=True) for group in GROUPS]
        labels, damping = (row["labels"], f"{row['damping']:g}") if row["form"] != "identity" else ("–", "–")
        lines.append(f"| `{row['layers']}` | {_NAMES[row['form']]} | {labels} | {damping} | {' | '.join(cells)} |")
    return head + begin + "\n".join(lines) + "\n" + end + tail


def _interval(estimate: dict[str, float], *, signed: bool = False) -> str:
    value, low, high = (f"{estimate[name]:{'+' if signed else ''}.3f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    app()
