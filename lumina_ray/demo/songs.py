"""The songs of the demo: a fixed table, read from `songs.csv` beside this file.

No composer and no arranger of a control is also in the catalog. Freedoom's composers are those that its release 0.13.0
names (CREDITS-MUSIC); the vizdoom package carries the music of that release byte for byte.

`style` and `form` are judgements: of scores by their titles, collections and eras, of Freedoom's bands by what their
files play (distorted guitars with drums are metal, few notes and hardly a drum are ambient). Nobody listened to them.
"""

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal, cast

Part = Literal["catalog", "controls", "queries"]
MusicPackage = Literal["freedoom", "music21", "immich"]
PARTS: tuple[Part, ...] = ("catalog", "controls", "queries")

LICENCES: dict[MusicPackage, str] = {
    "freedoom": "BSD-3-Clause (Freedoom)",
    "music21": "work in the public domain; encoding distributed by permission (music21 corpus/license.txt)",
    "immich": "MIT (immich-memories-music)",
}
SOURCES: dict[MusicPackage, str] = {
    "freedoom": "Freedoom 0.13.0 in vizdoom",
    "music21": "music21 corpus",
    "immich": "immich-memories-music, generated with ACE-Step 1.5",
}


@dataclass(frozen=True)
class DemoSong:
    """One song of the demo.

    Attributes:
        part: the manifest that the song belongs to. Ground-truth banks store this name.
        kind: the package that the song is made from. Ground-truth banks store this name.
        ref: the song's place in that package: `WAD:LUMP`, a path in music21's corpus, or the path of an audio file.
        song_id: the song's id, unique over all parts, and the stem of its audio file.
        title: the title of the work.
        creator: who wrote or arranged the work.
        style: the style of the work in one word, for its caption; None where no word fits.
        form: the form of the work, or what it was written for; None where neither is known.
    """

    part: Part
    kind: MusicPackage
    ref: str
    song_id: str
    title: str
    creator: str
    style: str | None = None
    form: str | None = None

    @property
    def audio_path(self) -> str:
        """Path of the audio file, relative to the demo's folder."""
        return f"audio/{self.part}/{self.song_id}.flac"

    @property
    def licence(self) -> str:
        """The licence of the package's music."""
        return LICENCES[self.kind]

    @property
    def source(self) -> str:
        """The package and the song's place in it, for manifests and error messages."""
        return f"{SOURCES[self.kind]}: {self.ref}"


@cache
def demo_songs() -> tuple[DemoSong, ...]:
    """Every song of the demo, in the order of the table."""
    text = files("lumina_ray.demo").joinpath("songs.csv").read_text(encoding="utf-8")
    return tuple(
        DemoSong(
            part=cast(Part, row["part"]),
            kind=cast(MusicPackage, row["kind"]),
            ref=row["ref"],
            song_id=row["song_id"],
            title=row["title"],
            creator=row["creator"],
            style=row["style"] or None,
            form=row["form"] or None,
        )
        for row in csv.DictReader(text.splitlines())
    )
