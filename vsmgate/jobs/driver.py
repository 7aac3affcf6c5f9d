"""Keeps the jobs of one launcher in step with its engine.

Level-triggered: each pass asks for all jobs that the engine has in one poll, notes what
changed, and cancels those that are asked to stop. The others are the `Submitter`'s, whose
work goes on beside it. A pass may be cut short at any point and the next one goes on from
what is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.application.service import IService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.config import JobsConfig
from vsmgate.errors import EngineError, NoSuchJob
from vsmgate.interfaces import ILauncher
from vsmgate.job_secrets import JobSecrets
from vsmgate.jobs import changes
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.line import Line
from vsmgate.jobs.submitter import Submitter
from vsmgate.jobs.ticker import Ticker
from vsmgate.lifecycle import State
from vsmgate.model import (
    Job,
    Launch,
    LogStream,
    Observation,
    Page,
    Phase,
    Reason,
    new_job_id,
    replace,
    tag_of,
)

__all__ = ["Driver", "as_seen", "drivers_of", "page_as_seen"]

T = TypeVar("T")

HURRIED = frozenset({State.STARTING, State.STOPPING})

LOST = Reason("lost", "The engine does not know the job any more.")


HELD = Reason("over_quota", "The job waits until there is room for one more job.")


def as_seen(job: Job, drivers: Mapping[str, Driver]) -> Job:
    """Return a job that says that it waits for room, or since when its engine is away."""
    if job.held:
        return replace(job, reason=HELD)
    driver = drivers.get(job.usecase.launcher)
    if driver is None or driver.stale_since is None or job.ended:
        return job
    return replace(job, stale_since=driver.stale_since)


def page_as_seen(page: Page, drivers: Mapping[str, Driver]) -> Page:
    """Return a page of such jobs."""
    return Page(tuple(as_seen(job, drivers) for job in page.items), page.next_cursor)


class Driver:
    """Drives one launcher; ``services`` are what runs, ``ticker`` is that of the polls.

    ``notice``: seconds from a job's stop to its cancelling, in which relays of other
    processes hear of it and tell their clients.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        launcher: ILauncher,
        plans: Callable[[Job], Any],
        book: JobBook,
        config: JobsConfig,
        clock: IReactorTime,
        wall: Callable[[], float],
        notice: float = 0.0,
        secrets: JobSecrets | None = None,
    ) -> None:
        self.name = name
        self.launcher = launcher
        self.line = Line(name, launcher, config, clock, wall)
        self._book = book
        self._config = config
        self._clock = clock
        self._wall = wall
        self._notice = notice
        self._plans = plans
        self._secrets = secrets
        self._unknown: dict[str, tuple[int, float]] = {}
        self._cancel_after: dict[str, float] = {}
        self.ticker = Ticker(f"driver {name}", self._tick, clock)
        self.submitter = Submitter(
            self.line, self._launch, book, config, clock, wall, placed=self.ticker.nudge
        )

    # -- from outside -------------------------------------------------------------

    @property
    def services(self) -> Sequence[IService]:
        """What is to run: polls and submissions, neither of which waits for the other."""
        return (self.ticker, self.submitter)

    @property
    def stale_since(self) -> float | None:
        """Since when the engine cannot be asked (Unix seconds)."""
        return self.line.stale_since

    @property
    def trouble(self) -> str:
        """What keeps the engine from being asked."""
        return self.line.trouble

    def nudge(self) -> None:
        """Look at the jobs at once."""
        self.ticker.nudge()
        self.submitter.ticker.nudge()

    def accept(self, job: Job) -> None:
        """Take a job that was just stored: its engine cannot know it yet."""
        self.submitter.accept(job)

    async def settled(self, job_id: str, seconds: float) -> None:
        """Wait until the job's submission was tried, at most ``seconds``."""
        await self.submitter.attempts.settled(job_id, seconds)

    async def ask(self, answer: Awaitable[T]) -> T:
        """Await a launcher's answer, for a bounded time."""
        return await self.line.ask(answer)

    def _launch(self, job: Job) -> Launch:
        secret = self._secrets.wanted(job.id, job.usecase) if self._secrets else None
        plan = self._plans(job)
        return Launch(job.id, job.owner, job.usecase, plan, job.parameters, job.lifetime, secret)

    # -- one pass -----------------------------------------------------------------

    async def _tick(self) -> float:
        refs = {job.engine_ref: job.id for job in self._jobs() if job.engine_ref is not None}
        try:
            if refs:
                await self._look(refs)
            elif self.stale_since is not None:  # nothing else would find out that it is back
                stranger = tag_of(new_job_id())
                await self.line.query(lambda: self.launcher.find([stranger]))
        except EngineError:
            return max(self._config.poll_fastest, self.line.pause())
        return self._pace()

    def _pace(self) -> float:
        awaited = self._book.awaited()
        for job in self._jobs():
            hurried = job.state in HURRIED or (job.id in awaited and not job.ready)
            if hurried or job.engine_ref is None:
                return self._config.poll_fastest
        return self._config.poll_interval

    def _jobs(self) -> list[Job]:
        """Return this launcher's live jobs; held ones are not its business yet."""
        return [j for j in self._book.live() if j.usecase.launcher == self.name and not j.held]

    async def _look(self, refs: Mapping[str, str]) -> None:
        """Ask for all jobs in one poll; note what changed; cancel what is to stop."""
        seen = await self.line.query(lambda: self.launcher.poll(refs.keys()))
        now = self._wall()
        for ref, job_id in refs.items():
            job = self._book.get(job_id)
            if job is not None:
                await self._apply(job, seen.get(ref, Observation(Phase.UNKNOWN)), now)
        known = [job for job in map(self._book.get, refs.values()) if job is not None]
        stopping = [job for job in known if job.state is State.STOPPING]
        # The first that fails ends the pass, so who waited longest comes first.
        for job in sorted(stopping, key=lambda job: self._cancel_after.get(job.id, 0.0)):
            await self._cancel(job)

    async def _apply(self, job: Job, seen: Observation, now: float) -> None:
        if seen.phase is Phase.UNKNOWN:
            count, since = self._unknown.get(job.id, (0, now))
            self._unknown[job.id] = (count + 1, since)
            enough = count + 1 >= self._config.lost_after and now - since >= self._config.lost_grace
            if enough or job.state is State.STOPPING:
                await self._end(job, LOST)
            return
        self._unknown.pop(job.id, None)
        if seen.phase is Phase.ENDED and seen.reason is not None:
            await self._end(job, seen.reason)
            return

        longest = job.usecase.limits.max_lifetime or self._config.max_lifetime

        def change(job: Job) -> Job:
            return changes.observed(job, seen, now, longest)

        if change(job) is not job:  # most polls change nothing: ask the store only if so
            await self._book.update(job.id, change)

    async def _cancel(self, job: Job) -> None:
        if job.stopping_since is not None and self._wall() < job.stopping_since + self._notice:
            return
        now = self._clock.seconds()
        if job.engine_ref is not None and now >= self._cancel_after.get(job.id, now):
            self._cancel_after[job.id] = now + self._config.stop_timeout
            try:
                await self.ask(self.launcher.cancel(job.engine_ref))
            except EngineError:
                self._cancel_after[job.id] = self._clock.seconds() + self._config.poll_interval
                raise

    async def _end(self, job: Job, reason: Reason) -> None:
        tail = await self._log_tail(job)
        now = self._wall()
        try:
            await self._book.update(job.id, lambda j: changes.finished(j, reason, now, tail))
        except NoSuchJob:
            pass
        self._unknown.pop(job.id, None)
        self._cancel_after.pop(job.id, None)

    async def _log_tail(self, job: Job) -> str:
        """Return the last words of each service, for people."""
        if job.engine_ref is None:
            return ""
        parts = []
        share = max(256, self._config.log_tail // (2 * max(1, len(job.usecase.services))))
        for service in job.usecase.services:
            for stream in (LogStream.STDOUT, LogStream.STDERR):
                try:
                    asked = self.launcher.logs(job.engine_ref, service, stream, share)
                    tail = (await self.ask(asked)).decode("utf-8", "replace").strip()
                except EngineError:
                    tail = ""
                if tail:
                    parts.append(f"[{service} {stream}]\n{tail}")
        return "\n".join(parts)


def drivers_of(launchers: Mapping[str, ILauncher], *shared: Any) -> dict[str, Driver]:
    """Return a driver for each launcher; they pass jobs on to each other."""
    drivers = {name: Driver(name, launcher, *shared) for name, launcher in launchers.items()}
    for driver in drivers.values():
        driver.submitter.peers.update({name: peer.accept for name, peer in drivers.items()})
    return drivers
