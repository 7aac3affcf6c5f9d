"""The verbs of `IJobStore` as work inside one transaction.

Each function takes a connection whose transaction the caller begins and commits. Every
write starts by locking the row of the revision counter: so writes follow one another
on every database (SQLite's ``BEGIN IMMEDIATE`` did that already), a quota counts what
is really there, and revisions become visible in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, delete, func, insert, select, update

from vsmgate.errors import (
    IdempotencyMismatch,
    NoSuchJob,
    Unauthenticated,
)
from vsmgate.model import Idempotency, Job, Page, Quota, Ticket, replace
from vsmgate.stores import cursor as cursors
from vsmgate.stores import places, rows, shares
from vsmgate.stores.schema import idempotency, jobs, tickets

__all__ = [
    "add",
    "add_ticket",
    "changes",
    "get",
    "live",
    "page",
    "prune",
    "release",
    "touch",
    "update_job",
    "use_ticket",
]

#: Seconds that an idempotency key is kept at least, also when its job is gone before.
KEY_AGE = 86400.0

_ticket_decoder = msgspec.json.Decoder(Ticket)
_oldest_first = (jobs.c.created_at, jobs.c.id)


def add(
    connection: Connection, job: Job, quota: Quota, asked: Idempotency | None
) -> tuple[Job, bool]:
    """See `IJobStore.add`.

    With ``quota.queue`` a job that would fit is still held behind older held ones that
    fit too and would then take its place, so that nobody overtakes.
    """
    revision = rows.lock(connection)
    if asked is not None:
        earlier = _earlier(connection, job.owner, asked)
        if earlier is not None:
            return earlier, False
    held = False
    used = _used(connection)
    if quota.queue:
        waiting = _held(connection)
        held = job.id not in places.fitting([*waiting, (job.id, job.owner)], used, quota)
        if held:
            places.check_held(job.owner, waiting, quota)
    else:
        places.check(job.owner, used, quota)
    stored = replace(job, held=held, revision=revision + 1)
    connection.execute(insert(jobs).values(id=job.id, **rows.columns(stored)))
    shares.index(connection, stored)
    rows.set_revision(connection, stored.revision)
    if asked is not None:
        connection.execute(
            insert(idempotency).values(
                owner=job.owner,
                key=asked.key,
                digest=asked.digest,
                job_id=job.id,
                created_at=job.created_at,
            )
        )
    return stored, True


def release(connection: Connection, quota: Quota) -> Sequence[Job]:
    """See `IJobStore.release`."""
    revision = rows.lock(connection)
    fits = places.fitting(_held(connection), _used(connection), quota)
    chosen = rows.read(
        connection, rows.documents().where(jobs.c.id.in_(fits)).order_by(*_oldest_first)
    )
    return rows.put(connection, revision, [replace(job, held=False) for job in chosen])


def get(connection: Connection, job_id: str) -> Job:
    """See `IJobStore.get`."""
    found = rows.read(connection, rows.documents().where(jobs.c.id == job_id))
    if not found:
        raise NoSuchJob
    return found[0]


def update_job(connection: Connection, job_id: str, change: Callable[[Job], Job]) -> Job:
    """See `IJobStore.update`."""
    revision = rows.lock(connection)
    job = get(connection, job_id)
    changed = change(job)
    if changed is job:
        return job
    if changed.id != job_id:
        raise ValueError("a change must not give a job another id")
    if changed.grants != job.grants:
        shares.index(connection, changed)
    return rows.put(connection, revision, [changed])[0]


def touch(connection: Connection, activity: Mapping[str, float]) -> None:
    """See `IJobStore.touch`."""
    revision = rows.lock(connection)
    found = rows.read(
        connection,
        rows.documents().where(jobs.c.id.in_(list(activity)), jobs.c.live).order_by(*_oldest_first),
    )
    later = [
        replace(job, last_activity_at=activity[job.id])
        for job in found
        if job.last_activity_at is None or job.last_activity_at < activity[job.id]
    ]
    rows.put(connection, revision, later)


def live(connection: Connection) -> Sequence[Job]:
    """See `IJobStore.live`."""
    return rows.read(connection, rows.documents().where(jobs.c.live).order_by(*_oldest_first))


def changes(connection: Connection, since: int) -> Sequence[Job]:
    """See `IJobStore.changes`."""
    later = rows.documents().where(jobs.c.revision > since).order_by(jobs.c.revision)
    return rows.read(connection, later)


def page(
    connection: Connection,
    owner: str,
    states: Collection[str],
    usecase: str | None,
    limit: int,
    before: cursors.Place | None,
) -> Page:
    """See `IJobStore.page`; ``before`` is the decoded cursor."""
    wanted = rows.documents().where(jobs.c.owner == owner)
    return shares.narrowed(connection, wanted, states, usecase, limit, before)


def prune(connection: Connection, ended_before: float, now: float) -> Sequence[Job]:
    """See `IJobStore.prune`; ``now`` is for the age of keys and tickets.

    A key that is still young takes over its job's document: a retry of that create
    finds its ended job, and does not start another one.
    """
    rows.lock(connection)
    over = (~jobs.c.live) & (jobs.c.ended_at < ended_before)
    gone = rows.read(connection, rows.documents().where(over).order_by(jobs.c.ended_at, jobs.c.id))
    connection.execute(delete(idempotency).where(idempotency.c.created_at < now - KEY_AGE))
    last_words = select(jobs.c.document).where(jobs.c.id == idempotency.c.job_id)
    connection.execute(
        update(idempotency)
        .where(idempotency.c.job_id.in_(select(jobs.c.id).where(over)))
        .values(document=last_words.scalar_subquery())
    )
    shares.prune(connection, [job.id for job in gone], now)
    connection.execute(delete(jobs).where(over))
    connection.execute(delete(tickets).where(tickets.c.expires_at <= now))
    return gone


def add_ticket(connection: Connection, ticket: Ticket) -> None:
    """See `IJobStore.add_ticket`."""
    document = msgspec.json.encode(ticket).decode("utf-8")
    connection.execute(
        insert(tickets).values(
            digest=ticket.digest, expires_at=ticket.expires_at, document=document
        )
    )


def use_ticket(connection: Connection, digest: str, now: float) -> Ticket:
    """See `IJobStore.use_ticket`: taken by deleting it, so only once."""
    taken = delete(tickets).where(tickets.c.digest == digest).returning(tickets.c.document)
    document = connection.execute(taken).scalar_one_or_none()
    ticket = None if document is None else _ticket_decoder.decode(document)
    if ticket is None or ticket.expires_at <= now:
        raise Unauthenticated("The ticket is unknown, used or expired: ask for a new one.")
    return ticket


def _earlier(connection: Connection, owner: str, asked: Idempotency) -> Job | None:
    """Return the job that the owner's key made before, or None for a new key."""
    row = connection.execute(
        select(
            idempotency.c.job_id,
            idempotency.c.digest,
            func.coalesce(jobs.c.document, idempotency.c.document),
        )
        .join_from(idempotency, jobs, jobs.c.id == idempotency.c.job_id, isouter=True)
        .where(idempotency.c.owner == owner, idempotency.c.key == asked.key)
    ).one_or_none()
    if row is None:
        return None
    job_id, digest, document = row
    if digest != asked.digest:
        raise IdempotencyMismatch(
            "Take a new Idempotency-Key for a new request, or send the same request again."
        )
    return rows.decode(job_id, document)


def _used(connection: Connection) -> dict[str, int]:
    """Return owner -> how many live, not held jobs."""
    counted = select(jobs.c.owner, func.count()).where(jobs.c.live, ~jobs.c.held)
    found = connection.execute(counted.group_by(jobs.c.owner))
    return {row.owner: row[1] for row in found}


def _held(connection: Connection) -> Sequence[tuple[str, str]]:
    """Return (id, owner) of the live held jobs, oldest first."""
    waiting = select(jobs.c.id, jobs.c.owner).where(jobs.c.live, jobs.c.held)
    return [
        (job_id, owner) for job_id, owner in connection.execute(waiting.order_by(*_oldest_first))
    ]
