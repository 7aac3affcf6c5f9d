"""Sharing as work inside one transaction: lists of jobs, and who is connected to them.

As `vsmgate.stores.transactions`, which calls `index` and `prune` with its own writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, Select, delete, insert, or_, select, tuple_, update

from vsmgate.errors import StoreUnavailable
from vsmgate.grants import Visitor
from vsmgate.model import Job, Page
from vsmgate.stores import cursor as cursors
from vsmgate.stores import rows
from vsmgate.stores.schema import jobs, presence, shares

__all__ = ["attend", "index", "narrowed", "prune", "shared", "visitors"]

#: Seconds after which nobody asks any more what a crashed process had said.
FORGOTTEN = 600.0

_decoder = msgspec.json.Decoder(tuple[Visitor, ...])


def index(connection: Connection, job: Job) -> None:
    """Let a job be found by its present grants."""
    connection.execute(delete(shares).where(shares.c.job_id == job.id))
    found = [
        {
            "job_id": job.id,
            "kind": "group" if grant.subject is None else "subject",
            "name": grant.group if grant.subject is None else grant.subject,
            "expires_at": grant.expires_at,
        }
        for grant in job.grants
    ]
    if found:
        connection.execute(insert(shares), found)


def narrowed(
    connection: Connection,
    wanted: Select[str, str],
    states: Collection[str],
    usecase: str | None,
    limit: int,
    before: cursors.Place | None,
) -> Page:
    """Return the page of the jobs that ``wanted`` selects; ``before`` is the decoded cursor."""
    place = (jobs.c.created_at, jobs.c.id)
    if states:
        wanted = wanted.where(jobs.c.state.in_(sorted(states)))
    if usecase is not None:
        wanted = wanted.where(jobs.c.usecase == usecase)
    if before is not None:
        wanted = wanted.where(tuple_(*place) < before)
    newest_first = wanted.order_by(*(column.desc() for column in place))
    # One more than asked for tells whether there is a next page.
    found = rows.read(connection, newest_first.limit(limit + 1))
    items = found[:limit]
    more = len(found) > limit
    return Page(tuple(items), cursors.encode(cursors.place_of(items[-1])) if more else None)


def shared(
    connection: Connection,
    subject: str,
    groups: Collection[str],
    now: float,
    states: Collection[str],
    usecase: str | None,
    limit: int,
    before: cursors.Place | None,
) -> Page:
    """See `IJobStore.shared`."""
    mine = or_(
        (shares.c.kind == "subject") & (shares.c.name == subject),
        (shares.c.kind == "group") & shares.c.name.in_(list(groups)),
    )
    current = or_(shares.c.expires_at.is_(None), shares.c.expires_at > now)
    found = select(shares.c.job_id).where(mine, current)
    wanted = rows.documents().where(jobs.c.id.in_(found))
    return narrowed(connection, wanted, states, usecase, limit, before)


def attend(
    connection: Connection, process: str, present: Mapping[str, Sequence[Visitor]], now: float
) -> None:
    """See `IJobStore.attend`."""
    mine = presence.c.process == process
    if present:
        connection.execute(delete(presence).where(mine, presence.c.job_id.in_(list(present))))
    connection.execute(update(presence).where(mine).values(seen_at=now))
    found = [
        {
            "process": process,
            "job_id": job_id,
            "seen_at": now,
            "document": msgspec.json.encode(tuple(there)).decode("utf-8"),
        }
        for job_id, there in present.items()
        if there
    ]
    if found:
        connection.execute(insert(presence), found)


def visitors(connection: Connection, job_id: str, since: float) -> Sequence[Visitor]:
    """See `IJobStore.visitors`."""
    said = select(presence.c.document).where(
        presence.c.job_id == job_id, presence.c.seen_at > since
    )
    try:
        found = [
            there
            for document in connection.execute(said).scalars()
            for there in _decoder.decode(document)
        ]
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"Who is at job {job_id} cannot be read: {error}.") from error
    return sorted(found, key=lambda there: (there.since, there.subject, there.service))


def prune(connection: Connection, gone: Sequence[str], now: float) -> None:
    """Forget the grants of jobs that are ``gone``, and what crashed processes said."""
    for job_id in gone:
        connection.execute(delete(shares).where(shares.c.job_id == job_id))
    connection.execute(delete(presence).where(presence.c.seen_at <= now - FORGOTTEN))
