"""Keeps the jobs of one launcher in step with its engine.

Level-triggered: each pass looks at all live jobs of the launcher and does what is
missing: finds or submits those without an engine ref, asks for all the others in one
poll, cancels those that are asked to stop. A pass may be cut short at any point and
the next one goes on from what is stored, so a crash between any two lines leads to
exactly one engine job per accepted start.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.config import JobsConfig
from vsmgate.errors import EngineError, EngineRefused, EngineUnreachable, NoSuchJob
from vsmgate.interfaces import ILauncher
from vsmgate.job_secrets import JobSecrets
from vsmgate.jobs import changes
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.ticker import Ticker
from vsmgate.lifecycle import State
from vsmgate.model import Job, Launch, LogStream, Observation, Phase, Reason

__all__ = ["Driver"]

T = TypeVar("T")

HURRIED = frozenset({State.STARTING, State.STOPPING})

LOST = Reason("lost", "The engine does not know the job any more.")
NEVER_TAKEN = Reason("cancelled_by_user", "The job was stopped before its engine had it.")


class Driver:
    """Drives one launcher; ``ticker`` is the service that runs its passes.

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
        self.stale_since: float | None = None
        self.trouble = ""
        self._plans = plans
        self._book = book
        self._config = config
        self._clock = clock
        self._wall = wall
        self._notice = notice
        self._secrets = secrets
        self.failures = 0
        self._submitting: dict[str, list[Deferred[None]]] = {}
        self._untried: set[str] = set()
        self._unknown: dict[str, tuple[int, float]] = {}
        self._cancelled: dict[str, float] = {}
        self.ticker = Ticker(f"driver {name}", self._tick, clock)

    # -- from outside -------------------------------------------------------------

    def accept(self, job: Job) -> None:
        """Take a job that was just stored: its engine cannot know it yet."""
        self._untried.add(job.id)
        self.ticker.nudge()

    async def settled(self, job_id: str, seconds: float) -> None:
        """Wait until the job's submission was tried, at most ``seconds``."""
        tried: Deferred[None] = Deferred()
        self._submitting.setdefault(job_id, []).append(tried)
        try:
            await tried.addTimeout(seconds, self._clock, lambda _, __: None)
        finally:
            waiting = self._submitting.get(job_id, [])
            if tried in waiting:
                waiting.remove(tried)

    async def ask(self, answer: Awaitable[T]) -> T:
        """Await a launcher's answer, for a bounded time."""
        bounded = Deferred.fromCoroutine(_awaited(answer))

        def late(result: Any, seconds: float) -> Any:
            raise EngineUnreachable(f"{self.name} did not answer within {seconds:g} s.")

        return await bounded.addTimeout(self._config.engine_timeout, self._clock, late)

    # -- one pass -----------------------------------------------------------------

    async def _tick(self) -> float:
        try:
            await self._place([job for job in self._jobs() if job.engine_ref is None])
            await self._look()
        except EngineError as error:
            delay = self._unreachable(error)
            for job_id in list(self._submitting):
                self._tried(job_id)
            return delay
        self._reached()
        return self._pace()

    def _unreachable(self, error: EngineError) -> float:
        if self.stale_since is None:
            self.stale_since = self._wall()
            self._log.warn("{name} cannot be asked: {error}", name=self.name, error=str(error))
        self.trouble = error.detail
        self.failures = min(self.failures + 1, 16)
        ceiling = min(60.0, self._config.poll_fastest * 2**self.failures)
        return random.uniform(self._config.poll_fastest, max(ceiling, self._config.poll_fastest))

    def _reached(self) -> None:
        if self.stale_since is not None:
            self._log.info("{name} can be asked again", name=self.name)
        self.stale_since, self.trouble, self.failures = None, "", 0

    def _pace(self) -> float:
        awaited = self._book.awaited()
        for job in self._jobs():
            if job.state in HURRIED or job.id in awaited or job.engine_ref is None:
                return self._config.poll_fastest
        return self._config.poll_interval

    def _jobs(self) -> list[Job]:
        """Return this launcher's live jobs; held ones are not its business yet."""
        return [j for j in self._book.live() if j.usecase.launcher == self.name and not j.held]

    # -- jobs that have no engine ref yet -------------------------------------------

    async def _place(self, jobs: Collection[Job]) -> None:
        """Submit new jobs; first look for those that a crash or a fault left in doubt."""
        doubtful = {job.tag: job for job in jobs if job.id not in self._untried}
        found = await self.ask(self.launcher.find(doubtful)) if doubtful else {}
        for job in jobs:
            ref = found.get(job.tag)
            if ref is not None:
                self._log.info("job {job} found as {ref}", job=job.id, ref=ref)
                await self._note_ref(job.id, ref)
            elif job.state is State.STOPPING:
                await self._end(job, NEVER_TAKEN)
            else:
                await self._submit(job)

    async def _submit(self, job: Job) -> None:
        self._untried.discard(job.id)  # from here on the engine may have it
        try:
            ref = await self.ask(self.launcher.submit(self._launch(job)))
        except EngineRefused as error:
            self._log.info("job {job} refused: {error}", job=job.id, error=error.detail)
            await self._end(job, Reason(error.code, error.detail, error.native))
        except EngineUnreachable as error:
            reason = Reason(error.code, f"{error.detail} The gateway goes on trying.")
            await self._book.update(job.id, lambda j: changes.waiting(j, reason))
            raise
        except CancelledError:
            raise  # the gateway stops: the next one looks for the job
        except Exception:
            # A fault in the launcher's code: whether the engine has the job is unknown, so
            # let the next pass look for it and cancel what it finds.
            self._log.failure("{name} failed to submit {job}", name=self.name, job=job.id)
            broken = Reason("launcher_failed", f"The launcher {self.name} failed; see the log.")
            await self._book.update(job.id, lambda j: changes.stopping(j, broken, self._wall()))
            self._tried(job.id)
        else:
            await self._note_ref(job.id, ref)

    def _launch(self, job: Job) -> Launch:
        secret = self._secrets.wanted(job.id, job.usecase) if self._secrets else None
        plan = self._plans(job)
        return Launch(job.id, job.owner, job.usecase, plan, job.parameters, job.lifetime, secret)

    async def _note_ref(self, job_id: str, ref: str) -> None:
        await self._book.update(job_id, lambda job: changes.submitted(job, ref, self._wall()))
        self._tried(job_id)

    def _tried(self, job_id: str) -> None:
        for waiting in self._submitting.pop(job_id, []):
            waiting.callback(None)

    # -- jobs that the engine has ---------------------------------------------------

    async def _look(self) -> None:
        """Ask for all jobs in one poll; note what changed; cancel what is to stop."""
        refs = {job.engine_ref: job.id for job in self._jobs() if job.engine_ref is not None}
        if not refs:
            return
        seen = await self.ask(self.launcher.poll(refs.keys()))
        now = self._wall()
        for ref, job_id in refs.items():
            job = self._book.get(job_id)
            if job is not None:
                await self._apply(job, seen.get(ref, Observation(Phase.UNKNOWN)), now)
        for job_id in refs.values():
            job = self._book.get(job_id)
            if job is not None and job.state is State.STOPPING:
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
        last = self._cancelled.get(job.id)
        if job.engine_ref is not None and (last is None or now - last > self._config.stop_timeout):
            self._cancelled[job.id] = now
            await self.ask(self.launcher.cancel(job.engine_ref))

    async def _end(self, job: Job, reason: Reason) -> None:
        tail = await self._log_tail(job)
        now = self._wall()
        try:
            await self._book.update(job.id, lambda j: changes.finished(j, reason, now, tail))
        except NoSuchJob:
            pass
        self._unknown.pop(job.id, None)
        self._cancelled.pop(job.id, None)
        self._untried.discard(job.id)
        self._tried(job.id)

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


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer
