"""Attribution by forgetting, measured: the tables of docs/unlearning.md, one command each.

    uv run --no-sync python -m benchmarks.unlearning lds --split dev
    uv run --no-sync python -m benchmarks.unlearning self-influence
    uv run --no-sync python -m benchmarks.unlearning steps
    uv run --no-sync python -m benchmarks.unlearning correlation
    uv run --no-sync python -m benchmarks.unlearning forget --split dev
    uv run --no-sync python -m benchmarks.unlearning speed

All but the last run on a bank, in one process and on one core. Choose on dev, report test.
"""

import resource
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from scipy.stats import spearmanr

from benchmarks.environment import describe_machine
from lumina_ray.methods import METHODS
from lumina_ray.model import open_music_model
from lumina_ray.model.determinism import pin_numerics
from lumina_ray.truth.agreement import Agreement
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.corpus import members
from lumina_ray.truth.evaluation_set import EvaluationSet, evaluation_set
from lumina_ray.truth.fingerprints import make_fingerprints, required_fingerprints
from lumina_ray.truth.measures import datamodel_scores
from lumina_ray.truth.queries import QUERY_FRAMES, Split
from lumina_ray.truth.scores import scores
from lumina_ray.truth.unlearning import (
    Gradients,
    beginnings,
    correlations,
    first_order_scores,
    forgetting_and_retraining,
    half_silent,
    metric,
    model_with_fisher,
    query_codes,
    ranks_of_own_song,
)
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import first_order, rises
from lumina_ray.unlearning.select import LAYERS, Layers
from lumina_ray.unlearning.unlearn import DAMPING, Forgetting, unlearned
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, SongCodes

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
BankArgument = Annotated[Path, typer.Argument(help="A ground-truth bank.")]
SplitOption = Annotated[Split, typer.Option(help="dev is for choosing.")]
DAMPINGS: tuple[float | None, ...] = (None, 1.0, 1e-1, 1e-2, 1e-4, 1e-6)


def _excerpts(bank: Bank, split: Split) -> EvaluationSet:
    """Unheard excerpts of catalog songs alone, and the catalog's songs alone."""
    of = evaluation_set(bank, "A", split, None)
    kept = of.of_kind("excerpt")
    return replace(
        of,
        songs=of.songs[: of.n_catalog],
        queries=tuple(of.queries[q] for q in kept),
    )


@app.command()
def lds(bank: BankArgument = SHIPPED, split: SplitOption = "dev") -> None:
    """Agreement of first-order scores with retraining, by layers and damping; 10 s of each song."""
    pin_numerics()
    of_bank = load_bank(bank)
    asked = _excerpts(of_bank, split)
    agreement = Agreement(of_bank, asked)
    model = model_with_fisher(of_bank, "A", members(of_bank.recordings, "A"), QUERY_FRAMES)
    songs = beginnings(of_bank, model, asked.songs, QUERY_FRAMES)
    queries = [query_codes(query, model.frame_rate_hz) for query in asked.queries]
    gradients, Q = Gradients(model, [*queries, *songs]), len(queries)
    halves = of_bank.of_kind("half")
    masks_RN = of_bank.masks(halves, list(asked.songs))
    losses_RQ = of_bank.losses_RQK[halves][:, of_bank.columns(asked.queries)].mean(axis=2, dtype=np.float64)
    print(f"LDS of {Q} excerpts ({split}), {len(songs)} songs; R = 1 over the songs themselves")
    print("layers    damping  LDS    unit length  R = 1  LDS with interval         placebo: another query's scores")
    for layers in LAYERS:
        flat = gradients.of(layers)
        for damping in DAMPINGS:
            metric_d = metric(model, layers, damping)
            scores_QN = first_order_scores(flat[:Q], flat[Q:], metric_d)
            own_NN = first_order_scores(flat[Q:], flat[Q:], metric_d)
            unit_QN = scores_QN / np.sqrt(np.diag(own_NN))
            values = [datamodel_scores(one, masks_RN, losses_RQ).mean() for one in (scores_QN, unit_QN)]
            first = (ranks_of_own_song(own_NN, range(len(songs))) == 1).mean()
            # Intervals take longer than all the rest.
            found = agreement("M", scores_QN) if damping == DAMPING else {}
            intervals = "  ".join(str(found[name].estimate) for name in ("lds_excerpt", "lds_excerpt_other") if found)
            print(
                f"{layers:9} {damping or 'no F'!s:7}  {values[0]:.3f}  {values[1]:11.3f}  {first:5.2f}  {intervals}",
                flush=True,
            )


