from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from vsmgate.errors import StoreUnavailable
from vsmgate.hands.database import Database
from vsmgate.testing.deferreds import gather


def prepare(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE things (name TEXT PRIMARY KEY)"))


def put(connection: Connection, name: str) -> str:
    connection.execute(text("INSERT INTO things VALUES (:name)"), {"name": name})
    return threading.current_thread().name


def names(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT name FROM things ORDER BY rowid")).scalars())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "things.sqlite3"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    from twisted.internet import reactor

    database = Database(make_url("sqlite://").set(database=str(path)), reactor)
    pytest_twisted.blockon(Deferred.fromCoroutine(database.open(prepare)))
    yield database
    pytest_twisted.blockon(Deferred.fromCoroutine(database.close()))


def threads() -> set[str]:
    return {t.name for t in threading.enumerate() if t.name.startswith("PoolThread-store-")}


@pytest_twisted.ensureDeferred
async def test_nothing_is_written_where_nobody_will_look(database: Database, path: Path) -> None:
    await database.write(put, "kept")
    aside = path.rename(path.with_suffix(".aside"))
    for meanwhile in (lambda: None, path.touch):
        meanwhile()
        with pytest.raises(StoreUnavailable, match="removed or replaced"):
            await database.write(put, "lost")
    aside.rename(path)
    await database.write(put, "kept too")
    assert await database.read(names) == ["kept", "kept too"]


@pytest_twisted.ensureDeferred
async def test_work_runs_in_order_in_threads_of_its_own(database: Database) -> None:
    used, errors = await gather(database.write(put, str(n)) for n in range(20))
    assert errors == []
    assert len(set(used)) == 1
    assert threading.current_thread().name not in used
    assert await database.read(names) == [str(n) for n in range(20)]
    await gather(database.read(names) for _ in range(20))
    assert len(threads()) <= 3


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_after_close(database: Database, path: Path) -> None:
    await gather([database.write(put, "a"), database.read(names)])
    assert threads()
    await database.close()
    assert not threads()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with pytest.raises(StoreUnavailable, match="closed"):
        await database.read(names)


@pytest_twisted.ensureDeferred
async def test_close_waits_for_what_is_under_way(database: Database) -> None:
    writing = [Deferred.fromCoroutine(database.write(put, str(n))) for n in range(10)]
    await database.close()
    assert all(call.called for call in writing)
    await database.open(lambda connection: None)
    assert len(await database.read(names)) == 10


@pytest_twisted.ensureDeferred
async def test_an_exception_rolls_back_and_comes_out(database: Database) -> None:
    def fail(connection: Connection) -> None:
        put(connection, "a")
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await database.write(fail)
    assert await database.read(names) == []


@pytest_twisted.ensureDeferred
async def test_a_fault_of_the_asking_code_is_no_outage(database: Database) -> None:
    await database.write(put, "a")
    with pytest.raises(IntegrityError):
        await database.write(put, "a")


@pytest_twisted.ensureDeferred
async def test_a_fault_of_the_database_is_an_outage(database: Database) -> None:
    with pytest.raises(StoreUnavailable, match="no such table") as outage:
        await database.read(lambda c: c.execute(text("SELECT * FROM missing")))
    assert isinstance(outage.value.__cause__, OperationalError)
    with pytest.raises(StoreUnavailable, match="readonly"):
        await database.read(put, "a")


@pytest_twisted.ensureDeferred
async def test_work_cancelled_before_its_turn_is_not_done(database: Database) -> None:
    go = threading.Event()

    def wait(connection: Connection) -> None:
        assert go.wait(30)

    first = Deferred.fromCoroutine(database.write(wait))
    second = Deferred.fromCoroutine(database.write(put, "a"))
    second.cancel()
    with pytest.raises(CancelledError):
        await second
    go.set()
    await first
    await database.write(put, "b")
    assert await database.read(names) == ["b"]


@pytest_twisted.ensureDeferred
async def test_what_waits_for_its_turn_too_long_is_not_done(path: Path) -> None:
    from twisted.internet import reactor

    database = Database(make_url("sqlite://").set(database=str(path)), reactor, patience=1.0)
    await database.open(prepare)
    go = threading.Event()

    def wait(connection: Connection, name: str) -> None:
        assert go.wait(30)
        put(connection, name)

    first = Deferred.fromCoroutine(database.write(wait, "a"))
    _, errors = await gather(database.write(put, name) for name in "bcd")
    assert [(type(error), "too slow" in str(error)) for error in errors] == [
        (StoreUnavailable, True)
    ] * 3
    assert not first.called  # what has begun is waited for: it will be done
    assert await database.read(names) == []
    go.set()
    await first
    await database.write(put, "e")
    assert await database.read(names) == ["a", "e"]
    await database.close()


def test_the_reactors_end_stops_the_threads_when_nobody_else_does(path: Path) -> None:
    @implementer(IReactorFromThreads)
    class ThreadedMemoryReactor(MemoryReactorClock):
        def callFromThread(self, call: Callable[..., object], *arguments: Any) -> None:
            call(*arguments)

    memory = ThreadedMemoryReactor()
    database = Database(make_url("sqlite://").set(database=str(path)), memory)
    opened = Deferred.fromCoroutine(database.open(prepare))
    [(call, arguments, keywords)] = memory.triggers["during"]["shutdown"]
    call(*arguments, **keywords)
    assert not threads()
    assert opened.called
