"""Ends what is over its limits, lets held jobs go, and forgets what is long over."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.config import JobsConfig
from vsmgate.diagnosis import NOT_ANSWERING
from vsmgate.errors import EngineError, NoSuchJob
from vsmgate.interfaces import IJobStore
from vsmgate.jobs import changes
from vsmgate.jobs.activity import Activity
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.driver import Driver
from vsmgate.jobs.ticker import Ticker
from vsmgate.lifecycle import State
from vsmgate.model import Job, Quota, Reason

__all__ = ["Reaper", "overdue"]

TICK = 1.0
HOUSEKEEPING = 60.0


def overdue(
    job: Job, now: float, config: JobsConfig, activity: float, trouble: str
) -> Reason | None:
    """Return why a job must end now, or None.

    ``activity``: when a client last sent data, where that is not stored yet; or 0.
    ``trouble``: what the last failed probe said.
    """
    limits, timings = job.usecase.limits, job.timings
    if job.state is State.STOPPING:
        return None
    if job.end_time is not None and now >= job.end_time:
        return Reason("walltime", "The job reached the end of its lifetime.")
    if job.state in (State.REQUESTED, State.QUEUED):
        wait = limits.queue_timeout or config.queue_timeout
        if wait is not None and now - job.created_at > wait:
            return Reason("queue_timeout", f"The job waited more than {wait:g} s in the queue.")
    if job.state is State.STARTING and timings.starting_at is not None:
        wait = limits.start_timeout or config.start_timeout
        if now - timings.starting_at > wait:
            said = f" It said last: {job.reason.message}" if job.reason else ""
            native = job.reason.native if job.reason else ""
            text = f"The engine did not get the job to run within {wait:g} s.{said}"
            return Reason("never_ready", text, native)
    if job.state is State.RUNNING and timings.running_at is not None:
        wait = limits.start_timeout or config.start_timeout
        if now - timings.running_at > wait:
            detail = f" The last probe: {trouble}" if trouble else ""
            if job.reason is not None and job.reason.code == NOT_ANSWERING:
                detail = f" {job.reason.message}"
            return Reason("never_ready", f"Not every service answered within {wait:g} s.{detail}")
    if job.state is State.READY:
        wait = limits.idle_timeout or config.idle_timeout
        seen = max(timings.ready_at or 0.0, job.last_activity_at or 0.0, activity)
        if wait is not None and now - seen > wait:
            return Reason("idle", f"No client sent data for more than {wait:g} s.")
    return None


class Reaper:
    """Looks at every live job once a second; ``ticker`` is the service that does it."""

    _log = Logger()

    def __init__(
        self,
        book: JobBook,
        store: IJobStore,
        drivers: Mapping[str, Driver],
        activity: Activity,
        trouble: Mapping[str, str],
        config: JobsConfig,
        quota: Quota,
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._book = book
        self._store = store
        self._drivers = drivers
        self._activity = activity
        self._trouble = trouble
        self._config = config
        self._quota = quota
        self._clock = clock
        self._wall = wall
        self._kept = clock.seconds()
        self.ticker = Ticker("reaper", self._tick, clock)

    async def _tick(self) -> float:
        now = self._wall()
        for job in list(self._book.live()):
            trouble = self._trouble.get(job.id, "")
            reason = overdue(job, now, self._config, self._activity.latest(job.id), trouble)
            if reason is not None:
                await self._stop(job, reason, now)
        if self._quota.queue and any(job.held for job in self._book.live()):
            for job in await self._book.release(self._quota):
                if driver := self._drivers.get(job.usecase.launcher):
                    driver.accept(job)
        if self._clock.seconds() - self._kept >= HOUSEKEEPING:
            self._kept = self._clock.seconds()
            await self._forget(now)
        return TICK

    async def _stop(self, job: Job, reason: Reason, now: float) -> None:
        self._log.info("job {job} ends: {reason}", job=job.id, reason=reason.message)
        try:
            await self._book.update(job.id, lambda j: changes.stopping(j, reason, now))
        except NoSuchJob:
            return
        driver = self._drivers.get(job.usecase.launcher)
        if driver is not None:
            driver.nudge()

    async def _forget(self, now: float) -> None:
        """Remove jobs that ended long ago, and what their engines keep of them."""
        for job in await self._store.prune(now - self._config.retention):
            driver = self._drivers.get(job.usecase.launcher)
            if driver is None or job.engine_ref is None:
                continue
            try:
                await driver.ask(driver.launcher.forget(job.engine_ref))
            except EngineError as error:
                self._log.warn("{job} not forgotten: {error}", job=job.id, error=str(error))
