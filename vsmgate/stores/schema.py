"""The tables, and how a database comes to have them.

A job is one JSON document of `vsmgate.model.Job`; beside it stand the columns that
something is selected by. `migrate` runs the Alembic scripts in ``migrations/``.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    MetaData,
    String,
    Table,
    Text,
)

from vsmgate.errors import ConfigError, Problem

__all__ = [
    "counters",
    "idempotency",
    "jobs",
    "metadata",
    "migrate",
    "presence",
    "shares",
    "tickets",
]

metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(26), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("usecase", Text, nullable=False),
    Column("launcher", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("live", Boolean, nullable=False),
    Column("held", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("revision", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    Index("jobs_by_owner", "owner", "created_at", "id"),
    Index("jobs_by_life", "live", "created_at"),
    Index("jobs_by_revision", "revision", unique=True),
)

#: ``document`` is null as long as the job itself is there; see `transactions.prune`.
idempotency = Table(
    "idempotency",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("job_id", String(26), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("document", Text),
    Index("idempotency_by_job", "job_id"),
)

tickets = Table(
    "tickets",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("expires_at", Double, nullable=False),
    Column("document", Text, nullable=False),
)

#: Who has a grant on which job, to find the jobs by; the grants are in the jobs' documents.
#: ``kind`` is ``subject`` or ``group``.
shares = Table(
    "shares",
    metadata,
    Column("job_id", String(26), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("expires_at", Double),
    Index("shares_by_name", "kind", "name"),
)

#: Which relays of a process are open at a job, and when that process was last heard of.
presence = Table(
    "presence",
    metadata,
    Column("process", String(32), primary_key=True),
    Column("job_id", String(26), primary_key=True),
    Column("seen_at", Double, nullable=False),
    Column("document", Text, nullable=False),
    Index("presence_by_job", "job_id"),
)

#: One row, ``revision``: the last revision that a job got. Writers lock it first.
counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", BigInteger, nullable=False),
)


def migrate(connection: Connection) -> None:
    """Bring the schema to this version, inside of the connection's transaction.

    Raises `ConfigError` when a newer version of the gateway made it.
    """
    config = Config()
    folder = Path(__file__).with_name("migrations")
    # The path goes through configparser, to which % is special.
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    present = set(MigrationContext.configure(connection).get_current_heads())
    if present == set(scripts.get_heads()):
        return
    unknown = present - {script.revision for script in scripts.walk_revisions()}
    if unknown:
        detail = (
            f"was made by a newer vsmgate (schema {', '.join(sorted(unknown))}; this one knows"
            f" {', '.join(scripts.get_heads())}): install that version, or use another store"
        )
        source = str(connection.engine.url.database)
        raise ConfigError(source, [Problem("store.url", detail)])
    command.upgrade(config, "head")
