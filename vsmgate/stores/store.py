"""The job store on SQL: `IJobStore` over a `Database`.

The reactor's side only hands work over; SQL runs and documents are read and written in
the database's threads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from zope.interface import implementer

from vsmgate.grants import Visitor
from vsmgate.hands.database import Database
from vsmgate.interfaces import IJobStore, ISingleMaster
from vsmgate.model import Idempotency, Job, Page, Quota, Ticket
from vsmgate.stores import cursor as cursors
from vsmgate.stores import revoking, shares, transactions
from vsmgate.stores.schema import migrate

__all__ = ["SqlStore"]


@implementer(IJobStore, ISingleMaster)
class SqlStore:
    """Keeps jobs in a database; ``wall`` tells the age of keys and tickets."""

    def __init__(self, database: Database, wall: Callable[[], float]) -> None:
        self.lock = database.path.with_name(f"{database.path.name}.lock")
        self._database = database
        self._wall = wall

    async def open(self) -> None:
        await self._database.open(migrate)

    async def close(self) -> None:
        await self._database.close()

    async def add(
        self, job: Job, quota: Quota, idempotency: Idempotency | None
    ) -> tuple[Job, bool]:
        return await self._database.write(transactions.add, job, quota, idempotency)

    async def release(self, quota: Quota) -> Sequence[Job]:
        return await self._database.write(transactions.release, quota)

    async def get(self, job_id: str) -> Job:
        return await self._database.read(transactions.get, job_id)

    async def update(self, job_id: str, change: Callable[[Job], Job]) -> Job:
        return await self._database.write(transactions.update_job, job_id, change)

    async def touch(self, activity: Mapping[str, float]) -> None:
        if activity:
            await self._database.write(transactions.touch, dict(activity))

    async def live(self) -> Sequence[Job]:
        return await self._database.read(transactions.live)

    async def changes(self, since: int) -> Sequence[Job]:
        return await self._database.read(transactions.changes, since)

    async def page(
        self,
        owner: str | None,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
        launcher: str | None = None,
    ) -> Page:
        before = None if cursor is None else cursors.decode(cursor)
        return await self._database.read(
            transactions.page, owner, tuple(states), usecase, max(limit, 1), before, launcher
        )

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
        before = None if cursor is None else cursors.decode(cursor)
        return await self._database.read(
            shares.shared,
            subject,
            tuple(groups),
            now,
            tuple(states),
            usecase,
            max(limit, 1),
            before,
        )

    async def attend(
        self, process: str, present: Mapping[str, Sequence[Visitor]], now: float
    ) -> None:
        await self._database.write(shares.attend, process, dict(present), now)

    async def visitors(self, job_id: str, since: float) -> Sequence[Visitor]:
        return await self._database.read(shares.visitors, job_id, since)

    async def prune(self, ended_before: float) -> Sequence[Job]:
        return await self._database.write(transactions.prune, ended_before, self._wall())

    async def add_ticket(self, ticket: Ticket) -> None:
        await self._database.write(transactions.add_ticket, ticket)

    async def revoke(self, subject: str, at: float) -> None:
        await self._database.write(revoking.revoke, subject, at)

    async def lift(self, subject: str) -> bool:
        return await self._database.write(revoking.lift, subject)

    async def revocations(self) -> Mapping[str, float]:
        return await self._database.read(revoking.revocations)

    async def use_ticket(self, digest: str, now: float) -> Ticket:
        return await self._database.write(transactions.use_ticket, digest, now)
