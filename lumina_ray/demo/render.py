"""Renders MIDI to samples, with the General MIDI sound font that pretty_midi carries."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lumina_ray.demo.scores import DRUM_CHANNEL, package_folder
from lumina_ray.vocabulary import SAMPLE_RATE_HZ

if TYPE_CHECKING:
    import mido
    import tinysoundfont

SONG_S = 20.0
LEAD_IN_S = 10.0
"""At most this much of a quiet beginning is cut away before the first audible block."""
BLOCK_S = 0.5
AUDIBLE_DB = -20.0
"""A block is audible when its RMS level, relative to the loudest block's, is above this."""


@dataclass(frozen=True)
class Rendering:
    """20 s of a MIDI file as sound.

    Attributes:
        samples: float32 `[640 000]`, mono, 32 kHz.
        begin_s: where they begin in the file, in seconds at the file's own speed.
        end_s: where they end in the file, likewise.
    """

    samples: np.ndarray
    begin_s: float
    end_s: float


def render(midi: "mido.MidiFile", tempo: float, peak_dbfs: float) -> Rendering:
    """Render the first 20 s of a MIDI file, from its first audible block on.

    Args:
        midi: the file.
        tempo: factor on the file's own speed.
        peak_dbfs: level of the loudest sample, in dB relative to full scale.

    Raises:
        ValueError: fewer than 20 s sound.
    """
    samples, first_note_s = play(midi, tempo, SONG_S + LEAD_IN_S)
    song = audible_part(samples)
    begin_s, end_s = (first_note_s + n / SAMPLE_RATE_HZ * tempo for n in (song.start, song.stop))
    return Rendering(level(samples[song], peak_dbfs), begin_s, end_s)


def trim(samples: np.ndarray) -> np.ndarray:
    """Cut samples, float32 `[n]`, to their `audible_part`."""
    return samples[audible_part(samples)]


def audible_part(samples: np.ndarray) -> slice:
    """Find the first 20 s of 32 kHz samples between the first and the last audible block.

    Args:
        samples: float32 `[n]`.

    Raises:
        ValueError: the samples are silent, or fewer than 20 s are left.
    """
    block = round(BLOCK_S * SAMPLE_RATE_HZ)
    blocks = samples[: len(samples) // block * block].reshape(-1, block)
    rms = np.sqrt((blocks**2).mean(axis=1))
    audible = np.flatnonzero(rms > rms.max(initial=0.0) * 10 ** (AUDIBLE_DB / 20))
    if not len(audible):
        raise ValueError("it is silent")
    begin, end = int(audible[0]) * block, (int(audible[-1]) + 1) * block
    if end - begin < SONG_S * SAMPLE_RATE_HZ:
        raise ValueError(f"only {(end - begin) / SAMPLE_RATE_HZ:.1f} s sound, {SONG_S:.0f} s are needed")
    return slice(begin, begin + round(SONG_S * SAMPLE_RATE_HZ))


def level(samples: np.ndarray, peak_dbfs: float) -> np.ndarray:
    """Scale float samples `[n]` so that the loudest has the level `peak_dbfs`; returns float32."""
    return (samples * (10 ** (peak_dbfs / 20) / np.abs(samples).max())).astype(np.float32)


def play(midi: "mido.MidiFile", tempo: float, seconds: float) -> tuple[np.ndarray, float]:
    """Render a file from its first note to its end, as it comes from the synthesizer.

    Args:
        midi: the file.
        tempo: factor on the file's own speed.
        seconds: how much is rendered at most.

    Returns:
        Float32 `[n]`, the mean of both channels, and where in the file the first note is, in seconds at the file's own
        speed.
    """
    import tinysoundfont

    synth = tinysoundfont.Synth(samplerate=SAMPLE_RATE_HZ)
    font = synth.sfload(str(package_folder("pretty_midi") / "TimGM6mb.sf2"))
    for channel in range(16):
        synth.program_select(channel, font, 0, 0, channel == DRUM_CHANNEL)
    end = round(seconds * SAMPLE_RATE_HZ)
    pieces: list[np.ndarray] = []
    rendered, file_s, first_note_s = 0, 0.0, None
    for message in midi:
        file_s += message.time
        if first_note_s is None and message.type == "note_on" and message.velocity > 0:
            first_note_s = file_s
        if first_note_s is not None:
            until = min(end, round((file_s - first_note_s) / tempo * SAMPLE_RATE_HZ))
            if until > rendered:
                pieces.append(_generate(synth, until - rendered))
                rendered = until
            if rendered == end:
                break
        _send(synth, message)
    else:
        synth.notes_off()
        pieces.append(_generate(synth, min(2 * SAMPLE_RATE_HZ, end - rendered)))
    return np.concatenate(pieces), first_note_s or 0.0


def _generate(synth: "tinysoundfont.Synth", n_samples: int) -> np.ndarray:
    stereo = np.frombuffer(synth.generate_simple(n_samples), dtype=np.float32).reshape(-1, 2)
    return stereo.mean(axis=1)


def _send(synth: "tinysoundfont.Synth", message: "mido.Message") -> None:
    match message.type:
        case "note_on" if message.velocity > 0:
            synth.noteon(message.channel, message.note, message.velocity)
        case "note_on" | "note_off":
            synth.noteoff(message.channel, message.note)
        case "program_change":
            synth.program_change(message.channel, message.program, message.channel == DRUM_CHANNEL)
        case "pitchwheel":
            synth.pitchbend(message.channel, message.pitch + 8192)
        case "control_change" if message.control not in (0, 32):
            # Bank selects are dropped, because the sound font has only the General MIDI bank.
            synth.control_change(message.channel, message.control, message.value)
