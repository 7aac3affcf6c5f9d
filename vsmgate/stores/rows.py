"""A job as a row: how one is written, read, and given its revision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, bindparam, select, update

from vsmgate.errors import StoreUnavailable
from vsmgate.lifecycle import ENDED
from vsmgate.model import Job, replace
from vsmgate.stores.schema import counters, jobs

__all__ = ["columns", "decode", "documents", "lock", "put", "read", "set_revision"]

_decoder = msgspec.json.Decoder(Job)


def lock(connection: Connection) -> int:
    """Keep other writers out until the end of the transaction; return the last revision."""
    row = select(counters.c.value).where(counters.c.name == "revision").with_for_update()
    revision: int = connection.execute(row).scalar_one()
    return revision


def set_revision(connection: Connection, revision: int) -> None:
    """Keep the last revision that a job got."""
    row = update(counters).where(counters.c.name == "revision")
    connection.execute(row.values(value=revision))


def put(connection: Connection, revision: int, changed: Sequence[Job]) -> list[Job]:
    """Write jobs that exist under the revisions after ``revision``; return them as stored."""
    stored = [
        replace(job, revision=following)
        for following, job in enumerate(changed, start=revision + 1)
    ]
    if stored:
        connection.execute(
            update(jobs).where(jobs.c.id == bindparam("job_id")),
            [{"job_id": job.id, **columns(job)} for job in stored],
        )
        set_revision(connection, stored[-1].revision)
    return stored


def columns(job: Job) -> dict[str, Any]:
    """Return all of a job's row but its id."""
    return {
        "owner": job.owner,
        "usecase": job.usecase.name,
        "launcher": job.usecase.launcher,
        "state": job.state.value,
        "live": job.state not in ENDED,
        "held": job.held,
        "created_at": job.created_at,
        "ended_at": job.ended_at,
        "revision": job.revision,
        "document": msgspec.json.encode(job).decode("utf-8"),
        "groups": msgspec.json.encode(sorted(job.groups)).decode("utf-8"),
    }


def documents() -> Select[str, str]:
    """Return the select of all jobs, to be narrowed and then given to `read`."""
    return select(jobs.c.id, jobs.c.document)


def read(connection: Connection, wanted: Select[str, str]) -> list[Job]:
    """Return the jobs that ``wanted`` (made from `documents`) finds, in its order."""
    return [decode(job_id, document) for job_id, document in connection.execute(wanted)]


def decode(job_id: str, document: str) -> Job:
    """Return the job that ``document`` tells of; `StoreUnavailable` when it cannot be read."""
    try:
        return _decoder.decode(document)
    except msgspec.DecodeError as error:
        raise StoreUnavailable(f"The stored job {job_id} cannot be read: {error}.") from error
