"""When clients last sent data, noted in memory at once and stored now and then."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from vsmgate.jobs.book import JobBook
from vsmgate.jobs.ticker import Ticker
from vsmgate.model import Job

__all__ = ["Activity"]

#: Seconds between two writes to the store, at most.
INTERVAL = 10.0


class Activity:
    """Activity by job; ``ticker`` is the service that stores it.

    ``idle_timeout``: of jobs whose use case has none of its own. Whoever ends idle jobs may
    be another process, so a quarter of the shortest is the longest time between two writes.
    """

    def __init__(
        self,
        book: JobBook,
        clock: IReactorTime,
        wall: Callable[[], float],
        idle_timeout: float | None = None,
    ) -> None:
        self._book = book
        self._wall = wall
        self._idle_timeout = idle_timeout
        self._noted: dict[str, float] = {}
        self.ticker = Ticker("activity", self._tick, clock)
        book.watch(lambda job: self.ticker.within(self._interval(job)))

    def note(self, job_id: str) -> None:
        """A client of the job sent data just now."""
        self._noted[job_id] = self._wall()

    def latest(self, job_id: str) -> float:
        """Return what was noted and is not stored yet, or 0."""
        return self._noted.get(job_id, 0.0)

    async def flush(self) -> None:
        """Store what was noted; keep it for the next time when that fails."""
        noted = dict(self._noted)
        if noted:
            await self._book.touch(noted)
            for job_id, when in noted.items():
                if self._noted.get(job_id) == when:
                    del self._noted[job_id]

    async def _tick(self) -> float:
        await self.flush()
        return min(map(self._interval, self._book.live()), default=INTERVAL)

    def _interval(self, job: Job) -> float:
        idle = job.usecase.limits.idle_timeout or self._idle_timeout
        return INTERVAL if idle is None else min(INTERVAL, idle / 4)
