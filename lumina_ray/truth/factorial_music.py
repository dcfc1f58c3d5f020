"""The music of the factorial set: every one of many scores, played by every one of several ensembles.

In such a grid, score and sound are apart: a clip has others with its score and other instruments, others with its
instruments and another score, and others that share neither. Scores come from music21's corpus (`factorial_scores.csv`
beside this file); no score and no General MIDI program is in two parts.

- `train`: what maps of evidence learn from (`lumina_ray.evidence`).
- `dev`: what they are chosen on.
- `test`: what is reported.
"""

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np

from lumina_ray.demo.render import level, play
from lumina_ray.demo.scores import DRUM_CHANNEL, corpus_midi
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import mido

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = get_args(Part)
Variant = Literal["grid", "passage", "transposed", "quieter"]
VARIANTS: dict[Variant, str] = {
    "grid": "a clip of the grid itself",
    "passage": "another passage of the same piece, in the same sound",
    "transposed": "the same passage two semitones higher or lower",
    "quieter": "the same passage 6 dB quieter",
}
"""What asks. Only clips of the grid are found; other variants are queries alone, of two ensembles for each score."""

CLIP_S = 10.0
PASSAGE_S = 11.0
"""Where the other passage begins, at the score's own speed: after the end of the first one at the fastest tempo."""
TEMPO = 0.06
PEAK_DBFS = (-13.0, -1.0)
SEMITONES = 2
QUIETER_DB = 6.0
_VARIED = 2
_TRAIN_ENSEMBLES, _TRAIN_PER_SCORE = 80, 20


@dataclass(frozen=True)
class Ensemble:
    """Instruments of a clip, as General MIDI programs counted from zero.

    Attributes:
        highest: what plays the voice with the highest mean pitch.
        middle: what plays all other voices.
        lowest: what plays the voice with the lowest mean pitch.
    """

    name: str
    highest: int
    middle: int
    lowest: int

    @property
    def programs(self) -> tuple[int, int, int]:
        return self.highest, self.middle, self.lowest


_JUDGED: dict[Part, tuple[Ensemble, ...]] = {
    "dev": (
        Ensemble("keys", 6, 0, 35),
        Ensemble("guitars", 25, 27, 34),
        Ensemble("bowed", 40, 44, 42),
        Ensemble("choir and brass", 56, 52, 66),
        Ensemble("wind and organ", 73, 68, 19),
        Ensemble("synthesizers", 80, 91, 38),
    ),
    "test": (
        Ensemble("pianos", 1, 4, 33),
        Ensemble("plucked", 24, 46, 32),
        Ensemble("strings", 41, 48, 43),
        Ensemble("brass", 57, 60, 58),
        Ensemble("reeds", 65, 71, 70),
        Ensemble("electric", 81, 89, 39),
    ),
}
# Programs that no ensemble above has; left out are what sounds in fifths, drums, noises and effects.
_TRAIN_HIGH = (
    *(2, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 21, 22, 23, 26, 28, 29, 31, 45, 49, 50, 53, 54, 59, 62, 63),
    *(64, 69, 72, 74, 75, 76, 77, 78, 79, 82, 83, 84, 85, 88, 90, 92, 93, 94, 96, 98, 99, 100, 103),
    *(104, 105, 106, 107, 108, 109, 110, 111, 114),
)
_TRAIN_LOW = (36, 37, 67, 87, 17, 30, 51, 95, 2, 5, 61)


@dataclass(frozen=True)
class Clip:
    """Ten seconds of a score as an ensemble plays it.

    Attributes:
        score: the score's path in music21's corpus.
        tempo: factor on the score's own speed.
        begin_s: where the clip begins, in seconds after the score's first note at its own speed.
        peak_dbfs: level of the loudest sample, in dB relative to full scale.
    """

    part: Part
    score: str
    ensemble: Ensemble
    variant: Variant
    tempo: float
    begin_s: float
    semitones: int
    peak_dbfs: float

    @property
    def clip_id(self) -> str:
        return f"{self.score}/{self.ensemble.name}/{self.variant}"


@cache
def scores(part: Part) -> tuple[str, ...]:
    """List the scores of a part: paths in music21's corpus."""
    text = (files("lumina_ray.truth") / "factorial_scores.csv").read_text(encoding="utf-8")
    return tuple(row["ref"] for row in csv.DictReader(text.splitlines()) if cast(Part, row["part"]) == part)


@cache
def ensembles(part: Part) -> tuple[Ensemble, ...]:
    """List the ensembles of a part. Those of `train` are drawn, and share programs among each other."""
    if part in _JUDGED:
        return _JUDGED[part]
    rng = random.Random("factorial ensembles")
    drawn = []
    for n in range(_TRAIN_ENSEMBLES):
        highest, middle = rng.sample(_TRAIN_HIGH, 2)
        drawn.append(Ensemble(f"drawn {n + 1}", highest, middle, rng.choice(_TRAIN_LOW)))
    return tuple(drawn)


