"""The summary of a fingerprinting job, for people and for machines."""

from dataclasses import asdict, dataclass

import pyarrow.compute as pc
from rich.console import Console

from cluster.progress import say
from lumina_ray.fingerprint import Specification
from lumina_ray.storage import Location
from lumina_ray.store import read_rows
from lumina_ray.store.equal_audio import EqualAudio
from lumina_ray.store.read import sort_rows

_LISTED_FAILURES = 20
# Where workers wait less than this, another decoder gains next to nothing.
_MUCH_WAITING = 0.1


@dataclass(frozen=True)
class Failure:
    """A song that has no fingerprint, and why."""

    song_id: str
    error_code: str
    error: str


@dataclass(frozen=True)
class JobSummary:
    """The result of a job.

    Attributes:
        songs, ok, failed: numbers of songs in the finished store.
        computed: songs that this run added; the others were there before.
        audio_s: duration of the songs that are `ok`.
        wait_fraction: fraction of the workers' time, between their first and last batch, in which they had nothing to
            compute; None where no worker had two batches.
        failures: the first failed songs, by id.
        equal_audio: recordings that several of the songs are.
    """

    store: str
    fingerprint: str
    model: str
    device: str
    workers: int
    songs: int
    ok: int
    failed: int
    computed: int
    audio_s: float
    elapsed_s: float
    decoders: int
    wait_fraction: float | None
    failures: tuple[Failure, ...]
    equal_audio: EqualAudio

    @property
    def sentence(self) -> str:
        """For people."""
        counts = f"{self.ok} {'song' if self.ok == 1 else 'songs'}, {self.failed} failed"
        if not self.computed:
            return f"{self.store} was finished before, nothing to do: {counts}"
        before = f", {self.songs - self.computed} of them before" if self.computed < self.songs else ""
        done = f"{self.store}: {counts}{before}; {self.audio_s / 60:.1f} min of audio in {self.elapsed_s:.0f} s"
        if self.wait_fraction is None:
            return done
        advice = ""
        if self.wait_fraction > _MUCH_WAITING:
            advice = f"; raise --decoders (now {self.decoders}), on more CPUs if these are busy"
        return f"{done}; workers waited for songs {self.wait_fraction:.0%} of the time{advice}"

    def to_dict(self) -> dict:
        """For machines."""
        return asdict(self) | {"failures": [asdict(failure) for failure in self.failures]}


def first_failures(store: Location, specification: Specification) -> tuple[Failure, ...]:
    """The first failed songs of a finished store, by id."""
    rows = read_rows(store, specification, ["song_id", "status", "error_code", "error"])
    failed = sort_rows(rows.filter(pc.equal(rows["status"], "failed")).drop_columns("status"))
    return tuple(Failure(**row) for row in failed.slice(0, _LISTED_FAILURES).to_pylist())


def say_faults(summary: JobSummary, console: Console) -> None:
    """Print the first failed songs, a line for each, and the songs that are one recording under several ids."""
    for failure in summary.failures:
        say(console, f"failed: {failure.song_id}: {failure.error} [{failure.error_code}]")
    if summary.failed > len(summary.failures):
        say(console, f"… and {summary.failed - len(summary.failures)} more: the rows of the store with status 'failed'")
    if summary.equal_audio.recordings:
        say(console, f"{summary.equal_audio.sentence}. Reports show each as one song, with all its ids")
