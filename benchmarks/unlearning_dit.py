"""Attribution by forgetting under a diffusion transformer, in the published setting: the tables of docs/diffusion.md.

    uv run --no-sync lumina catalog demo --out demo
    uv run --no-sync python -m benchmarks.unlearning_dit grid demo/catalog.parquet
    uv run --no-sync python -m benchmarks.unlearning_dit steps demo/catalog.parquet

The published grid has the weights that forget (keys and values of cross-attention, all of cross-attention,
self-attention, all), and two masks of silence: M_U in the music that is forgotten, M_L in the losses that are compared.
A song that is forgotten itself should come first. Songs are 5 s of music and 5 s of silence. One process, one core.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from scipy.stats import spearmanr

from benchmarks.environment import describe_machine
from lumina_ray.audio import cut_chunks
from lumina_ray.fingerprint.codes import encode_song
from lumina_ray.model import AttributableModel, open_model
from lumina_ray.training.data import load_songs
from lumina_ray.truth.unlearning import Gradients, first_order_scores, half_silent, metric, ranks_of_own_song
from lumina_ray.unlearning.fisher import fisher_diagonal
from lumina_ray.unlearning.losses import code_losses
from lumina_ray.unlearning.scores import rises
from lumina_ray.unlearning.select import Layers
from lumina_ray.unlearning.unlearn import DAMPING, TRUST_NATS, Forgetting
from lumina_ray.vocabulary import SAMPLE_RATE_HZ, SongCodes

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
PUBLISHED: tuple[Layers, ...] = ("cross_kv", "cross", "self", "all")
MASKS = {"neither": (False, False), "M_U": (True, False), "M_L": (False, True), "both": (True, True)}
"""Whether silence is masked in the music that is forgotten, and in the losses that are compared."""

CatalogArgument = Annotated[Path, typer.Argument(metavar="MANIFEST", help="Songs that the model learned from.")]
ModelOption = Annotated[str, typer.Option(help="A diffusion transformer.")]
SongsOption = Annotated[int, typer.Option(min=2, help="Songs that are compared, evenly out of the catalog.")]
DrawsOption = Annotated[int, typer.Option(min=2, help="Draws of time and noise of each loss; even.")]


@app.command()
def grid(
    catalog: CatalogArgument, model: ModelOption = "nano-dit", songs: SongsOption = 24, draws: DrawsOption = 16
) -> None:
    """Rank of each song once it is forgotten itself, to first order, by weights, masks and Fisher information."""
    opened, made = prepare(model, catalog, songs, draws)
    begin_s = time.process_time()
    gradients = {masked: Gradients(opened, of) for masked, of in made.items()}
    print(f"mean rank of the song itself among {songs} (how often it is first), {draws} draws, to first order")
    print(f"{'weights':9} {'F':4} " + " ".join(f"{mask:>13}" for mask in MASKS))
    for layers in PUBLISHED:
        for damping in (None, DAMPING):
            ranks = grid_ranks(opened, gradients, layers, damping)
            cells = [f"{of.mean():6.2f} ({(of == 1).mean():4.2f})" for of in ranks.values()]
            print(f"{layers:9} {'yes' if damping else 'no':4} " + " ".join(f"{cell:>13}" for cell in cells))
    print(f"{(time.process_time() - begin_s) / songs:.1f} CPU s a song; {describe_machine()}")


@app.command()
def steps(
    catalog: CatalogArgument,
    model: ModelOption = "nano-dit",
    songs: SongsOption = 24,
    draws: DrawsOption = 16,
    targets: Annotated[int, typer.Option(min=1, help="Songs that are forgotten.")] = 2,
    rise: Annotated[float, typer.Option(help="How far the forgotten song's squared error rises.")] = TRUST_NATS,
) -> None:
    """Real steps of unlearning with Fisher information: rank of each target, and agreement with first order."""
    opened, made = prepare(model, catalog, songs, draws)
    assert opened.fisher is not None
    gradients = {masked: Gradients(opened, of) for masked, of in made.items()}
    before = {masked: [code_losses(opened, song) for song in of] for masked, of in made.items()}
    chosen = range(0, songs, -(-songs // targets))
    print(f"rank of {len(chosen)} targets among {songs} (Spearman with first order), a rise of {rise}, {draws} draws")
    print(f"{'weights':9} " + " ".join(f"{mask:>18}" for mask in MASKS))
    for layers in PUBLISHED:
        metric_d, cells = metric(opened, layers, DAMPING), []
        for forgotten, compared in MASKS.values():
            queries_Td = gradients[forgotten].of(layers)[list(chosen)]
            slopes_TN = first_order_scores(queries_Td, gradients[compared].of(layers), metric_d)
            how = Forgetting(layers=layers, trust_nats=rise)
            found_TN = np.stack(
                [
                    rises(opened, made[forgotten][i], made[compared], before[compared], opened.fisher, how)[0].of()
                    for i in chosen
                ]
            )
            ranks = ",".join(map(str, ranks_of_own_song(found_TN, chosen)))
            agreement = np.mean([spearmanr(*pair).statistic for pair in zip(found_TN, slopes_TN, strict=True)])
            cells.append(f"{ranks} ({agreement:.2f})")
        print(f"{layers:9} " + " ".join(f"{cell:>18}" for cell in cells), flush=True)
    print(describe_machine())


def prepare(
    name: str, catalog: Path, n_songs: int, n_draws: int
) -> tuple[AttributableModel, dict[bool, list[SongCodes]]]:
    """Open a model, measure its Fisher information over some songs, and halve these songs.

    Returns:
        The model, and the songs by whether their silence is masked.
    """
    model = open_model(name)
    if model.draws is None:
        raise typer.BadParameter(f"{name} predicts codes: see benchmarks.unlearning")
    model.draws = replace(model.draws, count=n_draws)
    listed = load_songs(catalog)
    chosen = [listed[i] for i in np.linspace(0, len(listed) - 1, n_songs).astype(int)]
    whole = [encode_song(model, cut_chunks(song.samples, song.name)[:1]) for song in chosen]
    model.fisher = fisher_diagonal(model, whole)
    silence_KT = model.encode(np.zeros(10 * SAMPLE_RATE_HZ, np.float32)).cpu().numpy()
    return model, {masked: [half_silent(song, silence_KT, masked=masked) for song in whole] for masked in (True, False)}


def grid_ranks(
    model: AttributableModel, gradients: dict[bool, Gradients], layers: Layers, damping: float | None
) -> dict[str, np.ndarray]:
    """Rank of each song once it is forgotten itself, int64 `[N]` by mask, to first order.

    Args:
        model: with Fisher information.
        gradients: of the songs, by whether their silence is masked.
        layers: the weights that forget.
        damping: of the Fisher information; None leaves it out.
    """
    metric_d, of = metric(model, layers, damping), {masked: one.of(layers) for masked, one in gradients.items()}
    n: Sequence[int] = range(len(of[True]))
    return {
        mask: ranks_of_own_song(first_order_scores(of[forgotten], of[compared], metric_d), n)
        for mask, (forgotten, compared) in MASKS.items()
    }


if __name__ == "__main__":
    app()
