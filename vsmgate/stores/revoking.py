"""What was revoked, as work inside one transaction (see `vsmgate.stores.transactions`)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select, update

from vsmgate.stores import rows
from vsmgate.stores.schema import revocations as table

__all__ = ["lift", "revocations", "revoke"]


def revoke(connection: Connection, subject: str, at: float) -> None:
    """See `IJobStore.revoke`."""
    rows.lock(connection)
    mine = table.c.subject == subject
    known = connection.execute(select(table.c.revoked_at).where(mine)).scalar_one_or_none()
    if known is None:
        connection.execute(insert(table).values(subject=subject, revoked_at=at))
    elif known < at:
        connection.execute(update(table).where(mine).values(revoked_at=at))


def lift(connection: Connection, subject: str) -> bool:
    """See `IJobStore.lift`."""
    return connection.execute(delete(table).where(table.c.subject == subject)).rowcount > 0


def revocations(connection: Connection) -> Mapping[str, float]:
    """See `IJobStore.revocations`."""
    found = connection.execute(select(table.c.subject, table.c.revoked_at))
    return {row.subject: row.revoked_at for row in found}
