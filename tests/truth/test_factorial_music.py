"""The factorial set's design: what is in which part, and how a score is arranged. Nothing is rendered."""

from collections import Counter

import mido
import pytest

from lumina_ray.demo.scores import package_folder
from lumina_ray.truth.factorial_music import (
    CLIP_S,
    PARTS,
    PASSAGE_S,
    TEMPO,
    Clip,
    Ensemble,
    arrange,
    clips,
    ensembles,
    scores,
)

JUDGED = ("dev", "test")


def programs(part: str) -> set[int]:
    return {program for ensemble in ensembles(part) for program in ensemble.programs}


def test_no_score_and_no_program_is_in_two_parts() -> None:
    for of in (lambda part: set(scores(part)), programs):
        sets = [of(part) for part in PARTS]
        assert len(set.union(*sets)) == sum(map(len, sets))


def test_every_score_is_in_the_corpus() -> None:
    corpus = package_folder("music21") / "corpus"
    assert not [ref for part in PARTS for ref in scores(part) if not (corpus / ref).is_file()]


@pytest.mark.parametrize("part", JUDGED)
def test_the_grid_is_complete(part: str) -> None:
    assert len(scores(part)) >= 30
    assert len(ensembles(part)) >= 6
    of_variant = Counter(clip.variant for clip in clips(part))
    n = len(scores(part))
    assert of_variant == {"grid": 6 * n, "passage": 2 * n, "transposed": 2 * n, "quieter": 2 * n}
    assert len({clip.clip_id for clip in clips(part)}) == len(clips(part))
    # Harder queries ask in every sound, about as often.
    asked = Counter(clip.ensemble.name for clip in clips(part) if clip.variant == "passage")
    assert max(asked.values()) - min(asked.values()) <= 2


@pytest.mark.parametrize("part", PARTS)
def test_clips_are_the_same_each_time_and_within_what_is_said(part: str) -> None:
    assert list(clips(part)) == list(clips(part))
    for clip in clips(part):
        assert 1 - TEMPO <= clip.tempo <= 1 + TEMPO
        assert clip.semitones == 0 or (clip.variant == "transposed" and abs(clip.semitones) == 2)


def test_passages_do_not_overlap_at_any_tempo() -> None:
    assert PASSAGE_S > CLIP_S * (1 + TEMPO)


def test_a_quieter_clip_differs_in_level_alone() -> None:
    by_id = {clip.clip_id: clip for part in JUDGED for clip in clips(part)}
    quieter = [clip for clip in by_id.values() if clip.variant == "quieter"]
    for clip in quieter:
        grid: Clip = by_id[clip.clip_id.replace("/quieter", "/grid")]
        assert clip.peak_dbfs == grid.peak_dbfs - 6
        assert (clip.tempo, clip.begin_s, clip.semitones) == (grid.tempo, grid.begin_s, grid.semitones)


def test_voices_get_instruments_by_height() -> None:
    score = mido.MidiFile(ticks_per_beat=480)
    for notes in ((60, 62), (76, 74), (40, 43), (64, 65)):
        track = mido.MidiTrack([mido.Message("program_change", program=7)])
        for note in notes:
            track += [mido.Message("note_on", note=note), mido.Message("note_off", note=note, time=480)]
        score.tracks.append(track)
    score.tracks.insert(0, mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=400_000)]))
    made = arrange(score, Ensemble("any", highest=1, middle=2, lowest=3), semitones=-2)
    used = [{message.program for message in track if message.type == "program_change"} for track in made.tracks]
    assert used == [set(), {2}, {1}, {3}, {2}]
    assert [message.note for message in made.tracks[2] if message.type == "note_on"] == [74, 72]
    assert made.length == score.length
    # Each voice has a channel of its own.
    assert len({message.channel for track in made.tracks for message in track if not message.is_meta}) == 4
    assert score.tracks[1][0].program == 7
