"""Trains `nano-reference`: a smaller MusicGen with nano's codec that was trained on none of the demo's music.

    python -m lumina_ray.training.reference --out build/nano-reference

`lumina use` compares nano with it. The scores come from music21's corpus, and are rendered as the demo catalog's are.
"""

import json
import os
import random
from pathlib import Path
from typing import Annotated

import torch
import typer

from lumina_ray.demo.catalog import perform
from lumina_ray.demo.scores import package_folder
from lumina_ray.demo.songs import DemoSong, demo_songs
from lumina_ray.files import atomic_path
from lumina_ray.model.files import find_model
from lumina_ray.model.transformers_adapter import TransformersMusicGen
from lumina_ray.storage import local
from lumina_ray.training.data import Song
from lumina_ray.training.export import as_music_model, export, new_musicgen
from lumina_ray.training.lm import LmSchedule, encode_chunks, train_lm

CODEC_OF = "nano"
N_SONGS = 120
# Scores of the same styles as the catalog's, by composers of no control.
_SCORES = ("bach/*.mxl", "monteverdi/*.mxl", "mozart/*/*.mxl", "palestrina/*.krn")
_PASSES, _BATCH = 6, 4


def scores(seed: int) -> list[DemoSong]:
    """List works that the demo does not use, in an order drawn by `seed`; there are more than `N_SONGS`."""
    corpus, known = package_folder("music21") / "corpus", {song.ref for song in demo_songs()}
    refs = {pattern: [str(path.relative_to(corpus)) for path in sorted(corpus.glob(pattern))] for pattern in _SCORES}
    rng = random.Random(f"reference {seed}")
    queues = [[ref for ref in rng.sample(works, len(works)) if ref not in known] for works in refs.values()]
    # Collections take turns, because most works are in the largest one.
    turns = [ref for i in range(max(map(len, queues))) for queue in queues for ref in queue[i : i + 1]]
    return [DemoSong("queries", "music21", ref, f"reference-{i:03}", ref, "") for i, ref in enumerate(turns)]


def play(songs: list[DemoSong], n: int, seed: int) -> list[Song]:
    """Render the first `n` works that last 20 s. Each is named by its path in the corpus."""
    played: list[Song] = []
    for song in songs:
        if len(played) == n:
            break
        try:
            performance = perform(song, random.Random(f"{seed}/{song.ref}"))
        except Exception:  # The work is too short, or music21 cannot read it; its parsers can raise anything.
            continue
        played.append(Song(song.ref, performance.samples))
    return played


def train_reference(out: str | os.PathLike[str], n_songs: int = N_SONGS, seed: int = 0) -> list[str]:
    """Render and encode works, train a model on them, and write it in the transformers format.

    Args:
        out: folder for the model, on a file system. `music.json` in it names the works.
        n_songs: number of works.
        seed: seed of the order of works, their arrangements and the training.

    Returns:
        The works' paths in music21's corpus.

    Raises:
        UsageError: a package of the demo is missing.
    """
    out = local(out)
    torch.set_num_threads(1)
    source = TransformersMusicGen.load(find_model(CODEC_OF), CODEC_OF, "cpu")
    songs = play(scores(seed), n_songs, seed)
    chunks = [codes_KT for of_song in encode_chunks(source, songs) for codes_KT in of_song]
    model = new_musicgen(source.model.audio_encoder, n_layers=8, dim=96, heads=2, seed=seed)
    steps = round(_PASSES * len(chunks) / _BATCH)

    def report(metrics: dict[str, float], _: dict) -> None:
        typer.echo(f"step {metrics['step']:.0f} of {steps}: {metrics['loss']:.3f} nats a code", err=True)

    train_lm(as_music_model(model), chunks, LmSchedule(steps, steps, _BATCH), seed=seed, report=report, report_every=20)
    export(model, out)
    names = [song.name for song in songs]
    with atomic_path(out / "music.json") as temporary:
        temporary.write_text(json.dumps(names, indent=1) + "\n")
    return names


def main(
    out: Annotated[Path, typer.Option(help="Folder for the model.")],
    songs: Annotated[int, typer.Option(min=1)] = N_SONGS,
    seed: int = 0,
) -> None:
    """Train nano's reference model."""
    names = train_reference(out, songs, seed)
    typer.echo(f"{out}: trained on {len(names)} works")


if __name__ == "__main__":
    typer.run(main)
