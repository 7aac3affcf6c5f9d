"""The jobs that live now, in memory, in step with the store.

Every change goes to the store first and then into the book; readers (status calls,
the relay, the periodic services) read the book and never wait for a database. Ended
jobs leave it: the store answers for those.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.config import JobsConfig
from vsmgate.errors import StoreUnavailable
from vsmgate.grants import Right, Visitor
from vsmgate.interfaces import IJobStore
from vsmgate.model import Idempotency, Job, Quota

__all__ = ["JobBook", "quota_of"]

T = TypeVar("T")


class JobBook:
    """A mirror of the live jobs that tells of every change."""

    _log = Logger()

    def __init__(self, store: IJobStore) -> None:
        self._store = store
        self._jobs: dict[str, Job] = {}
        self._revision = 0
        self._watchers: list[Callable[[Job], None]] = []
        self._waiting: dict[str, list[Deferred[None]]] = {}
        #: Why the store could not be written when that was tried last; empty when it could.
        self.trouble = ""

    async def load(self) -> None:
        """Read the live jobs from the store."""
        for job in await self._store.live():
            self._revision = max(self._revision, job.revision)
            self._note(job)

    async def refresh(self) -> None:
        """Take over what was changed in the store, here or by other processes."""
        for job in await self._store.changes(self._revision):
            self._revision = job.revision
            self._note(job)

    def watch(self, call: Callable[[Job], None]) -> None:
        """Call ``call`` with every job that changed, for good."""
        self._watchers.append(call)

    def live(self) -> Collection[Job]:
        """Return the jobs that have not ended."""
        return self._jobs.values()

    def get(self, job_id: str) -> Job | None:
        """Return a live job."""
        return self._jobs.get(job_id)

    async def find(self, job_id: str) -> Job:
        """Return a job, live or ended; fail with `NoSuchJob`."""
        known = self._jobs.get(job_id)
        if known is not None:
            return known
        return await self.latest(job_id)

    async def latest(self, job_id: str) -> Job:
        """Return a job as the store has it; fail with `NoSuchJob`."""
        job = await self._store.get(job_id)
        # A new job of another process joins; what `refresh` has been past may be over by now.
        if job_id in self._jobs or (not job.ended and job.revision > self._revision):
            self._note(job)
        return job

    def awaited(self) -> Collection[str]:
        """Return the ids of the jobs that somebody waits for."""
        return self._waiting.keys()

    async def wait(self, job: Job, seconds: float, clock: IReactorTime) -> Job:
        """Return the job once it is newer than ``job``, or as it is after ``seconds``."""
        current = await self.find(job.id)
        if current.ended or current.revision > job.revision:
            return current
        changed: Deferred[None] = Deferred()
        self._waiting.setdefault(job.id, []).append(changed)
        try:
            await changed.addTimeout(seconds, clock, lambda _, __: None)
        finally:
            waiting = self._waiting.get(job.id, [])
            if changed in waiting:
                waiting.remove(changed)
            if not waiting:
                self._waiting.pop(job.id, None)
        return await self.find(job.id)

    async def add(
        self, job: Job, quota: Quota, idempotency: Idempotency | None
    ) -> tuple[Job, bool]:
        """Store a new job (see `IJobStore.add`)."""
        return await _seen_through(self._add(job, quota, idempotency))

    async def _add(
        self, job: Job, quota: Quota, idempotency: Idempotency | None
    ) -> tuple[Job, bool]:
        job, new = await self._written(self._store.add(job, quota, idempotency))
        self._note(job)
        return job, new

    async def release(self, quota: Quota) -> Sequence[Job]:
        """Let held jobs go on for which there is room now; return those."""
        return await _seen_through(self._release(quota))

    async def _release(self, quota: Quota) -> Sequence[Job]:
        released = await self._store.release(quota)
        for job in released:
            self._note(job)
        return released

    async def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        """Change a job by a pure function, in the store and here."""
        return await _seen_through(self._update(job_id, change))

    async def _update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        job = await self._written(self._store.update(job_id, change))
        self._note(job)
        return job

    async def try_store(self, process: str, now: float) -> None:
        """Write something of no consequence; fail with `StoreUnavailable`."""
        nobody = Visitor("", "", Right.VIEW, now)
        await self._written(self._store.attend(process, {"-": [nobody]}, now))

    async def _written(self, work: Awaitable[T]) -> T:
        """Return what came of writing to the store, and note whether it could be written."""
        try:
            result = await work
        except StoreUnavailable as error:
            self.trouble = error.detail
            raise
        self.trouble = ""
        return result

    async def touch(self, activity: Mapping[str, float]) -> None:
        """Store when clients last sent data."""
        await self._store.touch(activity)
        await self.refresh()

    def _note(self, job: Job) -> None:
        known = self._jobs.get(job.id)
        if known is not None and known.revision >= job.revision:
            return
        if job.ended:
            if self._jobs.pop(job.id, None) is None:
                return
        else:
            self._jobs[job.id] = job
        for waiting in self._waiting.pop(job.id, []):
            waiting.callback(None)
        for call in self._watchers:
            try:
                call(job)
            except Exception:
                self._log.failure("a watcher of jobs failed")


def quota_of(jobs: JobsConfig) -> Quota:
    """Return the quota that the configuration asks for."""
    return Quota(
        jobs.max_per_user,
        jobs.max_total,
        jobs.over_quota == "queue",
        jobs.max_queued_per_user,
        jobs.max_per_usecase,
        jobs.max_per_group,
    )


def _seen_through(work: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Return the result of ``work``, which goes on when nobody waits for it any more.

    A client that hangs up cancels its call; what the store has by then must reach the book
    all the same, or a job would be kept that nobody drives.
    """
    result: Deferred[T] = Deferred()  # once cancelled, it ignores what comes
    Deferred.fromCoroutine(work).chainDeferred(result)
    return result
