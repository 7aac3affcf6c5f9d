"""When clients last sent data, noted in memory at once and stored now and then."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from vsmgate.jobs.book import JobBook
from vsmgate.jobs.ticker import Ticker

__all__ = ["Activity"]

#: Seconds between two writes to the store.
INTERVAL = 10.0


class Activity:
    """Activity by job; ``ticker`` is the service that stores it."""

    def __init__(self, book: JobBook, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self._book = book
        self._wall = wall
        self._noted: dict[str, float] = {}
        self.ticker = Ticker("activity", self._tick, clock)

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
        return INTERVAL
