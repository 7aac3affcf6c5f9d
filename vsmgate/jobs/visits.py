"""Who is connected to which job: told to the store, and ended when a right has ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from msgspec import Struct

from vsmgate.grants import Right, Visitor
from vsmgate.interfaces import IJobStore
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.sharing import right_of
from vsmgate.model import Identity, Job
from vsmgate.relay.desk import Target

__all__ = ["HEARTBEAT", "SILENCE", "TICK", "Visits"]

#: Seconds between two looks at grants that expire, and the least between two writes.
TICK = 1.0

#: Seconds after which a process with connections says at the latest that it lives, and for
#: which others believe what it said.
HEARTBEAT, SILENCE = 15.0, 45.0


class _Visit(Struct, eq=False):
    """One open connection; called, it has ended. ``revoked``: None once that was called."""

    visits: Visits
    job_id: str
    service: str
    right: Right
    identity: Identity
    since: float
    revoked: Callable[[], None] | None

    def __call__(self) -> None:
        self.visits.left(self)

    def visitor(self) -> Visitor:
        """Return what others see of it."""
        return Visitor(self.identity.subject, self.service, self.right, self.since)


class Visits:
    """The open connections of this process; `tick` is to be called every `TICK` seconds.

    At rest it writes to the store every `HEARTBEAT` seconds, and only while there are relays.
    """

    def __init__(self, book: JobBook, store: IJobStore, wall: Callable[[], float]) -> None:
        self._book = book
        self._store = store
        self._wall = wall
        self._process = os.urandom(12).hex()
        #: Job id -> its relays; and the connections that are there by a grant.
        self._present: dict[str, list[_Visit]] = {}
        self._guests: dict[str, list[_Visit]] = {}
        self._changed: set[str] = set()
        self._told_at = 0.0
        book.watch(self._look)

    def enter(self, target: Target, relay: bool, revoked: Callable[[], None]) -> Callable[[], None]:
        """Note a connection (see `vsmgate.relay.desk.Desk.visit`)."""
        job_id, identity = target.job.id, target.identity
        guest = target.right is not Right.OWNER
        end = revoked if guest else None
        visit = _Visit(self, job_id, target.service, target.right, identity, self._wall(), end)
        if relay:
            self._present.setdefault(job_id, []).append(visit)
            self._changed.add(job_id)
        if guest:
            self._guests.setdefault(job_id, []).append(visit)
            job = self._book.get(job_id)  # it may have changed since it was asked for the target
            if job is not None:
                self._check(job, visit)
        return visit

    def left(self, visit: _Visit) -> None:
        """Note the end of a connection."""
        visit.revoked = None
        for visits in (self._present, self._guests):
            there = visits.get(visit.job_id, [])
            if visit in there:
                there.remove(visit)
                if not there:
                    del visits[visit.job_id]
                if visits is self._present:
                    self._changed.add(visit.job_id)

    async def at(self, job_id: str) -> Sequence[Visitor]:
        """Return who is connected to a job, in all processes, as of a moment ago."""
        return await self._store.visitors(job_id, self._wall() - SILENCE)

    # -- rights that end ----------------------------------------------------------------

    def _look(self, job: Job) -> None:
        """See a job that changed, in this process or in another."""
        for visit in list(self._guests.get(job.id, ())):
            self._check(job, visit)

    def _check(self, job: Job, visit: _Visit) -> None:
        right = right_of(job, visit.identity, self._wall())
        if right is None or not right.includes(visit.right):
            revoked, visit.revoked = visit.revoked, None
            if revoked is not None:
                revoked()

    # -- now and then -------------------------------------------------------------------

    async def tick(self) -> float:
        """Look for grants that have expired, and tell the store; return when to do so again."""
        for job_id in list(self._guests):
            job = self._book.get(job_id)
            if job is not None:  # of one that is over the relays are closed for that
                self._look(job)
        await self.flush()
        return TICK

    async def flush(self) -> None:
        """Store what has changed, or that nothing has; again the next time when that fails."""
        now = self._wall()
        due = bool(self._present) and abs(now - self._told_at) >= HEARTBEAT
        if not (self._changed or due):
            return
        changed, self._changed = self._changed, set()
        present = {
            job_id: [visit.visitor() for visit in self._present.get(job_id, ())]
            for job_id in changed
        }
        try:
            await self._store.attend(self._process, present, now)
        except BaseException:
            # All of it: what the store had may have been pruned by the time that it is back.
            self._changed |= changed | self._present.keys()
            raise
        self._told_at = now
