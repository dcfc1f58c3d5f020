"""At which level should audio be encoded? Asked of retraining, on the shipped bank.

The songs of catalog A, their excerpts, copies at other levels and the controls are rendered, brought to each level,
encoded by nano's codec and fingerprinted with model A (`influence`). The bank's losses are those of the excerpts as
they were.

    python -m benchmarks.level [--split dev] [--levels=-14,-16,-20]
"""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from lumina_ray.audio import CHUNK_S, Chunk
from lumina_ray.audio.level import frame_powers, frames_of, level_gain
from lumina_ray.calibration import calibrate
from lumina_ray.fingerprint import Fingerprinter, Specification, encode_song
from lumina_ray.fingerprint.music_statistics import measure_music_statistics
from lumina_ray.model import MusicModel, open_music_model
from lumina_ray.truth.bank import SHIPPED, Bank, load_bank
from lumina_ray.truth.corpus import members, record
from lumina_ray.truth.false_positives import false_positives
from lumina_ray.truth.measures import lds
from lumina_ray.truth.models import with_weights
from lumina_ray.truth.queries import TRAINED_FRAMES, songs_to_alter
from lumina_ray.vocabulary import CHANNELS, SAMPLE_RATE_HZ, Channel, SongCodes

_TRAINED = TRAINED_FRAMES * SAMPLE_RATE_HZ // 50
_CHUNK = round(CHUNK_S * SAMPLE_RATE_HZ)
_COPIES_DB = (-20, -6, 6)


def encoded(codec: MusicModel, samples: np.ndarray, level: float | None) -> SongCodes:
    """Encode samples at a level, in dB relative to full scale, or as they are."""
    if level is not None:
        samples = samples * level_gain(samples, frame_powers(samples), level)
    chunks = [
        Chunk(begin / SAMPLE_RATE_HZ, np.rint(piece * 32_767).astype(np.int16), np.ones(frames_of(len(piece)), bool))
        for begin in range(0, len(samples), _CHUNK)
        if len(piece := samples[begin : begin + _CHUNK])
    ]
    return encode_song(codec, chunks)


class Music:
    """The recordings of a bank that are asked about, rendered once: float32 `[n]` each, mono, 32 kHz."""

    def __init__(self, bank: Bank, split: str) -> None:
        self.catalog = members(bank.recordings, "A")
        controls = [i for i, recording in enumerate(bank.recordings) if recording.role == "control"]
        samples = {i: record(bank.recordings[i]).astype(np.float32) for i in (*self.catalog, *controls)}
        asked = [(n, q.recording) for n, q in enumerate(bank.queries) if q.kind == "excerpt" and q.split == split]
        works = {bank.recordings[i].work for _, i in asked}
        self.columns = [n for n, _ in asked]
        self.songs = [samples[i][:_TRAINED] for i in self.catalog]
        self.excerpts = [samples[i][_TRAINED:] for _, i in asked]
        self.controls = [samples[i][:_TRAINED] for i in controls]
        self.copied = [i for i in songs_to_alter(bank.recordings, bank.recipe.seed) if bank.recordings[i].work in works]
        self.originals = [samples[i][:_CHUNK] for i in self.copied]


def measure(bank: Bank, music: Music, codec: MusicModel, level: float | None) -> dict[Channel, list[str]]:
    """Give LDS, first places of copies by level, and false positives of the default policy, per channel."""
    model = with_weights(bank.recipe, bank.models["A"])
    songs = [encoded(codec, samples, level) for samples in music.songs]
    measure_music_statistics(model, lambda: songs, range(len(songs)))
    fingerprinter = Fingerprinter(model, Specification.for_model(model, "influence"))

    def vectors(codes: Sequence[SongCodes]) -> dict[Channel, np.ndarray]:
        made = list(fingerprinter.many(codes))
        return {channel: np.stack([one.vectors[channel] for one in made]) for channel in CHANNELS}

    catalog, excerpts, controls = (
        vectors(codes)
        for codes in (songs, *([encoded(codec, x, level) for x in of] for of in (music.excerpts, music.controls)))
    )
    copies = {
        db: vectors([encoded(codec, np.clip(x * 10 ** (db / 20), -1, 1), level) for x in music.originals])
        for db in _COPIES_DB
    }
    rows = bank.of_kind("half")
    masks_RN = bank.masks(rows, music.catalog)
    losses_RQ = bank.losses_RQK[np.ix_(rows, music.columns)].mean(axis=2, dtype=np.float64)
    out: dict[Channel, list[str]] = {}
    for channel, songs_ND in catalog.items():
        first = {db: np.array(music.catalog)[(x[channel] @ songs_ND.T).argmax(axis=1)] for db, x in copies.items()}
        alone, others = {channel: songs_ND}, {channel: controls[channel]}
        alarms = false_positives(alone, others, sizes=())[channel]
        out[channel] = [
            str(lds(excerpts[channel].astype(np.float64) @ songs_ND.T, masks_RN, losses_RQ)),
            *(f"{np.mean(found == music.copied):.2f}" for found in first.values()),
            next(str(row.any_song) for row in alarms if row.policy == "calibrated"),
            f"{calibrate(alone, others).gates[channel].critical():.3f}",
        ]
    return out


def main(
    split: Annotated[str, typer.Option(help="dev, to choose; test, to report.")] = "dev",
    levels: Annotated[str, typer.Option(help="dBFS, with commas between.")] = "-14,-16,-20,-24",
) -> None:
    """Print a table: LDS on excerpts, how often a copy finds its song, and false positives, by level."""
    bank, codec, console = load_bank(SHIPPED), open_music_model("nano", "cpu"), Console()
    music = Music(bank, split)
    table = Table("level", "", "LDS, excerpts", *(f"{db:+d} dB" for db in _COPIES_DB), "false positives", "bar")
    for level in (None, *map(float, levels.split(","))):
        for channel, row in measure(bank, music, codec, level).items():
            table.add_row("as it is" if level is None else f"{level:g}", channel, *row)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
