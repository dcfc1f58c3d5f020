"""Progress of a job: songs as workers finish them, how many of these are stored, and the phases before the first one.

A song counts as soon as its worker reports it. It is stored, and cannot be lost any more, once its block is committed.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import ray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cluster.metrics import Done, WorkerReports
from lumina_ray.errors import StorageError
from lumina_ray.storage import Location, RemotePath
from lumina_ray.store import StoreCounter
from lumina_ray.store.data_files import Tally

_POLL_S = 0.5
# Every look at a bucket is paid for.
_POLL_BUCKET_S = 10.0
# A look takes longer with every file; at most so much of the time goes into looks.
_LOOKING = 0.05
_LINE_EVERY_S = 30.0


@dataclass
class JobView:
    """The state of a running job, as far as it can be seen from its driver.

    Attributes:
        n_songs: songs in the manifest.
        stored: committed songs at the last look.
        done: songs computed or stored at the last look; never fewer than those stored, and at most `n_songs`.
        loaded: True once a worker has its model.
    """

    counter: StoreCounter
    reports: WorkerReports
    n_songs: int
    stored: Tally = field(default_factory=Tally)
    done: Done = field(default_factory=Done)
    loaded: bool = False

    def look(self) -> None:
        """Look again. Nothing changes where the storage or Ray does not answer: that ends a job, not its display."""
        try:
            self.stored = self.counter.count()
            times = self.reports.read()
        except (StorageError, ray.exceptions.RayError):
            return
        done = self.reports.done(times)
        self.loaded = self.loaded or bool(times.workers)
        stored = Done(self.stored.songs, self.stored.failed, self.stored.audio_s)
        computed = Done(min(done.songs, self.n_songs), done.failed, done.audio_s)
        self.done = max(computed, stored, key=lambda one: one.songs)


@contextmanager
def show_progress(
    store: Location, counter: StoreCounter, reports: WorkerReports, n_songs: int, console: Console
) -> Iterator[None]:
    """While the block runs, show a bar on a terminal, and print a line every 30 s elsewhere."""
    stopped = threading.Event()
    poll_s = _POLL_BUCKET_S if isinstance(store, RemotePath) else _POLL_S
    show = _show_bar if console.is_terminal else _print_lines
    view = JobView(counter, reports, n_songs)
    thread = threading.Thread(target=show, args=(view, console, stopped, poll_s), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _show_bar(view: JobView, console: Console, stopped: threading.Event, poll_s: float) -> None:
    view.look()
    start, start_s = view.done, time.monotonic()
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
        task = bar.add_task("Loading the model", total=view.n_songs, completed=start.songs, details="")
        while True:
            last = stopped.wait(max(poll_s, looked_s / _LOOKING))
            begin_s = time.monotonic()
            view.look()
            looked_s = time.monotonic() - begin_s
            if view.loaded or view.done.songs > start.songs:
                rate = (view.done.audio_s - start.audio_s) / (time.monotonic() - start_s)
                failed = f", {view.done.failed} failed" if view.done.failed else ""
                details = f" ({view.stored.songs} stored){failed}, {rate:.1f} s of audio/s"
                bar.update(task, description="Fingerprinting", completed=view.done.songs, details=details)
            if last:
                return


def _print_lines(view: JobView, console: Console, stopped: threading.Event, poll_s: float) -> None:
    view.look()
    start, start_s = view.done, time.monotonic()
    printed_s, was_loaded = start_s, False
    # Only the end of loading is looked for more often than lines are printed.
    while not stopped.wait(_LINE_EVERY_S if was_loaded else min(poll_s, _LINE_EVERY_S)):
        view.look()
        now_s = time.monotonic()
        if view.loaded and not was_loaded:
            was_loaded, printed_s = True, now_s
            say(console, f"Fingerprinting {view.n_songs - start.songs} songs.")
        if now_s - printed_s < _LINE_EVERY_S:
            continue
        printed_s, elapsed_s = now_s, now_s - start_s
        added = view.done.songs - start.songs
        eta = f"{elapsed_s * (view.n_songs - view.done.songs) / added:.0f} s" if added else "unknown"
        rate = (view.done.audio_s - start.audio_s) / elapsed_s
        counts = f"{view.done.songs}/{view.n_songs} songs ({view.stored.songs} stored), {view.done.failed} failed"
        say(console, f"{counts}, {rate:.1f} s of audio/s, {elapsed_s:.0f} s elapsed, ETA {eta}")


@contextmanager
def show_steps(what: str, total: int, console: Console) -> Iterator[Callable[[], None]]:
    """Show the progress of steps that take minutes. Call the function that is yielded at the end of each step."""
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
