"""Asynchronous jobs: one replica owns the job store, and feeds each fingerprinter a file of it at a time."""

import asyncio
import errno
import logging
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray.serve.handle import DeploymentHandle

from lumina_ray.answers import Job, JobFile
from lumina_ray.audio.guard import CallFailed
from serve import cursors
from serve.decoding import Decoders
from serve.jobstore import JobStore, StoredJob, WaitingFile
from serve.problems import RETRY_AFTER_S, Problem
from serve.schemas import ServeArgs
from serve.services import LOST, Services, answered_by, attribute_upload

logger = logging.getLogger("ray.serve")

_POLL_S = 0.5
_CLEAN_EVERY_S = 60.0
# Times that a file may lose its worker before it is taken for the reason.
_MAX_LOSSES = 3
_PASSING = {429, 503, 504, 507}
# A key's jobs take at most this part of the room for all; where access is open, everybody is one owner.
_PARTS = 4
# Times that a request may take. By then whoever was before it in a queue has given up, and a worker that is stuck is
# replaced, which is a loss: that nothing answers for so long is the server's state.
_PATIENCE = 3


class Jobs:
    """Takes jobs, works at them, and tells how far they are. Problems are returned, as Serve would log a traceback."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, args: ServeArgs, fingerprinter: DeploymentHandle, searcher: DeploymentHandle
    ) -> None:
        assert args.jobs
        self._args = args
        # SQLite's connection stays in the thread that made it.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jobs")
        max_owner_bytes = args.max_jobs_bytes // (1 if args.open_access else _PARTS)
        self._store = await self._in_thread(JobStore, args.jobs, args.max_jobs_bytes, max_owner_bytes)
        decoders = Decoders(1, args.decode_timeout_s)
        self._services = Services(args, None, fingerprinter, searcher, decoders, None, None)
        self._running: set[WaitingFile] = set()
        self._losses: Counter[WaitingFile] = Counter()
        loops = [self._work() for _ in range(args.fingerprinters)]
        self._loops = [asyncio.create_task(loop) for loop in (*loops, self._clean())]

    async def create(
        self, owner: str, key: str | None, policy: str, top_k: int, uploads: list[bytes]
    ) -> tuple[Job, bool] | Problem:
        """The job, and whether it is new."""
        return await self._ask(self._create, owner, key, policy, top_k, uploads)

    async def get(self, owner: str, job: str) -> Job | Problem:
        return await self._ask(lambda: self._describe(self._store.get(owner, job)))

    async def results(self, owner: str, job: str, after: int, limit: int) -> str | Problem:
        """A page of results as JSON: reports byte for byte, problems, and where to go on."""
        return await self._ask(self._results, owner, job, after, limit)

    async def delete(self, owner: str, job: str) -> None | Problem:
        return await self._ask(self._store.delete, owner, job)

    def check_health(self) -> None:
        """The loops never end by themselves."""
        if any(loop.done() for loop in self._loops):
            raise RuntimeError("a loop over the jobs has ended")

    def _create(self, owner: str, key: str | None, policy: str, top_k: int, uploads: list[bytes]) -> tuple[Job, bool]:
        job, new = self._store.create(owner, key, policy, top_k, uploads, time.time())
        return self._describe(job), new

    def _results(self, owner: str, job: str, after: int, limit: int) -> str:
        found, more = self._store.results(owner, job, after, limit)
        last = found[-1][0] if found else after
        cursor = f'"{cursors.encode(str(last))}"' if more else "null"
        results = (
            f'{{"file":{number},"{"problem" if failed else "report"}":{result}}}' for _, number, failed, result in found
        )
        return f'{{"next_cursor":{cursor},"results":[{",".join(results)}]}}'

    def _describe(self, job: StoredJob) -> Job:
        states = [
            ("done" if done else "failed")
            if done is not None
            else ("running" if WaitingFile(job.id, number, job.policy, job.top_k) in self._running else "queued")
            for number, done in enumerate(job.finished)
        ]
        left = {"queued", "running"}
        state = "done" if not left & set(states) else "queued" if set(states) == {"queued"} else "running"
        return Job(
            id=job.id,
            state=state,
            policy=job.policy,
            top_k=job.top_k,
            created=job.created_s,
            expires=job.created_s + self._args.max_job_age_s,
            files=[JobFile(file=number, state=state) for number, state in enumerate(states)],
        )

    async def _work(self) -> None:
        while True:
            file = None
            try:
                waiting = await self._in_thread(self._store.waiting, len(self._running) + 1)
                # No await between choosing a file and taking it.
                file = next((file for file in waiting if file not in self._running), None)
                if file:
                    self._running.add(file)
                    await self._attribute(file)
                else:
                    await asyncio.sleep(_POLL_S)
            except (OSError, sqlite3.OperationalError) as error:
                # A full disk, most of all. The file waits on.
                logger.error("jobs: %s", error)
                await asyncio.sleep(RETRY_AFTER_S)
            finally:
                self._running.discard(file)

    async def _attribute(self, file: WaitingFile) -> None:
        await self._in_thread(self._store.begin, file)
        audio = await self._in_thread(self._store.audio, file)
        if audio is None:
            # The job was deleted, and nobody keeps the result; or the disk lost the audio, and waiting does not help.
            logger.error("job %s, file %d: its audio is gone", file.job, file.number)
            await self._in_thread(self._store.finish, file, Problem.internal().body.model_dump_json(), True)
            return
        limit_s = _PATIENCE * self._args.request_timeout_s
        try:
            async with answered_by(asyncio.get_running_loop().time() + limit_s, limit_s):
                result, failed = await attribute_upload(self._services, audio, file.policy, file.top_k), False
        except Problem as problem:
            # The server's state and not the file's fault, unless it ends a worker again and again.
            self._losses[file] += isinstance(problem.__cause__, (*LOST, CallFailed))
            if problem.status in _PASSING and self._losses[file] < _MAX_LOSSES:
                await asyncio.sleep(RETRY_AFTER_S)
                await self._in_thread(self._store.defer, file)
                return
            result, failed = problem.body.model_dump_json(), True
        except OSError:
            # No room, no processes: of the machine, and `_work` waits for it.
            raise
        except Exception:
            logger.exception("job %s, file %d failed", file.job, file.number)
            result, failed = Problem.internal().body.model_dump_json(), True
        del self._losses[file]
        await self._in_thread(self._store.finish, file, result, failed)

    async def _clean(self) -> None:
        while True:
            try:
                await self._in_thread(self._store.expire, time.time() - self._args.max_job_age_s)
            except (OSError, sqlite3.OperationalError) as error:
                logger.error("jobs: %s", error)
            await asyncio.sleep(_CLEAN_EVERY_S)

    async def _ask(self, function: Callable, *arguments: Any) -> Any:
        try:
            return await self._in_thread(function, *arguments)
        except Problem as problem:
            return problem
        except (OSError, sqlite3.OperationalError) as error:
            full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            if full or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                logger.error("jobs: %s", error)
                return Problem.disk_full()
            raise

    async def _in_thread(self, function: Callable, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
