"""Status of a store, from its files alone: while a job fills it or after the job died, from any machine."""

import time
from dataclasses import asdict, dataclass
from typing import Literal

from lumina_ray.storage import AnyPath, locate
from lumina_ray.store.data_files import DataFile, StoreCounter, Tally
from lumina_ray.store.equal_audio import EqualAudio, equal_audio
from lumina_ray.store.run import FAULT_FILE, SUCCESS_FILE, read_run

# The rate is measured over so many seconds before the last commit: an earlier interruption does not count.
_WINDOW_S = 600.0


@dataclass(frozen=True)
class StoreStatus:
    """Songs that are committed to a store. Files do not tell whether a job is working on it.

    Attributes:
        state: "condemned" when a worker's numbers were found to be wrong.
        songs: number of songs in the manifest; `ok` and `failed` of them have a row.
        failures: failed songs by error code.
        audio_s: duration of the songs that are `ok`.
        last_commit_s: seconds since the last commit, by this machine's clock and the storage's.
        songs_per_s, audio_s_per_s: rates over the last commits, at most ten minutes of them; None where there are too
            few.
        equal_audio: recordings that several of the songs are.
        eta_s: seconds that the remaining songs would take at that rate.
    """

    store: str
    state: Literal["finished", "unfinished", "condemned"]
    songs: int
    ok: int
    failed: int
    failures: dict[str, int]
    audio_s: float
    last_commit_s: float | None
    songs_per_s: float | None
    audio_s_per_s: float | None
    eta_s: float | None
    equal_audio: EqualAudio

    @property
    def sentence(self) -> str:
        """For people."""
        lines = [f"{self.store}: {self.state}, {self.ok + self.failed} of {self.songs} songs, {self.failed} failed"]
        lines += [f"  {count} × {code}" for code, count in sorted(self.failures.items())]
        lines += [f"  {self.audio_s / 60:.1f} min of audio"]
        if self.equal_audio.recordings:
            lines += [f"  {self.equal_audio.sentence}"]
        if self.last_commit_s is not None:
            lines += [f"  last commit {self.last_commit_s:.0f} s ago"]
        if self.state == "unfinished" and self.songs_per_s and self.eta_s is not None:
            rate = f"{self.songs_per_s:.2f} songs/s, {self.audio_s_per_s:.1f} s of audio/s"
            lines += [f"  {rate} before it; the rest would take {self.eta_s:.0f} s more"]
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """For machines."""
        return asdict(self)


def store_status(store: AnyPath) -> StoreStatus:
    """Count the songs in a store, finished or not.

    Raises:
        StoreError: no store, or its `run.json` is damaged. As `StorageError`: a data file cannot be read.
    """
    store = locate(store)
    n_songs = read_run(store).n_songs
    files = StoreCounter(store).data_files()
    stored = sum((file.tally for file in files), Tally())
    rates = _rates(files)
    state: Literal["finished", "unfinished", "condemned"] = "unfinished"
    if (store / FAULT_FILE).exists():
        state = "condemned"
    elif (store / SUCCESS_FILE).exists():
        state = "finished"
    return StoreStatus(
        store=str(store),
        state=state,
        songs=n_songs,
        ok=stored.songs - stored.failed,
        failed=stored.failed,
        failures=dict(stored.failures),
        audio_s=stored.audio_s,
        # Clocks differ, and jump: a commit in the future counts as just now.
        last_commit_s=max(0.0, time.time() - max(file.committed_s for file in files)) if files else None,
        songs_per_s=rates and rates[0],
        audio_s_per_s=rates and rates[1],
        equal_audio=equal_audio(store),
        eta_s=(n_songs - stored.songs) / rates[0] if rates and state == "unfinished" else None,
    )


def _rates(files: list[DataFile]) -> tuple[float, float] | None:
    """Songs and seconds of audio a second between the first and the last of the latest commits."""
    by_time = sorted(files, key=lambda file: file.committed_s)
    latest = [file for file in by_time if file.committed_s >= by_time[-1].committed_s - _WINDOW_S]
    if len(latest) < 2 or (elapsed_s := latest[-1].committed_s - latest[0].committed_s) <= 0:
        return None
    added = sum((file.tally for file in latest[1:]), Tally())
    return added.songs / elapsed_s, added.audio_s / elapsed_s
