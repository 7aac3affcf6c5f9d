"""What administrators may do besides: everybody's jobs, the engines, and revocations.

Who is one is decided where the calls come in (`vsmgate.api.request`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from msgspec import Struct

from vsmgate.interfaces import IJobStore
from vsmgate.jobs import changes
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.driver import Driver, as_seen, page_as_seen
from vsmgate.jobs.revocations import Revocations
from vsmgate.model import Identity, Job, Page, Reason

__all__ = ["Administration", "EngineState"]


class EngineState(Struct, frozen=True):
    """How one launcher gets on with its engine.

    ``stale_since``: since when it cannot be asked, which ``failures`` tries in a row found;
    ``trouble`` is what the last one said, and ``next_try`` in how many seconds there is another.
    ``jobs``: live ones by state.
    """

    name: str
    reachable: bool
    stale_since: float | None
    failures: int
    trouble: str
    next_try: float | None
    jobs: dict[str, int]


class Administration:
    """Over all jobs."""

    def __init__(
        self,
        book: JobBook,
        store: IJobStore,
        drivers: Mapping[str, Driver],
        wall: Callable[[], float],
        revocations: Revocations,
    ) -> None:
        self._book = book
        self._store = store
        self._drivers = drivers
        self._wall = wall
        self.revoke = revocations.revoke
        self.lift = revocations.lift
        self.revocations = revocations.all

    async def page(
        self,
        owner: str | None,
        states: Collection[str],
        usecase: str | None,
        launcher: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """Return a page of everybody's jobs, newest first."""
        page = await self._store.page(owner, states, usecase, limit, cursor, launcher)
        return page_as_seen(page, self._drivers)

    async def get(self, job_id: str) -> Job:
        """Return anybody's job; fail with `NoSuchJob`."""
        return as_seen(await self._book.find(job_id), self._drivers)

    async def stop(self, identity: Identity, job_id: str) -> Job:
        """Ask for the end of anybody's job; does nothing when it is over."""
        reason = Reason("cancelled_by_administrator", "An administrator stopped the job.")
        return await self.end(await self._book.find(job_id), reason)

    async def end(self, job: Job, reason: Reason) -> Job:
        """Ask for a job's end because of ``reason``, unless it is over; return it as it is then."""
        if job.ended:
            return job
        job = await self._book.update(job.id, lambda j: changes.stopping(j, reason, self._wall()))
        driver = self._drivers.get(job.usecase.launcher)
        if driver is not None:
            driver.nudge()
        return as_seen(job, self._drivers)

    def engines(self) -> Sequence[EngineState]:
        """Return how each launcher gets on."""
        jobs: dict[str, Counter[str]] = {}
        for job in self._book.live():
            jobs.setdefault(job.usecase.launcher, Counter())[str(job.state)] += 1
        return [
            EngineState(
                name,
                driver.stale_since is None,
                driver.stale_since,
                driver.line.failures,
                driver.trouble,
                driver.ticker.next_run,
                dict(jobs.get(name, {})),
            )
            for name, driver in self._drivers.items()
        ]
