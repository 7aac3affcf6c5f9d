"""Where jobs are asked for: what the REST face may do, for whom.

Rights are decided by `vsmgate.jobs.access`, at every call; `vsmgate.jobs.share_desk` gives them.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.config import JobsConfig
from vsmgate.errors import (
    EngineRefused,
    JobConflict,
    JobEnded,
    NotExtendable,
)
from vsmgate.grants import Right
from vsmgate.interfaces import IExtendable, IJobStore
from vsmgate.jobs import changes
from vsmgate.jobs.access import Access, epitaph, service_of
from vsmgate.jobs.administration import Administration
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.doctor import Doctor
from vsmgate.jobs.driver import Driver, as_seen, page_as_seen
from vsmgate.jobs.revocations import Revocations
from vsmgate.jobs.share_desk import ShareDesk
from vsmgate.jobs.sharing import check_view
from vsmgate.jobs.starter import Starter
from vsmgate.lifecycle import State
from vsmgate.model import (
    Identity,
    Job,
    LogStream,
    Page,
    Quota,
    Reason,
    Secret,
    Ticket,
    Usecase,
)
from vsmgate.permissions import Permissions

__all__ = ["JobDesk"]

#: Seconds that a ticket lives.
TICKET_LIFETIME = 60.0


class JobDesk:
    """Shows, extends and stops jobs; others start, share and administer them for it."""

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
        permissions: Permissions,
        revocations: Revocations,
        unfit: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._book = book
        self._store = store
        self._drivers = drivers
        self.authenticate = access.authenticate
        self.expires_in = access.expires_in
        self.recheck = access.recheck
        self.diagnose = doctor.diagnose
        self.right = access.right
        self.sharing = ShareDesk(book, access, wall)
        self._access = access
        self._config = config
        self._clock = clock
        self._wall = wall
        self._unfit = unfit
        self.administers = permissions.administers
        starter = Starter(book, drivers, usecases, permissions, config, quota, clock, wall)
        self.usecases = starter.usecases
        self.start = starter.start
        self.usage = starter.usage
        self.administration = Administration(book, store, drivers, wall, revocations)

    async def _permitted(self, identity: Identity, job_id: str, needed: Right) -> Job:
        return as_seen(await self._access.permitted(identity, job_id, needed), self._drivers)

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
            await self._book.wait(job, seconds, self._clock)
            job = await self._permitted(identity, job_id, Right.VIEW)  # it may have ended meanwhile
        return job

    async def page(
        self,
        identity: Identity,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
        *,
        shared: bool = False,
    ) -> Page:
        """Return a page of the identity's jobs, or those shared with it, newest first."""
        who, groups = identity.subject, identity.groups
        if shared:
            found = self._store.shared(who, groups, self._wall(), states, usecase, limit, cursor)
        else:
            found = self._store.page(who, states, usecase, limit, cursor)
        return page_as_seen(await found, self._drivers)

    async def stop(self, identity: Identity, job_id: str) -> Job:
        """Ask for a job's end; does nothing when it is over."""
        job = await self._permitted(identity, job_id, Right.OWNER)
        reason = Reason("cancelled_by_user", "The job's owner stopped it.")
        return await self.administration.end(job, reason)

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

    # -- for operators --------------------------------------------------------------------

    def problems(self) -> Sequence[str]:
        """Return what keeps the gateway from starting jobs now.

        Strangers read it; what an engine said is for administrators, and in the log.
        """
        away = (driver for driver in self._drivers.values() if driver.stale_since is not None)
        return [
            *self._unfit(),
            *(f"The engine {driver.name} cannot be reached." for driver in away),
        ]

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        """Return how many live jobs there are by (state, use case, launcher)."""
        return Counter(
            (str(job.state), job.usecase.name, job.usecase.launcher) for job in self._book.live()
        )
