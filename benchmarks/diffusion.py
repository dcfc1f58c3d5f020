"""Fingerprints of a diffusion transformer, measured: the tables of docs/diffusion.md, one command each.

    uv run --no-sync lumina catalog demo --out demo
    uv run --no-sync python -m benchmarks.diffusion cost demo/catalog.parquet
    uv run --no-sync python -m benchmarks.diffusion draws demo/catalog.parquet
    uv run --no-sync python -m benchmarks.diffusion find demo/catalog.parquet
    uv run --no-sync lumina truth build --family dit --out build/dit-bank
    uv run --no-sync python -m benchmarks.diffusion lds build/dit-bank --split dev

Times are of the processor, in one process on one core, so that other programs hardly change them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import numpy as np
import typer

from benchmarks.environment import describe_machine
from lumina_ray.audio import Chunk, cut_chunks
from lumina_ray.fingerprint import Fingerprinter, Specification, encode_song
from lumina_ray.fingerprint.kinds import KINDS_OF
from lumina_ray.model import AttributableModel, open_model
from lumina_ray.training.data import load_songs
from lumina_ray.truth.dit_bank import agreement, agreement_of, diversity, load_dit_bank, untrained
from lumina_ray.truth.measures import Resampled
from lumina_ray.truth.queries import Split
from lumina_ray.truth.scores import ScoredChannel
from lumina_ray.vocabulary import CHANNELS, Channel, Draws, Kind, SongCodes

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
KINDS: tuple[Kind, ...] = ("stats", "jl", "gradient", "logra", "factgrass", "head-gradient", "d-trak")
_OTHER_SEED = 1

CatalogArgument = Annotated[Path, typer.Argument(metavar="MANIFEST", help="Songs of 20 s or more.")]
ModelOption = Annotated[str, typer.Option(help="A diffusion transformer.")]
KindOption = Annotated[list[str] | None, typer.Option(help="A kind of fingerprint; may be given several times.")]
DrawsOption = Annotated[int, typer.Option(min=2, help="Draws of time and noise of each loss; even.")]


@app.command()
def cost(
    catalog: CatalogArgument,
    model: ModelOption = "nano-dit",
    beside: Annotated[str, typer.Option(help="A MusicGen.")] = "nano",
    repeats: Annotated[int, typer.Option(min=1, help="The median of so many is shown.")] = 3,
) -> None:
    """Processor time of a chunk of 10 s under both families, in turns, and the ratio."""
    print(describe_machine())
    (chunk,) = _chunks(catalog, 1, 1)[0]
    models = {name: open_model(name) for name in (beside, model)}
    encoded = {name: encode_song(one, [chunk]) for name, one in models.items()}
    tasks: dict[str, dict[str, Callable[[], object]]] = {
        "encoding": {name: lambda one=one: encode_song(one, [chunk]) for name, one in models.items()}  # type: ignore[misc]
    }
    for kind in KINDS:
        having = {name: one for name, one in models.items() if kind in KINDS_OF[one.representation.name]}
        tasks[kind] = {
            name: lambda made=_fingerprinter(one, kind), codes=encoded[name]: made(codes)  # type: ignore[misc]
            for name, one in having.items()
        }
    print(f"{'CPU s of 10 s':14} {beside:>10} {model:>10}  ratio")
    for task, by_model in tasks.items():
        seconds: dict[str, list[float]] = {name: [] for name in by_model}
        for _ in range(repeats):
            for name, run in by_model.items():
                begin_s = time.process_time()
                run()
                seconds[name].append(time.process_time() - begin_s)
        shown = [f"{median(seconds[name]):10.3f}" if name in seconds else " " * 10 for name in (beside, model)]
        ratio = f"{median(seconds[model]) / median(seconds[beside]):6.1f}" if len(seconds) == 2 else ""
        print(f"{task:14} {' '.join(shown)} {ratio}", flush=True)


@app.command()
def draws(
    catalog: CatalogArgument,
    model: ModelOption = "nano-dit",
    kind: KindOption = None,
    count: DrawsOption = 48,
    songs: Annotated[int, typer.Option(min=1, help="Songs, one chunk of each.")] = 6,
) -> None:
    """Cosine of two fingerprints of a song that share no draw: how much of a fingerprint is not chance."""
    opened = open_model(model)
    encoded = [encode_song(opened, chunks) for chunks in _chunks(catalog, songs, 1)]
    print(f"cosine under two sets of {count} draws: mean (smallest) over {songs} songs")
    for name in kind or KINDS:
        one, other = (_vectors(opened, name, encoded, Draws(count, seed)) for seed in (0, _OTHER_SEED))
        cosines = {c: (one[c] * other[c]).sum(axis=1) for c in CHANNELS}
        print(
            f"{name:10} " + "  ".join(f"{c} {of.mean():.3f} ({of.min():.3f})" for c, of in cosines.items()), flush=True
        )


@app.command()
def find(
    catalog: CatalogArgument,
    model: ModelOption = "nano-dit",
    kind: KindOption = None,
    count: DrawsOption = 16,
    songs: Annotated[int, typer.Option(min=2, help="Songs, evenly out of the catalog.")] = 24,
) -> None:
    """Rank of a song's first 10 s among those of all songs, asked by its next 10 s: what a kind hears of a song."""
    opened = open_model(model)
    chunks = _chunks(catalog, songs, 2)
    first, second = ([encode_song(opened, [of_song[i]]) for of_song in chunks] for i in (0, 1))
    print(f"mean rank of the own song among {songs} (how often it is first), {count} draws")
    for name in kind or KINDS:
        begin_s = time.process_time()
        asked, kept = (_vectors(opened, name, of, Draws(count, 0)) for of in (second, first))
        seconds = (time.process_time() - begin_s) / (2 * songs)
        cells = []
        for channel in CHANNELS:
            similarity_NN = asked[channel] @ kept[channel].T
            ranks = 1 + (similarity_NN > np.diag(similarity_NN)[:, None]).sum(axis=1)
            cells.append(f"{channel} {ranks.mean():5.2f} ({(ranks == 1).mean():.2f})")
        print(f"{name:10} {'  '.join(cells)}  {seconds:.2f} CPU s of 10 s", flush=True)


