"""How far a store is, from its files alone: while a job fills it, after that died, from any machine that sees them."""

import time
from dataclasses import asdict, dataclass
from typing import Literal

from lumina_ray.storage import Location
from lumina_ray.store.parts import Part, StoreCounter, Tally
from lumina_ray.store.run import FAULT_FILE, SUCCESS_FILE, read_run

# The rate is that of the time before the last commit: an interruption before it does not count.
_WINDOW_S = 600.0


@dataclass(frozen=True)
class StoreStatus:
    """What is committed. Whether a job is at work on it cannot be known from here.

    Attributes:
        state: "condemned" when a worker's numbers were found to be wrong.
        songs: of the manifest; `ok` and `failed` of them have a row.
        failures: failed songs by error code.
        audio_s: duration of the songs that are `ok`.
        last_commit_s: seconds since the last commit, by this machine's clock and the storage's.
        songs_per_s, audio_s_per_s: over the last commits, at most ten minutes of them; None where there are too few.
        eta_s: seconds that the rest would take at that rate.
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

    @property
    def sentence(self) -> str:
        """For people."""
        lines = [f"{self.store}: {self.state}, {self.ok + self.failed} of {self.songs} songs, {self.failed} failed"]
        lines += [f"  {count} × {code}" for code, count in sorted(self.failures.items())]
        lines += [f"  {self.audio_s / 60:.1f} min of audio"]
        if self.last_commit_s is not None:
            lines += [f"  last commit {self.last_commit_s:.0f} s ago"]
        if self.state == "unfinished" and self.songs_per_s and self.eta_s is not None:
            rate = f"{self.songs_per_s:.2f} songs/s, {self.audio_s_per_s:.1f} s of audio/s"
            lines += [f"  {rate} before it; the rest would take {self.eta_s:.0f} s more"]
        return "\n".join(lines)

    def to_dict(self) -> dict:
        """For machines."""
        return asdict(self)


def store_status(store: Location) -> StoreStatus:
    """Count what a store holds, finished or not.

    Raises:
        StoreError: not a store, or its `run.json` is damaged.
    """
    n_songs = read_run(store).n_songs
    parts = StoreCounter(store).parts()
    all_of_it = sum((part.tally for part in parts), Tally())
    rates = _rates(parts)
    state: Literal["finished", "unfinished", "condemned"] = "unfinished"
    if (store / FAULT_FILE).exists():
        state = "condemned"
    elif (store / SUCCESS_FILE).exists():
        state = "finished"
    return StoreStatus(
        store=str(store),
        state=state,
        songs=n_songs,
        ok=all_of_it.songs - all_of_it.failed,
        failed=all_of_it.failed,
        failures=dict(all_of_it.failures),
        audio_s=all_of_it.audio_s,
        # Clocks differ, and jump: a commit in the future was just now.
        last_commit_s=max(0.0, time.time() - max(part.committed_s for part in parts)) if parts else None,
        songs_per_s=rates and rates[0],
        audio_s_per_s=rates and rates[1],
        eta_s=(n_songs - all_of_it.songs) / rates[0] if rates and state == "unfinished" else None,
    )


def _rates(parts: list[Part]) -> tuple[float, float] | None:
    """Songs and seconds of audio a second between the first and the last of the latest commits."""
    by_time = sorted(parts, key=lambda part: part.committed_s)
    latest = [part for part in by_time if part.committed_s >= by_time[-1].committed_s - _WINDOW_S]
    if len(latest) < 2 or (elapsed_s := latest[-1].committed_s - latest[0].committed_s) <= 0:
        return None
    added = sum((part.tally for part in latest[1:]), Tally())
    return added.songs / elapsed_s, added.audio_s / elapsed_s
