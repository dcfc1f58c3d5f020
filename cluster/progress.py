"""Progress of a job, read from what is on disk: nothing counts that would be lost."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from lumina_ray.errors import StorageError
from lumina_ray.storage import Location, RemotePath
from lumina_ray.store import StoreCounter
from lumina_ray.store.parts import Tally

_POLL_S = 0.5
# Every look at a bucket is paid for.
_POLL_BUCKET_S = 10.0
# A look takes longer with every file; at most so much of the time goes into it.
_LOOKING = 0.05
_LINE_EVERY_S = 30.0


@contextmanager
def show_progress(store: Location, n_songs: int, console: Console) -> Iterator[None]:
    """While the block runs: a bar on a terminal, a line every 30 s elsewhere."""
    stopped = threading.Event()
    poll_s = _POLL_BUCKET_S if isinstance(store, RemotePath) else _POLL_S
    show = functools.partial(_show_bar, poll_s=poll_s) if console.is_terminal else _print_lines
    thread = threading.Thread(target=show, args=(StoreCounter(store), n_songs, console, stopped), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _show_bar(counter: StoreCounter, n_songs: int, console: Console, stopped: threading.Event, poll_s: float) -> None:
    now = start = _count(counter, Tally())
    start_s = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("songs{task.fields[details]}"),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    looked_s = 0.0
    with Progress(*columns, console=console, speed_estimate_period=120) as bar:
        task = bar.add_task("Loading models", total=n_songs, completed=start.songs, details="")
        while True:
            last = stopped.wait(max(poll_s, looked_s / _LOOKING))
            begin_s = time.monotonic()
            now = _count(counter, now)
            looked_s = time.monotonic() - begin_s
            rate = (now.audio_s - start.audio_s) / (time.monotonic() - start_s)
            failed = f", {now.failed} failed" if now.failed else ""
            if now.songs > start.songs:
                details = f"{failed}, {rate:.1f} s of audio/s"
                bar.update(task, description="Fingerprinting", completed=now.songs, details=details)
            if last:
                return


def _print_lines(counter: StoreCounter, n_songs: int, console: Console, stopped: threading.Event) -> None:
    now = start = _count(counter, Tally())
    start_s = time.monotonic()
    while not stopped.wait(_LINE_EVERY_S):
        now, elapsed_s = _count(counter, now), time.monotonic() - start_s
        done = now.songs - start.songs
        eta = f"{elapsed_s * (n_songs - now.songs) / done:.0f} s" if done else "unknown"
        rate = (now.audio_s - start.audio_s) / elapsed_s
        counts = f"{now.songs}/{n_songs} songs, {now.failed} failed"
        say(console, f"{counts}, {rate:.1f} s of audio/s, {elapsed_s:.0f} s elapsed, ETA {eta}")


def _count(counter: StoreCounter, before: Tally) -> Tally:
    """What is committed; what was, while the storage does not answer, which ends a job but not its display."""
    try:
        return counter.count()
    except StorageError:
        return before


@contextmanager
def show_steps(what: str, total: int, console: Console) -> Iterator[Callable[[], None]]:
    """Progress of steps that take minutes: calling what is yielded ends one."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    begin_s = printed_s = time.monotonic()
    with Progress(
        *columns, TextColumn("ETA"), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        done = 0

        def step() -> None:
            nonlocal done, printed_s
            done += 1
            bar.advance(task)
            now_s = time.monotonic()
            if not console.is_terminal and (done == total or now_s - printed_s > _LINE_EVERY_S):
                printed_s, elapsed_s = now_s, now_s - begin_s
                eta_s = elapsed_s * (total - done) / done
                say(console, f"{what}: {done}/{total}, {elapsed_s:.0f} s elapsed, ETA {eta_s:.0f} s")

        yield step


def say(console: Console, text: str) -> None:
    """One plain line, neither wrapped nor coloured: it may end up in a log file."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
