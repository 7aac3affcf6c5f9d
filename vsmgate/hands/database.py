"""SQLAlchemy off the reactor: each piece of work is one transaction in a thread of ours.

There are two lanes, each with its own engine and its own bounded pool of threads: one
*writer* thread, so that writes queue here and not at the database's lock, and a few
*readers*, whose connections cannot write. What is specific to one dialect is in
`_dress_sqlite`; the rest is portable.

For SQLite: write-ahead log (readers never wait for the writer), ``synchronous=FULL``
(a committed transaction survives a power cut), and ``BEGIN IMMEDIATE`` for writes: the
write lock is taken at the start, where waiting for it is safe, and never in the middle
of a transaction, where SQLite would have to refuse it.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Lock
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorCore, IReactorFromThreads, IReactorTime
from twisted.internet.threads import deferToThreadPool

from vsmgate.errors import ConfigError, Problem, StoreUnavailable
from vsmgate.hands.threads import OwnThreads

__all__ = ["Database"]

P = ParamSpec("P")
T = TypeVar("T")

#: SQLite's primary result codes of faults that may pass without an operator.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
    }
)
#: Faults of the asking code, not of the database: they are not dressed up as outages.
_OURS = (
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    sqlite3.NotSupportedError,
)


class _Lane:
    """An engine and the threads that use it; every thread has one connection."""

    def __init__(self, name: str, url: URL, threads: int, patience: float, *, writes: bool) -> None:
        self._url = url
        self._threads = threads
        self._patience = patience
        self._writes = writes
        self._name = name

    def start(self) -> None:
        self.pool = OwnThreads(self._name, self._threads)
        self.engine = create_engine(
            self._url,
            connect_args={"timeout": self._patience, "check_same_thread": False},
            pool_size=self._threads,
            max_overflow=0,
        )
        _dress_sqlite(self.engine, writes=self._writes)
        self.pool.start()

    def stop(self) -> None:
        self.pool.stop()
        self.engine.dispose()

    def transact(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run ``work(connection, ...)`` in one transaction; in a thread of the pool."""
        with self.engine.begin() as connection:
            return work(connection, *args, **kwargs)