@app.command()
def self_influence(bank: BankArgument = SHIPPED) -> None:
    """Rank of a song once it is forgotten itself, by layers and masks; songs are 5 s of music and 5 s of silence."""
    pin_numerics()
    of_bank = load_bank(bank)
    catalog = members(of_bank.recordings, "A")
    model = model_with_fisher(of_bank, "A", catalog, QUERY_FRAMES)
    silence_KT = open_music_model("nano").encode(np.zeros(10 * SAMPLE_RATE_HZ, np.float32)).cpu().numpy()
    songs = beginnings(of_bank, model, catalog, QUERY_FRAMES)
    made = {
        masked: Gradients(model, [half_silent(song, silence_KT, masked=masked) for song in songs])
        for masked in (True, False)
    }
    print(f"mean rank of the song itself among {len(songs)}, and how often it is first, to first order")
    print("layers    F       neither         M_U             M_L             both")
    for layers in LAYERS:
        for damping in (None, DAMPING):
            metric_d = metric(model, layers, damping)
            cells = []
            for mask_forgotten, mask_compared in ((False, False), (True, False), (False, True), (True, True)):
                forgotten, compared = made[mask_forgotten].of(layers), made[mask_compared].of(layers)
                ranks = ranks_of_own_song(first_order_scores(forgotten, compared, metric_d), range(len(songs)))
                cells.append(f"{ranks.mean():6.2f} ({(ranks == 1).mean():.2f})")
            print(f"{layers:9} {'yes' if damping else 'no':6}  " + "   ".join(cells), flush=True)