def clips(part: Part) -> tuple[Clip, ...]:
    """List the clips of a part, score by score; tempo and level of each follow from its id alone."""
    return tuple(clip for number, score in enumerate(scores(part)) for clip in _of_score(part, number, score))


def _of_score(part: Part, number: int, score: str) -> Iterator[Clip]:
    band = ensembles(part)
    if part == "train":
        first = number * _TRAIN_PER_SCORE
        for n in range(_TRAIN_PER_SCORE):
            ensemble = band[(first + n) % len(band)]
            # Passages alternate, so that what is learned of a score's ensembles is not one passage's.
            yield _drawn(part, score, ensemble, "passage" if n % 2 else "grid")
        return
    for n, ensemble in enumerate(band):
        yield _drawn(part, score, ensemble, "grid")
        if (n - number) % len(band) < _VARIED:
            for variant in ("passage", "transposed", "quieter"):
                yield _drawn(part, score, ensemble, cast(Variant, variant))


def _drawn(part: Part, score: str, ensemble: Ensemble, variant: Variant) -> Clip:
    # A quieter clip is the grid's own in all but its level.
    rng = random.Random(f"factorial/{score}/{ensemble.name}/{'grid' if variant == 'quieter' else variant}")
    tempo, peak_dbfs = rng.uniform(1 - TEMPO, 1 + TEMPO), rng.uniform(*PEAK_DBFS)
    return Clip(
        part=part,
        score=score,
        ensemble=ensemble,
        variant=variant,
        tempo=tempo,
        begin_s=PASSAGE_S if variant == "passage" else 0.0,
        semitones=rng.choice((-SEMITONES, SEMITONES)) if variant == "transposed" else 0,
        peak_dbfs=peak_dbfs - (QUIETER_DB if variant == "quieter" else 0.0),
    )


def render_part(part: Part) -> Iterator[tuple[Clip, np.ndarray]]:
    """Render the clips of a part, in the order of `clips`: float32 `[320 000]` each, mono, 32 kHz.

    Raises:
        UsageError: a package with scores or sounds is missing.
    """
    of_score: dict[str, list[Clip]] = {}
    for clip in clips(part):
        of_score.setdefault(clip.score, []).append(clip)
    for score, wanted in of_score.items():
        midi = corpus_midi(score)
        for clip in wanted:
            yield clip, render_clip(midi, clip)


def render_clip(midi: "mido.MidiFile", clip: Clip) -> np.ndarray:
    """Render a clip of its score: float32 `[320 000]`, mono, 32 kHz.

    Raises:
        ValueError: the score ends before the clip does.
    """
    begin, n = round(clip.begin_s / clip.tempo * SAMPLE_RATE_HZ), round(CLIP_S * SAMPLE_RATE_HZ)
    samples, _ = play(arrange(midi, clip.ensemble, clip.semitones), clip.tempo, (begin + n) / SAMPLE_RATE_HZ)
    if len(samples) < begin + n:
        raise ValueError(f"{clip.clip_id}: the score ends after {len(samples) / SAMPLE_RATE_HZ:.1f} s")
    return level(samples[begin:], clip.peak_dbfs)


def arrange(midi: "mido.MidiFile", ensemble: Ensemble, semitones: int = 0) -> "mido.MidiFile":
    """Copy a score with the instruments of an ensemble, so many semitones higher.

    Args:
        midi: the score, with one track for each voice; it is not changed.
        ensemble: its instruments, by mean pitch of the voices.
        semitones: added to every note.
    """
    import mido

    heights = {
        number: float(np.mean([message.note for message in track if message.type == "note_on"]))
        for number, track in enumerate(midi.tracks)
        if any(message.type == "note_on" for message in track)
    }
    by_height = sorted(heights, key=lambda number: heights[number])
    channels = [channel for channel in range(16) if channel != DRUM_CHANNEL]
    out = mido.MidiFile(type=midi.type, ticks_per_beat=midi.ticks_per_beat)
    for number, track in enumerate(midi.tracks):
        if number not in heights:
            out.tracks.append(track)
            continue
        program = ensemble.middle
        if number == by_height[0]:
            program = ensemble.lowest
        elif number == by_height[-1]:
            program = ensemble.highest
        channel = channels[by_height.index(number) % len(channels)]
        voice = mido.MidiTrack([mido.Message("program_change", program=program, channel=channel)])
        for message in track:
            voice.append(_moved(message, channel, program, semitones))
        out.tracks.append(voice)
    return out


def _moved(message: "mido.Message", channel: int, program: int, semitones: int) -> "mido.Message":
    if message.is_meta:
        return message
    match message.type:
        case "note_on" | "note_off":
            return message.copy(channel=channel, note=min(max(message.note + semitones, 0), 127))
        case "program_change":
            return message.copy(channel=channel, program=program)
        case _:
            return message.copy(channel=channel)
