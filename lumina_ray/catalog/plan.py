"""What the demo catalog consists of: a fixed table of songs, read from `demo_songs.csv` beside this file.

The controls share no composer and no arranger with the catalog. Freedoom's composers are those of its
release 0.13.0 (CREDITS-MUSIC), whose music the vizdoom package carries byte for byte.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, cast

Part = Literal["catalog", "controls", "queries"]
Kind = Literal["freedoom", "music21", "immich"]
PARTS: tuple[Part, ...] = ("catalog", "controls", "queries")

LICENCES: dict[Kind, str] = {
    "freedoom": "BSD-3-Clause (Freedoom)",
    "music21": "work in the public domain; encoding distributed by permission (music21 corpus/license.txt)",
    "immich": "MIT (immich-memories-music)",
}
SOURCES: dict[Kind, str] = {
    "freedoom": "Freedoom 0.13.0 in vizdoom",
    "music21": "music21 corpus",
    "immich": "immich-memories-music, generated with ACE-Step 1.5",
}


@dataclass(frozen=True)
class PlannedSong:
    """One song of the demo.

    Attributes:
        part: the manifest it belongs to.
        kind: the package it is made from.
        ref: where in that package: `WAD:LUMP`, a path in music21's corpus, or a path of an audio file.
        song_id: unique over all parts, and the stem of the audio file.
    """

    part: Part
    kind: Kind
    ref: str
    song_id: str
    title: str
    creator: str

    @property
    def audio_path(self) -> str:
        """Path of the audio file, relative to the demo's folder."""
        return f"audio/{self.part}/{self.song_id}.flac"

    @property
    def licence(self) -> str:
        return LICENCES[self.kind]

    @property
    def source(self) -> str:
        return f"{SOURCES[self.kind]}: {self.ref}"


@cache
def demo_plan() -> tuple[PlannedSong, ...]:
    """Every song of the demo, in the order of the table."""
    text = files("lumina_ray.catalog").joinpath("demo_songs.csv").read_text(encoding="utf-8")
    return tuple(
        PlannedSong(
            part=cast(Part, row["part"]),
            kind=cast(Kind, row["kind"]),
            ref=row["ref"],
            song_id=row["song_id"],
            title=row["title"],
            creator=row["creator"],
        )
        for row in csv.DictReader(text.splitlines())
    )
