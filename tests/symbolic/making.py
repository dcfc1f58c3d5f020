"""MIDI files, pieces and a bank, made here."""

import io
from collections.abc import Sequence

import mido
import numpy as np

from lumina_ray.symbolic.bank import GradientSet, SymbolicBank
from lumina_ray.symbolic.features import symbolic_features
from lumina_ray.symbolic.notes import Notes
from lumina_ray.symbolic.pieces import Piece, Query
from lumina_ray.symbolic.recipe import TINY

TICKS = 480
PIECES, QUERIES = 24, 16
"""Of `known_bank`."""
Note = tuple[float, float, int, int]
"""Beginning and length in beats, pitch, velocity."""


def midi_of(notes: Sequence[Note], *, tempo: int = 1_000_000, channel: int = 0) -> mido.MidiFile:
    """A file with the notes on one channel of one track; the tempo is in microseconds a beat."""
    events = []
    for begin, length, pitch, velocity in notes:
        events.append(
            (round(begin * TICKS), 1, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity))
        )
        events.append((round((begin + length) * TICKS), 0, mido.Message("note_off", channel=channel, note=pitch)))
    track, now = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)]), 0
    for tick, _, message in sorted(events, key=lambda one: one[:2]):
        track.append(message.copy(time=tick - now))
        now = tick
    return mido.MidiFile(ticks_per_beat=TICKS, tracks=[track])


def bytes_of(midi: mido.MidiFile) -> bytes:
    """The file's bytes."""
    out = io.BytesIO()
    midi.save(file=out)
    return out.getvalue()


def random_notes(seed: int, n: int = 40) -> Notes:
    """Notes that may overlap, at 10 ms steps and 120 beats a minute."""
    rng = np.random.default_rng(seed)
    start_n = np.sort(rng.integers(0, 6 * n, n)) / 100
    end_n = start_n + rng.integers(1, 80, n) / 100
    pitch_n = rng.integers(30, 90, n)
    order_n = np.lexsort((pitch_n, start_n))
    start_n, end_n, pitch_n = start_n[order_n], end_n[order_n], pitch_n[order_n]
    return Notes(pitch_n, rng.integers(1, 128, n), start_n, end_n, 2 * start_n, 2 * end_n)


def random_pieces(n: int, windows: int, window: int, seed: int = 0) -> list[Piece]:
    """Pieces of random events."""
    rng = np.random.default_rng(seed)
    features = symbolic_features(random_notes(seed))
    return [
        Piece(f"piece-{i}", rng.integers(0, 388, (windows, window)), rng.integers(0, 388, window), features)
        for i in range(n)
    ]


def random_queries(n: int, window: int, first: int = 0, seed: int = 1) -> list[Query]:
    """Queries of random events."""
    rng = np.random.default_rng(seed)
    return [Query("excerpt", i, rng.integers(0, 388, window), first) for i in range(n)]


def known_bank() -> SymbolicBank:
    """A bank whose losses are what the gradients at the last checkpoint say; all other gradients are random."""
    n_models, D = 20, 40
    rng = np.random.default_rng(0)
    pieces_ND, queries_QD = rng.standard_normal((PIECES, D)), rng.standard_normal((QUERIES, D))
    masks_RN = np.stack([rng.permutation(PIECES) < PIECES // 2 for _ in range(n_models)])

    def random_set(checkpoints: int) -> GradientSet:
        drawn = rng.standard_normal((checkpoints, PIECES + QUERIES, D)).astype(np.float32)
        return GradientSet(drawn[:, :PIECES], drawn[:, PIECES:], np.ones((checkpoints, PIECES)))

    whole = random_set(2)
    whole.pieces_CND[-1], whole.queries_CQD[-1] = pieces_ND, queries_QD
    features = [symbolic_features(random_notes(i)) for i in range(PIECES)]
    return SymbolicBank(
        recipe=TINY,
        names=tuple(f"piece-{i:02}" for i in range(PIECES)),
        features={name: np.stack([one[name] for one in features]) for name in features[0]},
        kinds=("excerpt",) * (QUERIES // 2) + ("generated",) * (QUERIES // 2),
        of_Q=np.arange(QUERIES) % (QUERIES // 2),
        masks_RN=masks_RN,
        losses_RQ=-(masks_RN @ pieces_ND @ queries_QD.T),
        whole_Q=np.full(QUERIES, 1.0),
        untrained_Q=np.full(QUERIES, 2.0),
        rates_C=np.array([0.0, 1.0]),
        classes_N=rng.dirichlet(np.ones(12), PIECES),
        classes_Q=rng.dirichlet(np.ones(12), QUERIES),
        gradients={"whole": whole, "ensemble": random_set(2), "untrained": random_set(1)},
    )
