"""The music of the ground-truth bank: which recordings there are, and which models are trained on which of them.

Catalogs come from the scores of the demo catalog, other music also from other scores of music21's corpus
(`other_music.csv` beside this file, all of which render), in roles that each answer one question:

- `twin`: a work in two recordings, of which a model is trained on one only. Does a score tell use from likeness?
- `cell`: every one of a few scores in every one of a few instrumentations. Does P follow the score, M the sound?
- `plain`: catalog songs that have no double.
- `outside`: music of the same kind that no audited model was trained on: reference models learn from parts of it.
- `base`: music of the same kind that the base model learns from, which all models start from.
- `control`: composers that no model knows.
"""

import csv
import random
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, cast

import numpy as np
import soxr

from lumina_ray.demo.catalog import Performance, arrangement, perform
from lumina_ray.demo.songs import DemoSong, MusicPackage, demo_songs
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

Role = Literal["twin", "cell", "plain", "outside", "base", "control"]
Catalog = Literal["A", "B", "reference"]
Audited = Literal["A", "B"]
CATALOGS: tuple[Catalog, ...] = ("A", "B", "reference")
# Numbers of works from the demo catalog, by the package that they are made from; the rest is `outside`.
_TWIN_WORKS: dict[MusicPackage, int] = {"freedoom": 32, "music21": 32}
_PLAIN: dict[MusicPackage, int] = {"freedoom": 12, "music21": 12}
_CELL_SCORES = 8
# Draws of `arrange_score`: brass, organs, synthesizers, pianos, all without drums.
INSTRUMENTATIONS = (3, 4, 7, 10)
# A common factor of "sped up" versions that are published without the owner.
_SPEED_UP = 1.06


@dataclass(frozen=True)
class Recording:
    """A work as it sounds once.

    Attributes:
        work: the same for recordings of one score.
        variant: "original" is the demo catalog's own version; "rearranged" has other instruments and another tempo,
            "sped_up" is the original played 6 % too fast; "instruments-N" is arranged as other works with that N are.
        side: of a twin or a cell, which of the two catalogs A and B it belongs to; "" for others.
    """

    song: DemoSong
    role: Role
    variant: str
    side: Literal["", "A", "B"] = ""

    @property
    def work(self) -> str:
        return self.song.song_id

    @property
    def recording_id(self) -> str:
        return f"{self.work}.{self.variant}"


def corpus(seed: int = 0) -> tuple[Recording, ...]:
    """Every recording of the bank, in a fixed order. Which twin belongs to which catalog is drawn by `seed`."""
    rng = random.Random(f"corpus {seed}")
    songs = [song for song in demo_songs() if song.part == "catalog"]
    rng.shuffle(songs)
    by_kind = {kind: [song for song in songs if song.kind == kind] for kind in _TWIN_WORKS}
    recordings: list[Recording] = []
    for kind, n_works in _TWIN_WORKS.items():
        for number, song in enumerate(_take(by_kind[kind], n_works)):
            sides: list[Literal["A", "B"]] = ["A", "B"]
            rng.shuffle(sides)
            other = "rearranged" if number % 2 else "sped_up"
            recordings += [Recording(song, "twin", "original", sides[0]), Recording(song, "twin", other, sides[1])]
    for number, song in enumerate(_take(by_kind["music21"], _CELL_SCORES)):
        recordings += [
            Recording(song, "cell", f"instruments-{i}", "A" if (number + column) % 2 == 0 else "B")
            for column, i in enumerate(INSTRUMENTATIONS)
        ]
    for kind, n_songs in _PLAIN.items():
        recordings += [Recording(song, "plain", "original") for song in _take(by_kind[kind], n_songs)]
    recordings += [Recording(song, "outside", "original") for left in by_kind.values() for song in left]
    recordings += [Recording(song, "control", "original") for song in demo_songs() if song.part != "catalog"]
    recordings += [Recording(song, role, "original") for role, song in other_music()]
    return tuple(recordings)


def other_music() -> list[tuple[Role, DemoSong]]:
    """Scores of music21's corpus that the demo does not use, and what a bank uses them for."""
    with (files("lumina_ray.truth") / "other_music.csv").open(encoding="utf-8") as file:
        return [
            (
                cast(Role, row["role"]),
                DemoSong(
                    "controls" if row["role"] == "control" else "catalog",
                    "music21",
                    row["ref"],
                    "other-" + re.sub(r"[^a-z0-9]+", "-", row["ref"].lower()),
                    row["ref"],
                    row["creator"],
                    row["style"] or None,
                    row["form"] or None,
                ),
            )
            for row in csv.DictReader(file)
        ]


def members(recordings: tuple[Recording, ...], catalog: Catalog) -> list[int]:
    """Positions of the recordings that a model of that catalog is trained on.

    A and B hold opposite twins and cells and the same plain songs; the reference shares nothing with either.
    """
    if catalog == "reference":
        return [i for i, recording in enumerate(recordings) if recording.role == "outside"]
    return [i for i, recording in enumerate(recordings) if recording.side == catalog or recording.role == "plain"]


def record(recording: Recording) -> np.ndarray:
    """A recording at 32 kHz, float32 `[n]`: 20 s, or what 20 s become when they are sped up.

    Raises:
        UsageError: a package with scores or sounds is missing.
    """
    return play(recording).samples


def play(recording: Recording) -> Performance:
    """A recording as `record` gives it, and its caption.

    Raises:
        UsageError: a package with scores or sounds is missing.
    """
    song = recording.song
    if recording.variant == "original":
        return perform(song, arrangement(song, seed=0))
    if recording.variant == "sped_up":
        original = perform(song, arrangement(song, seed=0))
        faster = soxr.resample(original.samples, SAMPLE_RATE_HZ * _SPEED_UP, SAMPLE_RATE_HZ)
        return Performance(faster, original.caption)
    if recording.variant == "rearranged":
        return perform(song, arrangement(song, seed=1))
    return perform(song, random.Random(recording.variant))


def _take(songs: list[DemoSong], n: int) -> list[DemoSong]:
    taken = songs[:n]
    del songs[:n]
    return taken
