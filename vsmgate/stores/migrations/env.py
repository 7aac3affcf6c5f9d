"""Alembic's entry: runs the scripts on the connection that `schema.migrate` hands over."""

from __future__ import annotations

from alembic import context

from vsmgate.stores.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
