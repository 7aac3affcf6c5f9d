"""The ``sql`` kind of job store: its settings, and how they become a `SqlStore`.

Cheap to import: SQLAlchemy and Alembic come in with `SqlStoreFactory.make`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from zope.interface import implementer

from vsmgate.errors import ConfigError, Problem
from vsmgate.interfaces import Context, IJobStore, IJobStoreFactory, ISettingsChecker

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["SqlSettings", "SqlStoreFactory"]

DEFAULT_URL = "sqlite:///{state_dir}/vsmgate.sqlite3"


class SqlSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[store]`` with ``kind = "sql"``.

    ``url``: the database as SQLAlchemy writes it; ``{state_dir}`` is the state
    directory, and a relative path starts at the configuration file's folder. A URL with
    a password is never written here: ``url_file`` names a file that holds the URL,
    ``url_env`` an environment variable. At most one of the three;
    ``sqlite:///{state_dir}/vsmgate.sqlite3`` without any.
    """

    url: str | None = None
    url_file: str | None = None
    url_env: str | None = None


@implementer(IJobStoreFactory, ISettingsChecker)
class SqlStoreFactory:
    """Makes job stores on a SQL database."""

    kind = "sql"
    help = "A SQLite file, through SQLAlchemy (PostgreSQL is to come)."
    settings: type = SqlSettings

    def make(self, settings: SqlSettings, context: Context) -> IJobStore:
        from vsmgate.hands.database import Database
        from vsmgate.stores.store import SqlStore

        url = _url(settings, context)
        return SqlStore(Database(url, context.reactor), context.wall)

    def inspect(self, settings: SqlSettings, context: Context) -> None:
        _url(settings, context)


def _url(settings: SqlSettings, context: Context) -> URL:
    """Return the database's URL, checked; never shows it when it may hold a secret."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    key, text = _given(settings, context)
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise _refusal(key, f"is not a database URL; write one like {DEFAULT_URL}") from None
    if key == "url" and url.password is not None:
        raise _refusal(
            key,
            "holds a password: put the URL into a file named by url_file, or into an"
            " environment variable named by url_env",
        )
    if url.get_backend_name() != "sqlite":
        detail = f"{url.get_backend_name()!r} is not supported yet; known: sqlite"
        raise _refusal(key, detail)
    path = (url.database or "").replace("{state_dir}", str(context.state_dir.absolute()))
    if path in ("", ":memory:") or path.startswith("file:"):
        raise _refusal(key, f"must name a file; write it like {DEFAULT_URL}")
    return url.set(database=str(context.config_dir / path))


def _given(settings: SqlSettings, context: Context) -> tuple[str, str]:
    """Return the key that gives the URL, and the URL."""
    given = [key for key in ("url", "url_file", "url_env") if getattr(settings, key) is not None]
    if len(given) > 1:
        raise _refusal(given[1], f"cannot stand beside {given[0]}: give one of them")
    if settings.url_file is not None:
        path = context.config_dir / Path(settings.url_file)
        try:
            return "url_file", path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise _refusal("url_file", f"{path} cannot be read: {reason.lower()}") from None
    if settings.url_env is not None:
        value = os.environ.get(settings.url_env)
        if not value:
            detail = f"the environment variable {settings.url_env} is not set"
            raise _refusal("url_env", detail)
        return "url_env", value.strip()
    return "url", DEFAULT_URL if settings.url is None else settings.url


def _refusal(key: str, detail: str) -> ConfigError:
    return ConfigError("configuration", [Problem(f"store.{key}", detail)])
