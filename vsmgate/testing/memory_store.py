"""A job store in memory: the shipped fake, for tests that drive a clock by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from zope.interface import implementer

from vsmgate.errors import IdempotencyMismatch, NoSuchJob, StoreUnavailable, Unauthenticated
from vsmgate.grants import Visitor
from vsmgate.interfaces import IJobStore
from vsmgate.model import Idempotency, Job, Page, Quota, Ticket, replace
from vsmgate.stores import cursor as cursors
from vsmgate.stores import places

__all__ = ["MemoryStore"]

#: Seconds that an idempotency key is kept at least.
KEY_AGE = 86400.0

#: Seconds after which what a crashed process said of presence goes.
FORGOTTEN = 600.0


@implementer(IJobStore)
class MemoryStore:
    """Keeps jobs in memory; no coroutine of it ever waits, so a clock need not turn.

    It outlives `close`: open it again to play a restart. While ``fault`` is set every
    verb fails with it, before anything changed. ``wall`` tells the age of keys and
    tickets to `prune`.
    """

    def __init__(self, wall: Callable[[], float] = lambda: 0.0) -> None:
        self.fault: StoreUnavailable | None = None
        self._wall = wall
        self._opened = False
        self._revision = 0
        self._jobs: dict[str, Job] = {}
        #: (owner, key) -> digest, time, and the job as it was when it was pruned.
        self._keys: dict[tuple[str, str], tuple[str, float, Job]] = {}
        self._tickets: dict[str, Ticket] = {}
        self._presence: dict[tuple[str, str], tuple[Visitor, ...]] = {}  # (process, job id)
        self._heard: dict[str, float] = {}
        self._revocations: dict[str, float] = {}

    async def open(self) -> None:
        self._opened = True
        self._check()

    async def close(self) -> None:
        self._opened = False

    async def add(
        self, job: Job, quota: Quota, idempotency: Idempotency | None
    ) -> tuple[Job, bool]:
        self._check()
        if idempotency is not None and (job.owner, idempotency.key) in self._keys:
            digest, _, last = self._keys[job.owner, idempotency.key]
            if digest != idempotency.digest:
                raise IdempotencyMismatch
            return self._jobs.get(last.id, last), False
        held = False
        taken, claim = self._taken(), places.Claim.of(job)
        if quota.queue:
            waiting = self._held()
            held = job.id not in places.fitting([*waiting, (job.id, claim)], taken, quota)
            if held:
                places.check_held(job.owner, waiting, quota)
        else:
            places.check(claim, taken, quota)
        stored = self._put(replace(job, held=held))
        if idempotency is not None:
            self._keys[job.owner, idempotency.key] = (idempotency.digest, job.created_at, stored)
        return stored, True

    async def release(self, quota: Quota) -> Sequence[Job]:
        self._check()
        fits = places.fitting(self._held(), self._taken(), quota)
        return [self._put(replace(self._jobs[job_id], held=False)) for job_id in fits]

    async def get(self, job_id: str) -> Job:
        self._check()
        if job_id not in self._jobs:
            raise NoSuchJob
        return self._jobs[job_id]

    async def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        job = await self.get(job_id)
        changed = change(job)
        if changed is job:
            return job
        if changed.id != job_id:
            raise ValueError("a change must not give a job another id")
        return self._put(changed)

    async def touch(self, activity: Mapping[str, float]) -> None:
        self._check()
        for job in self._live():
            seen = activity.get(job.id)
            last = job.last_activity_at
            if seen is not None and (last is None or last < seen):
                self._put(replace(job, last_activity_at=seen))

    async def live(self) -> Sequence[Job]:
        self._check()
        return self._live()

    async def changes(self, since: int) -> Sequence[Job]:
        self._check()
        later = [job for job in self._jobs.values() if job.revision > since]
        return sorted(later, key=lambda job: job.revision)

    async def page(
        self,
        owner: str | None,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
        launcher: str | None = None,
    ) -> Page:
        own = [
            job
            for job in self._jobs.values()
            if owner in (None, job.owner) and launcher in (None, job.usecase.launcher)
        ]
        return self._narrowed(own, states, usecase, limit, cursor)

    async def shared(
        self,
        subject: str,
        groups: Collection[str],
        now: float,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        found = [
            job
            for job in self._jobs.values()
            if any(g.current(now) and g.covers(subject, groups) for g in job.grants)
        ]
        return self._narrowed(found, states, usecase, limit, cursor)

    async def attend(
        self, process: str, present: Mapping[str, Sequence[Visitor]], now: float
    ) -> None:
        self._check()
        self._presence.update({(process, job_id): tuple(v) for job_id, v in present.items()})
        self._presence = {place: there for place, there in self._presence.items() if there}
        self._heard[process] = now

    async def visitors(self, job_id: str, since: float) -> Sequence[Visitor]:
        self._check()
        found = [
            visitor
            for (process, there), visitors in self._presence.items()
            if there == job_id and self._heard[process] > since
            for visitor in visitors
        ]
        return sorted(found, key=lambda there: (there.since, there.subject, there.service))

    def _narrowed(
        self,
        jobs: Sequence[Job],
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        self._check()
        before = None if cursor is None else cursors.decode(cursor)
        found = [
            job
            for job in sorted(jobs, key=cursors.place_of, reverse=True)
            if (not states or job.state in states)
            and usecase in (None, job.usecase.name)
            and (before is None or cursors.place_of(job) < before)
        ]
        limit = max(limit, 1)
        items = found[:limit]
        more = len(found) > limit
        return Page(tuple(items), cursors.encode(cursors.place_of(items[-1])) if more else None)

    async def prune(self, ended_before: float) -> Sequence[Job]:
        self._check()
        now = self._wall()
        over = {
            job.id: job
            for job in self._jobs.values()
            if job.ended_at is not None and job.ended_at < ended_before
        }
        self._keys = {
            name: (digest, created_at, over.get(job.id, job))
            for name, (digest, created_at, job) in self._keys.items()
            if created_at >= now - KEY_AGE
        }
        for job_id in over:
            del self._jobs[job_id]
        self._tickets = {d: t for d, t in self._tickets.items() if t.expires_at > now}
        crashed = {p for p, heard in self._heard.items() if heard <= now - FORGOTTEN}
        self._heard = {p: heard for p, heard in self._heard.items() if p not in crashed}
        self._presence = {at: v for at, v in self._presence.items() if at[0] not in crashed}
        return sorted(over.values(), key=lambda job: (job.ended_at or 0.0, job.id))

    async def add_ticket(self, ticket: Ticket) -> None:
        self._check()
        self._tickets[ticket.digest] = ticket

    async def revoke(self, subject: str, at: float) -> None:
        self._check()
        self._revocations[subject] = max(at, self._revocations.get(subject, at))

    async def lift(self, subject: str) -> bool:
        self._check()
        return self._revocations.pop(subject, None) is not None

    async def revocations(self) -> Mapping[str, float]:
        self._check()
        return dict(self._revocations)

    async def use_ticket(self, digest: str, now: float) -> Ticket:
        self._check()
        ticket = self._tickets.pop(digest, None)
        if ticket is None or ticket.expires_at <= now:
            raise Unauthenticated("The ticket is unknown, used or expired: ask for a new one.")
        return ticket

    def _check(self) -> None:
        if self.fault is not None:
            raise self.fault
        if not self._opened:
            raise StoreUnavailable("The job store is closed.")

    def _put(self, job: Job) -> Job:
        self._revision += 1
        stored = self._jobs[job.id] = replace(job, revision=self._revision)
        return stored

    def _live(self) -> list[Job]:
        return sorted((j for j in self._jobs.values() if not j.ended), key=cursors.place_of)

    def _held(self) -> Sequence[tuple[str, places.Claim]]:
        return [(job.id, places.Claim.of(job)) for job in self._live() if job.held]

    def _taken(self) -> places.Taken:
        return places.Taken((places.Claim.of(job), 1) for job in self._live() if not job.held)