@app.command()
def steps(
    bank: BankArgument = SHIPPED,
    targets: Annotated[int, typer.Option(min=1, help="Songs that are forgotten.")] = 3,
) -> None:
    """Finite steps of several lengths: rank of the song itself, and rank correlation with first order."""
    pin_numerics()
    of_bank = load_bank(bank)
    catalog = members(of_bank.recordings, "A")
    model = model_with_fisher(of_bank, "A", catalog, QUERY_FRAMES)
    assert model.fisher is not None
    songs = beginnings(of_bank, model, catalog, QUERY_FRAMES)
    before = [code_losses(model, song) for song in songs]
    chosen = list(range(0, len(songs), -(-len(songs) // targets)))
    print("layers    nats    rank of itself      Spearman with first order   mean rise of the others, nats")
    choices: tuple[Layers, ...] = ("heads", "layers", "cross_kv")
    for layers in choices:
        slopes = {i: first_order(model, songs[i], songs, model.fisher, Forgetting(layers=layers)) for i in chosen}
        for nats in (0.005, 0.05, 0.3):
            how = Forgetting(layers=layers, trust_nats=nats)
            found = {i: rises(model, songs[i], songs, before, model.fisher, how)[0].of("plain") for i in chosen}
            ranks = [int(ranks_of_own_song(found[i][None], [i])[0]) for i in chosen]
            agreement = [float(spearmanr(found[i], slopes[i]).statistic) for i in chosen]
            others = np.mean([np.delete(found[i], i).mean() for i in chosen])
            print(
                f"{layers:9} {nats:5}   {', '.join(map(str, ranks)):18}  "
                f"{', '.join(f'{value:.3f}' for value in agreement):26}  {others:.5f}",
                flush=True,
            )


@app.command()
def correlation(
    bank: BankArgument = SHIPPED,
    split: SplitOption = "dev",
    method: Annotated[list[str] | None, typer.Option(help="A method; may be given several times.")] = None,
) -> None:
    """Rank correlation of methods' scores over songs, in the mean over excerpts; channel M."""
    pin_numerics()
    of_bank = load_bank(bank)
    asked = _excerpts(of_bank, split)
    names = method or ["unlearning-linear", "influence", "head-gradient", "stats", "tokens"]
    made = {
        key: make_fingerprints(of_bank, key[1], key[2], asked)
        for key in required_fingerprints(names)
        if key[0] == "A" and key[1] != "reference"
    }
    found = {name: scores(of_bank, METHODS[name], "M", asked, asked.n_catalog, made) for name in names}
    pairs = correlations(found)
    print(" " * 18 + " ".join(f"{name[:12]:>12}" for name in names))
    for one in names:
        print(f"{one:18}" + " ".join(f"{pairs[one, other]:12.2f}" for other in names))


@app.command()
def forget(
    bank: BankArgument = SHIPPED,
    split: SplitOption = "dev",
    layers: Annotated[str, typer.Option(help="The weights that forget.")] = "heads",
    nats: Annotated[float, typer.Option(help="How far the removed songs' loss rises.")] = 0.05,
) -> None:
    """Songs of each creator forgotten, beside a training without them: rises of queries' losses, nats per code."""
    pin_numerics()
    how = Forgetting(layers=layers, trust_nats=nats, steps=5)  # type: ignore[arg-type]
    found = forgetting_and_retraining(load_bank(bank), split, how)
    print("training             songs  Spearman  own: forgotten  retrained   others: forgotten  retrained")
    for row in found:
        print(
            f"{row.training:20} {row.n_removed:5}  {row.spearman:8.2f}  {row.own_forgotten:14.4f}  "
            f"{row.own_retrained:9.4f}   {row.others_forgotten:17.4f}  {row.others_retrained:9.4f}"
        )
    print(f"mean Spearman {np.mean([row.spearman for row in found]):.3f} over {len(found)} creators")


@app.command()
def speed(
    model: Annotated[str, typer.Option(help="A model.")] = "nano",
    songs: Annotated[int, typer.Option(min=2, help="Clips of 10 s.")] = 8,
) -> None:
    """Processor time of forgetting, of comparing losses and of first order; random codes, one core."""
    print(describe_machine())
    opened = open_music_model(model)
    rng = np.random.default_rng(0)
    clips = [
        SongCodes((rng.integers(0, opened.codebook_size, (opened.n_codebooks, 500)).astype(np.uint16),), (0.0,))
        for _ in range(songs)
    ]
    begin_s = time.process_time()
    fisher = fisher_diagonal(opened, clips[:2])
    print(f"Fisher information: {2 / (time.process_time() - begin_s):.2f} songs/s")
    for layers in LAYERS:
        how = Forgetting(layers=layers)
        begin_s = time.process_time()
        with unlearned(opened, clips[0], fisher, how) as done:
            forgotten_s = time.process_time() - begin_s
        print(f"forgetting a clip of 10 s, {layers}: {forgotten_s:.2f} s, shortened {done.shortened} times")
    begin_s = time.process_time()
    before = [code_losses(opened, clip) for clip in clips]
    losses_s = time.process_time() - begin_s
    begin_s = time.process_time()
    rises(opened, clips[0], clips, before, fisher)
    exact_s = time.process_time() - begin_s - losses_s
    begin_s = time.process_time()
    first_order(opened, clips[0], clips, fisher)
    slopes_s = time.process_time() - begin_s
    print(f"losses before or after: {songs / losses_s:.2f} songs/s of 10 s; forgetting itself {exact_s:.2f} s")
    print(f"first order, heads: {songs / slopes_s:.2f} songs/s once; then inner products of vectors")
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak_gib:.2f} GiB, {torch.get_num_threads()} thread")


if __name__ == "__main__":
    app()
