"""Jobs on disk: what was asked for, the audio until it has a result, and the results.

    JOBS/jobs.sqlite     jobs and their files, with results
        /spool/ID-0      the audio of file 0 of job ID

One process uses it, from one thread. What it was at when it ended is still waiting when the next one starts. No other
user of the machine may read it.
"""

import hashlib
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from serve.problems import Problem

_ORPHANED_AFTER_S = 3600.0
# Room for a result that is to come, for each candidate: a report with 4096 of them, in both channels and over ten
# minutes, is some 13 MB.
_RESULT_BYTES = 3200
# Reports of one answer together; always at least one.
_PAGE_BYTES = 8 << 20
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    idempotency_key TEXT,
    request_sha256 TEXT NOT NULL,
    policy TEXT NOT NULL,
    top_k INTEGER NOT NULL,
    created_s REAL NOT NULL,
    UNIQUE (owner, idempotency_key)
) STRICT;
CREATE TABLE IF NOT EXISTS files (
    job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    finished INTEGER UNIQUE,
    failed INTEGER NOT NULL DEFAULT 0,
    result TEXT,
    turn INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, number)
) STRICT;
"""
_INDEX = "CREATE INDEX IF NOT EXISTS waiting ON files (turn) WHERE finished IS NULL"


@dataclass(frozen=True)
class WaitingFile:
    """A file that has no result yet."""

    job: str
    number: int
    policy: str
    top_k: int


@dataclass(frozen=True)
class StoredJob:
    """A job; `finished` has for each file whether it is done (True), failed (False) or neither (None)."""

    id: str
    policy: str
    top_k: int
    created_s: float
    finished: tuple[bool | None, ...]


class JobStore:
    """Jobs in a folder, which is made if missing.

    Owners take turns: whoever has stored thousands of files has one of them done, then one of every other owner's.
    """

    def __init__(self, folder: Path, max_bytes: int, max_owner_bytes: int) -> None:
        """
        Args:
            max_bytes: of audio and results together, with those to come.
            max_owner_bytes: of those of one owner.
        """
        self._max_bytes = max_bytes
        self._max_owner_bytes = max_owner_bytes
        self._spool = folder / "spool"
        database = folder / "jobs.sqlite"
        for private in (folder, self._spool):
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
        # SQLite gives its log the mode of this file.
        database.touch(mode=0o600)
        for private, mode in ((folder, 0o700), (self._spool, 0o700), (database, 0o600)):
            # A folder that somebody else has made for us, such as a volume's, keeps its mode: what is in it is ours.
            if private.stat().st_uid == os.geteuid():
                private.chmod(mode)
        self._db = sqlite3.connect(database, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON;" + _SCHEMA)
        if "turn" not in {column for _, column, *_ in self._db.execute("PRAGMA table_info(files)")}:
            # The file was written by a version in which owners took no turns.
            self._db.execute("ALTER TABLE files ADD COLUMN turn INTEGER NOT NULL DEFAULT 0")
        self._db.execute(_INDEX)
        # Whose turn it is: of the file that was begun last, as others may be under way for long. And the last turn that
        # each owner had, which it must not get back by deleting the job.
        self._had: dict[str, int] = {}
        (self._turn,) = self._db.execute("SELECT coalesce(min(turn), 0) FROM files WHERE finished IS NULL").fetchone()
        self._sweep()

    def create(
        self, owner: str, key: str | None, policy: str, top_k: int, uploads: list[bytes], now_s: float
    ) -> tuple[StoredJob, bool]:
        """A new job; or the one that the same owner made with the same idempotency key before, and False.

        Raises:
            Problem: 422 the key was used for another request, 429 the store is full, or the owner's share of it.
            OSError, sqlite3.OperationalError: the disk is.
        """
        hashes = [hashlib.sha256(upload).hexdigest() for upload in uploads]
        request_sha256 = hashlib.sha256(" ".join([policy, str(top_k), *hashes]).encode()).hexdigest()
        before = self._db.execute(
            "SELECT id, request_sha256 FROM jobs WHERE owner = ? AND idempotency_key = ?", (owner, key)
        ).fetchone()
        if before:
            if before[1] != request_sha256:
                raise Problem(422, "jobs.idempotency", "This Idempotency-Key was used for another request.")
            return self.get(owner, before[0]), False
        sizes = [len(upload) + _RESULT_BYTES * top_k for upload in uploads]
        (used,) = self._db.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()
        if used + sum(sizes) > self._max_bytes:
            raise Problem.retry_later(429, "jobs.full", "No room for more jobs; delete finished ones, or try later.")
        (owned,) = self._db.execute(
            "SELECT coalesce(sum(bytes), 0) FROM jobs JOIN files ON job = id WHERE owner = ?", (owner,)
        ).fetchone()
        if owned + sum(sizes) > self._max_owner_bytes:
            raise Problem.retry_later(
                429, "jobs.full", "This key's jobs have no more room; delete finished ones, or try later."
            )
        job = uuid4().hex
        paths = [self._audio(job, number) for number in range(len(uploads))]
        try:
            for path, upload in zip(paths, uploads, strict=True):
                with path.open("wb") as file:
                    file.write(upload)
                    # SQLite syncs its rows, and what they name must not be gone after a power cut.
                    file.flush()
                    os.fsync(file.fileno())
            self._db.execute("BEGIN IMMEDIATE")
            with self._db:
                turn = self._next_turn(owner)
                self._db.execute(
                    "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (job, owner, key, request_sha256, policy, top_k, now_s),
                )
                self._db.executemany(
                    "INSERT INTO files (job, number, bytes, turn) VALUES (?, ?, ?, ?)",
                    [(job, number, size, turn + number) for number, size in enumerate(sizes)],
                )
        except BaseException:
            for path in paths:
                path.unlink(missing_ok=True)
            raise
        return self.get(owner, job), True

    def get(self, owner: str, job: str) -> StoredJob:
        """Raises: Problem: 404, the owner has no such job."""
        row = self._db.execute(
            "SELECT policy, top_k, created_s FROM jobs WHERE id = ? AND owner = ?", (job, owner)
        ).fetchone()
        if row is None:
            raise Problem(404, "jobs.unknown", "There is no such job, or not any more.")
        files = self._db.execute("SELECT finished, failed FROM files WHERE job = ? ORDER BY number", (job,))
        policy, top_k, created_s = row
        finished = tuple(None if position is None else not failed for position, failed in files)
        return StoredJob(job, policy, top_k, created_s, finished)

    def results(self, owner: str, job: str, after: int, limit: int) -> tuple[list[tuple[int, int, bool, str]], bool]:
        """Results in the order in which they were made, so that none is missed by asking again from the last one on.

        Returns:
            (position, number, failed, result) of each after a position; and whether more may come.
        """
        self.get(owner, job)
        rows: list[tuple] = []
        size = 0
        for row in self._db.execute(
            "SELECT finished, number, failed, result FROM files WHERE job = ? AND finished > ? ORDER BY finished "
            "LIMIT ?",
            (job, after, limit),
        ):
            size += len(row[3].encode())
            if rows and size > _PAGE_BYTES:
                break
            rows.append(row)
        last = rows[-1][0] if rows else after
        (more,) = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM files WHERE job = ? AND (finished IS NULL OR finished > ?))", (job, last)
        ).fetchone()
        return [(position, number, bool(failed), result) for position, number, failed, result in rows], bool(more)

    def delete(self, owner: str, job: str) -> None:
        """Forget a job, its audio and its results. Raises: Problem: 404, the owner has no such job."""
        self.get(owner, job)
        self._forget([job])

    def expire(self, before_s: float) -> None:
        """Forget jobs that were made before a time, and audio that a crash left behind."""
        self._forget([job for (job,) in self._db.execute("SELECT id FROM jobs WHERE created_s < ?", (before_s,))])
        self._sweep()

    def waiting(self, limit: int) -> list[WaitingFile]:
        """The first files by turn, those under way included."""
        rows = self._db.execute(
            "SELECT job, number, policy, top_k FROM files INDEXED BY waiting JOIN jobs ON id = job "
            "WHERE finished IS NULL ORDER BY turn, files.rowid LIMIT ?",
            (limit,),
        )
        return [WaitingFile(*row) for row in rows]

    def begin(self, file: WaitingFile) -> None:
        """Take note that it is this file's turn now."""
        row = self._db.execute(
            "SELECT turn, owner FROM files JOIN jobs ON id = job WHERE job = ? AND number = ?", (file.job, file.number)
        ).fetchone()
        if row:
            self._turn, owner = row
            self._had[owner] = self._turn

    def defer(self, file: WaitingFile) -> None:
        """Let a file that could not be done now wait behind its owner's others, so that no one waits for it alone."""
        (owner,) = self._db.execute("SELECT owner FROM jobs WHERE id = ?", (file.job,)).fetchone() or ("",)
        self._db.execute(
            "UPDATE files SET turn = ? WHERE job = ? AND number = ?", (self._next_turn(owner), file.job, file.number)
        )

    def audio(self, file: WaitingFile) -> bytes | None:
        """Bytes of a file's audio; None once its job was deleted."""
        try:
            return self._audio(file.job, file.number).read_bytes()
        except FileNotFoundError:
            return None

    def finish(self, file: WaitingFile, result: str, failed: bool) -> None:
        """Keep a result, a report or a problem as JSON, and delete the audio."""
        self._db.execute(
            "UPDATE files SET result = ?, failed = ?, bytes = ?, finished = "
            "(SELECT coalesce(max(finished), 0) + 1 FROM files) WHERE job = ? AND number = ? AND finished IS NULL",
            (result, failed, len(result.encode()), file.job, file.number),
        )
        self._audio(file.job, file.number).unlink(missing_ok=True)

    def _next_turn(self, owner: str) -> int:
        """After those that the owner had or waits for, and not before the one that it is: none can be saved up."""
        (last,) = self._db.execute(
            "SELECT coalesce(max(turn), -1) FROM jobs JOIN files ON job = id WHERE owner = ? AND finished IS NULL",
            (owner,),
        ).fetchone()
        return max(self._turn, self._had.get(owner, -1) + 1, last + 1)

    def _forget(self, jobs: list[str]) -> None:
        for job in jobs:
            numbers = self._db.execute("SELECT number FROM files WHERE job = ? AND finished IS NULL", (job,)).fetchall()
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job,))
            for (number,) in numbers:
                self._audio(job, number).unlink(missing_ok=True)

    def _sweep(self) -> None:
        known = {self._audio(*row) for row in self._db.execute("SELECT job, number FROM files WHERE finished IS NULL")}
        for path in set(self._spool.iterdir()) - known:
            # Young ones may be of a replica that is still draining, and not be listed yet.
            if path.stat().st_mtime < time.time() - _ORPHANED_AFTER_S:
                path.unlink(missing_ok=True)

    def _audio(self, job: str, number: int) -> Path:
        return self._spool / f"{job}-{number}"