class Database:
    """One database, driven from the reactor.

    ``url`` names a SQLite file. ``readers``: how many reading threads. ``patience``:
    seconds that a transaction waits for its turn here, and then for another process's lock.
    Threads and files exist from `open` to `close` only; when nobody closes, the reactor's
    shutdown does.
    """

    def __init__(
        self, url: URL, reactor: IReactorCore, *, readers: int = 2, patience: float = 5.0
    ) -> None:
        self._reactor = reactor
        self._patience = patience
        self.path = Path(url.database or "")
        self._writer = _Lane("store-writer", url, 1, patience, writes=True)
        self._readers = _Lane("store-reader", url, readers, patience, writes=False)
        self._opened = False
        self._file = (0, 0)
        self._working: set[Deferred[None]] = set()
        self._trigger: Any = None

    async def open(self, prepare: Callable[[Connection], None]) -> None:
        """Start the threads and call ``prepare`` in the first writing transaction.

        Fails with `ConfigError` when an operator must look: no database file and none
        can be made, a file that is no database, a damaged one. ``prepare`` may raise it
        too. Fails with `StoreUnavailable` when trying again may help (locked, disk
        full).
        """
        self._writer.start()
        self._readers.start()
        self._opened = True
        self._trigger = self._reactor.addSystemEventTrigger("during", "shutdown", self._stop)
        try:
            await self._run(self._writer, self._make_ready, prepare)
        except BaseException:
            await self.close()
            raise

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``work(connection, ...)``, run in a transaction that cannot write."""
        return await self._run(self._readers, self._readers.transact, work, *args, **kwargs)

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Return ``work(connection, ...)`` once its transaction is committed.

        An exception of ``work`` rolls back and comes out here. Both verbs fail with
        `StoreUnavailable` when the database does. Cancelled before its turn the work is
        not done; cancelled later it is done or not, and nobody is told. What waits for its
        turn too long is not done either: behind a disk that hangs, or a lock that another
        process keeps, calls would pile up, to be done when nobody waits for them any more.
        """
        return await self._run(self._writer, self._write, work, *args, **kwargs)

    def _write(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Write, unless nobody would ever read it: into a file that lost its name."""
        if _identity(self.path) != self._file:
            raise StoreUnavailable(
                "The job store's file was removed or replaced while the gateway ran: put it"
                " back, or restart the gateway to begin with the new one."
            )
        return self._writer.transact(work, *args, **kwargs)

    async def close(self) -> None:
        """Finish what is under way, then end the threads."""
        self._opened = False
        await DeferredList(list(self._working))
        if self._trigger is not None:
            self._reactor.removeSystemEventTrigger(self._trigger)
            self._stop()

    def _stop(self) -> None:
        self._opened = False
        self._trigger = None
        self._writer.stop()
        self._readers.stop()

    def _make_ready(self, prepare: Callable[[Connection], None]) -> None:
        try:
            _make_private(self.path)
            self._writer.transact(_check)
            self._writer.transact(prepare)
            self._file = _identity(self.path)
        except OSError as error:
            detail = f"cannot be opened: {(error.strerror or str(error)).lower()}"
            raise ConfigError(str(self.path), [Problem("store.url", detail)]) from error
        except (DBAPIError, sqlite3.Error) as error:
            native = _native(error)
            if isinstance(native, _OURS) or _primary_code(native) in _PASSING:
                raise
            detail = (
                f"cannot be used: {native}. Restore the file from a backup, or move it"
                " (and its -wal and -shm files) away to begin with an empty store"
            )
            raise ConfigError(str(self.path), [Problem("store.url", detail)]) from error

    async def _run(self, lane: _Lane, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if not self._opened:
            raise StoreUnavailable("The job store is closed.")
        turn = Lock()  # taken by the thread that begins, or by who does not wait any more

        def work() -> T:
            if not turn.acquire(blocking=False):
                raise CancelledError
            return call(*args, **kwargs)

        def give_up() -> None:
            if turn.acquire(blocking=False):
                result.errback(StoreUnavailable("The job store is too slow; try again later."))

        def settle(outcome: Any) -> None:
            self._working.discard(working)
            if not result.called:
                result.callback(outcome)

        def abandon(_: Deferred[T]) -> None:
            turn.acquire(blocking=False)

        result: Deferred[T] = Deferred(abandon)
        patience = IReactorTime(self._reactor).callLater(self._patience, give_up)
        threads = IReactorFromThreads(self._reactor)
        working = deferToThreadPool(threads, lane.pool, work)
        self._working.add(working.addBoth(settle))
        try:
            return await result
        except (DBAPIError, sqlite3.Error) as error:
            native = _native(error)
            if isinstance(native, _OURS):
                raise
            raise StoreUnavailable(f"The job store failed: {native}.") from error
        finally:
            if patience.active():
                patience.cancel()


def _dress_sqlite(engine: Engine, *, writes: bool) -> None:
    """Make new connections of ``engine`` ours, and its transactions the right kind."""

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        # Off: Python's own implicit BEGIN, which is always deferred.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        if writes:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
        else:
            connection.execute("PRAGMA query_only = ON")

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)


def _make_private(path: Path) -> None:
    """Make the file if it is missing; only its user may read it (SQLite's side files follow).

    It appears under its name as an empty database that is in write-ahead mode already:
    of two processes that switch the mode at once, SQLite turns one away without waiting.
    An existing file is never opened here: closing one that SQLite has open in this
    process would drop SQLite's locks on it (that is how POSIX locks work).
    """
    if path.exists():
        path.chmod(0o600)
        return
    descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.new-", dir=path.parent)
    try:
        os.close(descriptor)
        with closing(sqlite3.connect(name)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        os.link(name, path)
    except FileExistsError:
        if not path.exists():  # a symbolic link to nowhere
            raise
    finally:
        os.unlink(name)


def _identity(path: Path) -> tuple[int, int]:
    """Return what tells a file from another one of the same name; zeros when there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def _check(connection: Connection) -> None:
    """Read the whole file once, so that damage shows now and not in the middle of a job."""
    verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if verdict != "ok":
        raise sqlite3.DatabaseError(f"the file is damaged ({verdict})")


def _native(error: BaseException) -> BaseException:
    """Return the driver's own exception."""
    return (error.orig or error) if isinstance(error, DBAPIError) else error


def _primary_code(error: BaseException) -> int:
    """Return SQLite's result code without its extension; 0 when it is not known."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
