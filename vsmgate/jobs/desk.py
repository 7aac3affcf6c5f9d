"""Where jobs are asked for: what the REST face may do, for whom.

Rights are decided by `vsmgate.jobs.access`, at every call; `vsmgate.jobs.share_desk` gives them.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.config import JobsConfig
from vsmgate.errors import (
    EngineRefused,
    EngineUnreachable,
    JobConflict,
    JobEnded,
    NoSuchUsecase,
    NotExtendable,
)
from vsmgate.grants import Right
from vsmgate.interfaces import IExtendable, IJobStore
from vsmgate.jobs import changes
from vsmgate.jobs.access import Access, epitaph, service_of
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.doctor import Doctor
from vsmgate.jobs.driver import Driver
from vsmgate.jobs.share_desk import ShareDesk
from vsmgate.jobs.sharing import check_view
from vsmgate.lifecycle import State
from vsmgate.model import (
    Idempotency,
    Identity,
    Job,
    LogStream,
    Page,
    Quota,
    Reason,
    Secret,
    Ticket,
    Usecase,
    new_job_id,
    replace,
)
from vsmgate.parameters import complete

__all__ = ["JobDesk"]

#: Seconds that a ticket lives, and that a start waits for its engine's first word.
TICKET_LIFETIME = 60.0
FIRST_WORD = 2.0

HELD = Reason("over_quota", "The job waits until there is room for one more job.")


class JobDesk:
    """Starts, shows, extends and stops jobs."""

    _log = Logger()

    def __init__(
        self,
        book: JobBook,
        store: IJobStore,
        drivers: Mapping[str, Driver],
        access: Access,
        usecases: Mapping[str, Usecase],
        config: JobsConfig,
        quota: Quota,
        clock: IReactorTime,
        wall: Callable[[], float],
        doctor: Doctor,
    ) -> None:
        self._book = book
        self._store = store
        self._drivers = drivers
        self.authenticate = access.authenticate
        self.expires_in = access.expires_in
        self.diagnose = doctor.diagnose
        self.right = access.right
        self.sharing = ShareDesk(book, access, wall)
        self._access = access
        self._usecases = usecases
        self._config = config
        self._quota = quota
        self._clock = clock
        self._wall = wall

    async def _permitted(self, identity: Identity, job_id: str, needed: Right) -> Job:
        return self._aged(await self._access.permitted(identity, job_id, needed))

    def _aged(self, job: Job) -> Job:
        """Say that a job waits for room, or since when its engine is away."""
        if job.held:
            return replace(job, reason=HELD)
        driver = self._drivers.get(job.usecase.launcher)
        if driver is None or driver.stale_since is None or job.ended:
            return job
        return replace(job, stale_since=driver.stale_since)

    # -- what may be started, and starting --------------------------------------------

    def usecases(self) -> Mapping[str, Usecase]:
        """Return what may be started, by name."""
        return self._usecases

    async def start(
        self,
        identity: Identity,
        usecase: str | None,
        parameters: dict[str, Any],
        *,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> tuple[Job, bool]:
        """Start a use case; return the job, and whether it is a new one.

        The row is stored before the engine is asked. Then the engine has a moment to
        refuse (`EngineRefused`, with the job kept as failed); a slower answer, or an
        engine that went away meanwhile, is told by the job's state. Fails with
        `NoSuchUsecase`, `BadParameters`, `QuotaExceeded`, `IdempotencyMismatch`,
        `EngineUnreachable` (known before, nothing stored) or `StoreUnavailable`.
        """
        wanted = self._usecases.get(usecase or self._config.default_usecase)
        if wanted is None:
            known = ", ".join(sorted(self._usecases)) or "none"
            raise NoSuchUsecase(f"No use case has this name; known: {known}.")
        complete_parameters = complete(wanted.parameters, parameters)
        chosen, why, stale = self._chosen(wanted)
        key = None
        if idempotency_key is not None:
            asked = msgspec.json.encode([wanted.name, complete_parameters, name], order="sorted")
            key = Idempotency(idempotency_key, hashlib.sha256(asked).hexdigest())
        elif stale:
            names = " and ".join(wanted.choices)
            raise EngineUnreachable(f"{names} cannot be reached now; try again later.")
        job, new = await self._book.add(
            Job(
                new_job_id(),
                identity.subject,
                chosen,
                self._wall(),
                name=name,
                parameters=complete_parameters,
                lifetime=wanted.limits.lifetime or self._config.lifetime,
                launcher_reason=why,
            ),
            self._quota,
            key,
        )
        if not new:
            return self._aged(job), False
        self._log.info(
            "job {job} of {owner}: {usecase} on {launcher} {why}",
            job=job.id,
            owner=job.owner,
            usecase=wanted.name,
            launcher=chosen.launcher,
            why=why,
        )
        if not job.held:
            self._drivers[chosen.launcher].accept(job)
            job = await self._settled(job)
            if job.state is State.FAILED and job.engine_ref is None and job.reason is not None:
                raise EngineRefused(
                    job.reason.message, code=job.reason.code, native=job.reason.native
                )
        return self._aged(job), True

    def _chosen(self, wanted: Usecase) -> tuple[Usecase, str, bool]:
        """Return the use case with the launcher to take, why that one, and if none answers."""
        away: list[str] = []
        for index, name in enumerate(wanted.choices):
            if self._drivers[name].stale_since is None:
                rest = wanted.choices[index + 1 :]
                why = f"{' and '.join(away)} cannot be reached." if away else "The first choice."
                chosen = msgspec.structs.replace(wanted, launcher=name, fallbacks=rest)
                return chosen, why if wanted.fallbacks else "", False
            away.append(name)
        return wanted, "No choice can be reached." if wanted.fallbacks else "", True

    async def _settled(self, job: Job) -> Job:
        """Return a new job after its engine's first word; it may move on to another engine."""
        deadline = self._clock.seconds() + FIRST_WORD
        while True:
            launcher, left = job.usecase.launcher, deadline - self._clock.seconds()
            await self._drivers[launcher].settled(job.id, left)
            job = await self._book.find(job.id)
            if job.usecase.launcher == launcher or self._clock.seconds() >= deadline:
                return job

    # -- jobs that are there -----------------------------------------------------------------

    async def get(self, identity: Identity, job_id: str) -> Job:
        """Return a job; fail with `NoSuchJob`."""
        return await self._permitted(identity, job_id, Right.VIEW)

    async def wait(self, identity: Identity, job_id: str, seconds: float) -> Job:
        """Return a job as soon as it changes, or as it is after ``seconds``."""
        job = await self._permitted(identity, job_id, Right.VIEW)
        if not job.ended:
            driver = self._drivers.get(job.usecase.launcher)
            if driver is not None and not job.ready:  # then there is nothing to hurry for
                driver.ticker.within(self._config.poll_fastest)
            job = self._aged(await self._book.wait(job, seconds, self._clock))
        return job

    async def page(
        self,
        identity: Identity,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """Return a page of the identity's jobs, newest first."""
        page = await self._store.page(identity.subject, states, usecase, limit, cursor)
        return self._aged_page(page)

    async def shared(
        self,
        identity: Identity,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        """Return a page of the jobs that others share with the identity, newest first."""
        who, groups, now = identity.subject, identity.groups, self._wall()
        page = await self._store.shared(who, groups, now, states, usecase, limit, cursor)
        return self._aged_page(page)

    def _aged_page(self, page: Page) -> Page:
        return Page(tuple(map(self._aged, page.items)), page.next_cursor)

    async def stop(self, identity: Identity, job_id: str) -> Job:
        """Ask for a job's end; does nothing when it is over."""
        job = await self._permitted(identity, job_id, Right.OWNER)
        if job.ended:
            return job
        reason = Reason("cancelled_by_user", "The job's owner stopped it.")
        job = await self._book.update(job.id, lambda j: changes.stopping(j, reason, self._wall()))
        driver = self._drivers.get(job.usecase.launcher)
        if driver is not None:
            driver.nudge()
        return self._aged(job)

    async def extend(self, identity: Identity, job_id: str, seconds: float) -> Job:
        """Move a job's end by ``seconds``; fail with `NotExtendable` past what is allowed."""
        job = await self._permitted(identity, job_id, Right.OWNER)
        if job.ended:
            raise JobEnded(epitaph(job))
        driver = self._drivers.get(job.usecase.launcher)
        if job.end_time is None or job.timings.running_at is None or job.engine_ref is None:
            raise NotExtendable("The job does not run yet; its time has not begun.")
        if job.state is State.STOPPING:
            raise NotExtendable("The job is being stopped.")
        if driver is None or not IExtendable.providedBy(driver.launcher):
            raise NotExtendable(f"{job.usecase.launcher} cannot move the end of a running job.")
        end = job.end_time + seconds
        if job.extendable_until is not None and end > job.extendable_until:
            room = max(0.0, job.extendable_until - job.end_time)
            raise NotExtendable(f"It can be extended by {room:.0f} s at most.")
        try:
            await driver.ask(driver.launcher.extend(job.engine_ref, end - job.timings.running_at))
        except EngineRefused as error:
            raise NotExtendable(error.detail) from error
        return await self._book.update(job.id, lambda j: changes.extended(j, end))

    async def logs(
        self, identity: Identity, job_id: str, service: str, stream: LogStream, tail: int
    ) -> bytes:
        """Return the end of what a service of the job wrote."""
        job = await self._permitted(identity, job_id, Right.CONTROL)
        service_of(job, service)
        driver = self._drivers.get(job.usecase.launcher)
        if driver is None or job.engine_ref is None:
            return b""
        return await driver.ask(driver.launcher.logs(job.engine_ref, service, stream, tail))

    async def issue_ticket(
        self, identity: Identity, job_id: str, service: str
    ) -> tuple[Secret, Ticket]:
        """Make a one-time credential for one WebSocket of one service."""
        job = await self._permitted(identity, job_id, Right.VIEW)
        if job.ended:
            raise JobEnded(epitaph(job))
        spec = service_of(job, service)
        if self.right(identity, job) is Right.VIEW:
            check_view(job, spec)
        if job.state is State.STOPPING:
            raise JobConflict("The job is being stopped.")
        secret = Secret(secrets.token_urlsafe(32))
        expires = self._wall() + TICKET_LIFETIME
        ticket = Ticket(secret.digest(), job.id, service, identity, expires)
        await self._store.add_ticket(ticket)
        return secret, ticket

    def usage(self, identity: Identity) -> tuple[int, int | None]:
        """Return how many live jobs the identity has, held ones apart, and how many it may have."""
        live = [job for job in self._book.live() if job.owner == identity.subject and not job.held]
        return len(live), self._quota.per_user

    # -- for operators --------------------------------------------------------------------

    def problems(self) -> Sequence[str]:
        """Return what keeps the gateway from starting jobs now."""
        return [
            f"{driver.name}: {driver.trouble}"
            for driver in self._drivers.values()
            if driver.stale_since is not None
        ]

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """Return how many live jobs there are by (state, use case, launcher)."""
        return Counter(
            (str(job.state), job.usecase.name, job.usecase.launcher) for job in self._book.live()
        )