@app.command()
def lds(
    bank: Annotated[Path, typer.Argument(help="A bank of diffusion transformers.")],
    split: Annotated[Split, typer.Option(help="dev is for choosing.")] = "dev",
    kind: KindOption = None,
) -> None:
    """Agreement of cosines of fingerprints with retraining, and how far it is ahead of what does without the model.

    Floors are the same fingerprints of random weights and of the model that all others start from, and latents alone:
    mean (P) and spread (M) of each row.
    """
    of_bank = load_dit_bank(bank)
    print("worth so many queries:", {of: round(n, 1) for of, n in diversity(of_bank, split).items()})
    latents = agreement_of(of_bank, split, latent_statistics)
    _print_agreement("latents", latents, {})
    for name in kind or KINDS:
        found = agreement(of_bank, name, split)
        floors = {
            "untrained": agreement(of_bank, name, split, untrained(of_bank)),
            "base": agreement(of_bank, name, split, of_bank.start.weights),
            "latents": latents,
        }
        _print_agreement(name, found, floors)


def latent_statistics(pieces: Sequence[SongCodes]) -> dict[Channel, np.ndarray]:
    """Mean (P) and standard deviation (M) of each row of latents over frames with sound: unit vectors `[n, C]`."""
    heard = [
        np.concatenate([chunk[:, heard_T] for chunk, heard_T in zip(piece.chunks, piece.heard, strict=True)], axis=1)
        for piece in pieces
    ]
    made: dict[Channel, np.ndarray] = {
        "P": np.stack([of.mean(axis=1, dtype=np.float64) for of in heard]),
        "M": np.stack([of.std(axis=1, dtype=np.float64) for of in heard]),
    }
    return {c: vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for c, vectors in made.items()}


def _print_agreement(
    name: str,
    found: Mapping[str, Mapping[ScoredChannel, Resampled]],
    floors: Mapping[str, Mapping[str, Mapping[ScoredChannel, Resampled]]],
) -> None:
    for of, by_channel in found.items():
        for c, one in by_channel.items():
            ahead = ", ".join(f"{floor} {(one - judged[of][c]).estimate}" for floor, judged in floors.items())
            print(f"{name:14} {of:10} {c:4} {one.estimate}  ahead of: {ahead}", flush=True)


def _chunks(catalog: Path, n_songs: int, n_chunks: int) -> list[list[Chunk]]:
    """The first chunks of some songs, evenly out of the catalog."""
    listed = load_songs(catalog)
    chosen = [listed[i] for i in np.linspace(0, len(listed) - 1, n_songs).astype(int)]
    return [cut_chunks(song.samples, song.name)[:n_chunks] for song in chosen]


def _fingerprinter(model: AttributableModel, kind: Kind, draws: Draws | None = None) -> Fingerprinter:
    specification = Specification.for_model(model, kind)
    return Fingerprinter(model, replace(specification, draws=draws or specification.draws))


def _vectors(
    model: AttributableModel, kind: Kind, songs: Sequence[SongCodes], draws: Draws
) -> dict[Channel, np.ndarray]:
    """Unit vectors, float32 `[n, D]` by channel."""
    fingerprinter = _fingerprinter(model, kind, draws)
    made = [fingerprinter(codes).vectors for codes in songs]
    return {c: np.stack([of[c] for of in made]) for c in CHANNELS}


if __name__ == "__main__":
    app()
