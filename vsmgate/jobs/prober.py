"""Finds out when the services of running jobs answer.

One task a job, from the moment it runs with known endpoints until all its services
answered or it runs no more. After that nobody probes: a renderer that serves as many
clients as it can does not answer one more, and is well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.diagnosis import Step, reason
from vsmgate.errors import NoSuchJob, ServiceError, StoreUnavailable
from vsmgate.jobs import changes
from vsmgate.jobs.book import JobBook
from vsmgate.lifecycle import State
from vsmgate.model import Job

__all__ = ["Prober", "pause"]

#: At most so many probes at a time, over all jobs.
CONCURRENT = 64


def pause(elapsed: float) -> float:
    """Return how long to wait before the next probe, ``elapsed`` seconds after the start.

    A tenth of the time waited so far, so that probing adds little to a quick start and
    costs little in a slow one: 20 ms at first, 0.25 s from 2.5 s on, 2 s from 20 s on.
    """
    if elapsed < 20.0:
        return min(0.25, max(0.02, elapsed / 10))
    return min(2.0, elapsed / 10)


class Examiner(Protocol):
    """What asks services (`vsmgate.jobs.doctor.Doctor`)."""

    async def probe(self, job: Job, name: str) -> None:
        """Return once a service answered; fail with `ServiceError`."""

    async def examine(self, job: Job, name: str) -> Sequence[Step]:
        """Return at which step it is out of reach."""


class Prober(Service):
    """Probes; ``trouble`` has what the last failed probe of a job said."""

    _log = Logger()

    def __init__(
        self,
        book: JobBook,
        reactor: IReactorTime,
        wall: Callable[[], float],
        examiner: Examiner,
    ) -> None:
        self.setName("prober")
        self.trouble: dict[str, str] = {}
        self._book = book
        self._reactor = reactor
        self._wall = wall
        self._examiner = examiner
        self._tasks: dict[str, Deferred[None]] = {}
        self._room = DeferredSemaphore(CONCURRENT)
        book.watch(self._changed)

    def startService(self) -> None:
        """Begin with the jobs that run already."""
        super().startService()
        for job in list(self._book.live()):
            self._changed(job)

    def stopService(self) -> None:
        """End all tasks."""
        super().stopService()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()

    def _changed(self, job: Job) -> None:
        wanted = self.running and job.state is State.RUNNING and bool(job.endpoints)
        task = self._tasks.get(job.id)
        if wanted and task is None:
            self._begin(job.id)
        elif not wanted and task is not None and job.state is not State.READY:
            task.cancel()

    def _begin(self, job_id: str) -> None:
        task = Deferred.fromCoroutine(self._until_ready(job_id))
        self._tasks[job_id] = task

        def over(result: object) -> None:
            self._tasks.pop(job_id, None)
            self.trouble.pop(job_id, None)

        task.addErrback(self._failed, job_id).addBoth(over)

    def _failed(self, failure: Failure, job_id: str) -> None:
        if not failure.check(CancelledError, ConnectingCancelledError, NoSuchJob):
            self._log.failure("probing {job} failed", failure, job=job_id)

    async def _until_ready(self, job_id: str) -> None:
        begun = self._reactor.seconds()
        refused_at: float | None = None
        explained: tuple[str, str] | None = None
        while True:
            job = self._book.get(job_id)
            if job is None or job.state is not State.RUNNING:
                return
            missing = [name for name in job.usecase.services if name not in job.answered]
            good = tuple([name for name in missing if await self._answers(job, name)])
            now = self._wall()
            if good:
                note = partial(changes.answered, services=good, now=now, last_refusal=refused_at)
                try:
                    job = await self._book.update(job_id, note)
                except StoreUnavailable as error:
                    self._log.warn("{job} not stored: {error}", job=job_id, error=str(error))
                if job.state is not State.RUNNING:
                    return
            if len(good) < len(missing):
                refused_at = now
                first = next(name for name in missing if name not in good)
                seen = (first, self.trouble.get(job_id, ""))
                if self._reactor.seconds() - begun >= changes.PATIENCE and seen != explained:
                    explained = seen
                    await self._explain(job, first)
            await deferLater(self._reactor, pause(self._reactor.seconds() - begun))

    async def _explain(self, job: Job, name: str) -> None:
        """Let the job say at which step a service of it is out of reach."""
        await self._room.acquire()
        try:
            found = reason(name, await self._examiner.examine(job, name))
        finally:
            self._room.release()
        if found is None:  # it answers since
            return
        try:
            await self._book.update(job.id, partial(changes.unanswered, reason=found))
        except StoreUnavailable as error:
            self._log.warn("{job} not stored: {error}", job=job.id, error=str(error))

    async def _answers(self, job: Job, name: str) -> bool:
        if name not in job.endpoints:
            self.trouble[job.id] = f"{name} has told no address yet"
            return False
        await self._room.acquire()
        try:
            await self._examiner.probe(job, name)
        except ServiceError as error:
            self.trouble[job.id] = f"{name}: {error.detail}"
            return False
        finally:
            self._room.release()
        return True
