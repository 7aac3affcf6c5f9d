"""The contract on SQLite, and what is special to a file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import pytest_twisted
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert
from sqlalchemy.engine import make_url

from vsmgate.errors import ConfigError, QuotaExceeded, StoreUnavailable
from vsmgate.grants import Grant, Right, Visitor
from vsmgate.hands.database import Database
from vsmgate.model import Idempotency, Identity, Job, Quota, Ticket, new_job_id, replace
from vsmgate.stores import rows, schema
from vsmgate.stores.store import SqlStore
from vsmgate.stores.transactions import KEY_AGE
from vsmgate.testing.deferreds import gather
from vsmgate.testing.store_samples import ended
from vsmgate.testing.stores import FREE, StoreContract, WallClock, new_job


class TestSqlStore(StoreContract):
    @pytest.fixture
    def make_store(self, wall: WallClock, tmp_path: Path) -> Callable[[], SqlStore]:
        return lambda: SqlStore(database_at(tmp_path / "jobs.sqlite3"), wall)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite3"


def database_at(path: Path, patience: float = 5.0) -> Database:
    from twisted.internet import reactor

    url = make_url("sqlite://").set(database=str(path))
    return Database(url, reactor, patience=patience)


def store_at(path: Path, patience: float = 5.0) -> SqlStore:
    return SqlStore(database_at(path, patience), lambda: 0.0)


async def filled(path: Path, count: int = 3) -> list[Job]:
    """Make a database with some jobs, and close it."""
    store = store_at(path)
    await store.open()
    jobs = [(await store.add(new_job(log_tail="x" * 500), FREE, None))[0] for _ in range(count)]
    await store.close()
    return jobs


@pytest_twisted.ensureDeferred
async def test_everything_is_there_after_opening_again(path: Path) -> None:
    store, key = store_at(path), Idempotency("k", "digest")
    await store.open()
    job, _ = await store.add(new_job(), FREE, key)
    job = await store.update(job.id, lambda job: replace(job, name="x"))
    ticket = Ticket("d" * 64, job.id, "renderer", Identity("ada"), 100.0)
    await store.add_ticket(ticket)
    await store.close()

    store = store_at(path)
    await store.open()
    assert await store.live() == [job]
    assert await store.add(new_job(), FREE, key) == (job, False)
    assert await store.use_ticket(ticket.digest, 0.0) == ticket
    assert (await store.add(new_job(), FREE, None))[0].revision == job.revision + 1
    await store.close()


@pytest_twisted.ensureDeferred
async def test_only_the_user_reads_the_files(path: Path) -> None:
    store = store_at(path)
    path.touch(0o644)
    path.chmod(0o644)
    await store.open()
    await store.add(new_job(), FREE, None)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {path.name + suffix: 0o600 for suffix in ("", "-wal", "-shm")}
    await store.close()


@pytest_twisted.ensureDeferred
async def test_two_gateways_share_one_file(path: Path) -> None:
    stores = [store_at(path) for _ in range(3)]
    _, errors = await gather(store.open() for store in stores)  # all three make the schema
    assert errors == []
    calls = [store.add(new_job("ada"), Quota(per_user=4), None) for store in stores * 5]
    added, errors = await gather(calls)
    assert len(added) == 4
    assert {type(error) for error in errors} == {QuotaExceeded}
    seen = [await store.changes(0) for store in stores]
    assert seen[0] == seen[1] == seen[2]
    assert [job.revision for job in seen[0]] == [1, 2, 3, 4]
    await gather(store.close() for store in stores)


@pytest_twisted.ensureDeferred
async def test_another_process_that_holds_the_lock_is_waited_for_within_bounds(path: Path) -> None:
    await filled(path)
    store = store_at(path, patience=0.5)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        await store.add(new_job(), FREE, None)
    assert len(await store.live()) == 3  # readers do not care
    other.execute("ROLLBACK")
    other.close()
    await store.add(new_job(), FREE, None)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_full_disk_refuses_and_loses_nothing(path: Path) -> None:
    jobs = await filled(path)
    database = database_at(path)
    store = SqlStore(database, lambda: 0.0)
    await store.open()

    def limit(pages: int) -> Callable[[Connection], object]:
        return lambda c: c.exec_driver_sql(f"PRAGMA max_page_count = {pages}").scalar()

    await database.write(limit(1))  # SQLite takes the present size then
    big = new_job(log_tail="x" * 100_000)
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.add(big, FREE, Idempotency("k", "digest"))
    with pytest.raises(StoreUnavailable, match="disk is full"):
        await store.update(jobs[0].id, lambda job: replace(job, log_tail="y" * 100_000))
    assert await store.live() == jobs
    await database.write(limit(1_000_000))
    assert (await store.add(big, FREE, Idempotency("k", "digest")))[1]
    assert await store.live() == [*jobs, replace(big, revision=4)]
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_disk_gone_read_only_refuses_writes_and_still_reads(path: Path) -> None:
    jobs = await filled(path)
    database = database_at(path)
    store = SqlStore(database, lambda: 0.0)
    await store.open()
    await database.write(lambda connection: connection.exec_driver_sql("PRAGMA query_only = 1"))
    with pytest.raises(StoreUnavailable, match="readonly"):
        await store.add(new_job(), FREE, None)
    assert await store.live() == jobs
    await store.close()


def garbage(path: Path) -> None:
    path.write_bytes(b"This was a database once.\n" * 1000)


def holes(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[4096 * 2 :] = b"\xff" * len(octets[4096 * 2 :])
    path.write_bytes(octets)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: 4096 * 3])


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def orphaned(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "missing" / "jobs.sqlite3")


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE jobs (title TEXT)")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (garbage, "file is not a database"),
        (holes, "damaged|malformed"),
        (cut, "damaged|malformed"),
        (folder, "cannot be"),
        (orphaned, "cannot be"),
        (newer, "made by a newer vsmgate .*9999"),
        (foreign, "table jobs already exists"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_spoilt_file_is_the_operators_business(
    path: Path, spoil: Callable[[Path], None], told: str
) -> None:
    await filled(path, 50)
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    store = store_at(path)
    with pytest.raises(ConfigError, match=told) as refused:
        await store.open()
    assert str(path) in str(refused.value)
    assert before == (path.read_bytes() if path.is_file() else None)  # nothing made worse
    with pytest.raises(StoreUnavailable):
        await store.live()


@pytest_twisted.ensureDeferred
async def test_damage_under_way_is_an_outage(path: Path) -> None:
    store = store_at(path)
    jobs = await filled(path, 50)
    await store.open()
    garbage(path)
    with pytest.raises(StoreUnavailable):
        await store.get(jobs[0].id)
    with pytest.raises(StoreUnavailable):
        await store.add(new_job(), FREE, None)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_job_that_cannot_be_read_is_told_and_not_left_out(path: Path) -> None:
    jobs = await filled(path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE jobs SET document = '{}' WHERE id = ?", (jobs[1].id,))
        database.commit()
    store = store_at(path)
    await store.open()
    with pytest.raises(StoreUnavailable, match=jobs[1].id):
        await store.live()
    assert await store.get(jobs[0].id) == jobs[0]
    await store.close()


@pytest_twisted.ensureDeferred
async def test_of_a_pruned_job_nothing_stays(path: Path) -> None:
    wall = WallClock(0.0)
    store = SqlStore(database_at(path), wall)
    await store.open()
    shared = new_job(grants=(Grant("g", Right.VIEW, 0.0, "bob"),), created_at=0.0)
    job, _ = await store.add(shared, FREE, Idempotency("k", "digest"))
    await store.add_ticket(Ticket("d" * 64, job.id, "renderer", Identity("ada"), 60.0))
    await store.attend("p", {job.id: [Visitor("bob", "renderer", Right.VIEW, 1.0)]}, 1.0)
    await store.update(job.id, lambda job: ended(job, 2.0))
    wall.now = 2 * KEY_AGE
    assert [gone.id for gone in await store.prune(3.0)] == [job.id]
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        for table in ("jobs", "shares", "idempotency", "tickets", "presence"):
            assert not list(connection.execute(f"SELECT * FROM {table}")), table


@pytest_twisted.ensureDeferred
async def test_the_migrations_make_the_tables_of_the_schema(path: Path) -> None:
    await filled(path)
    engine = create_engine(make_url("sqlite://").set(database=str(path)))
    with engine.connect() as connection:
        difference = compare_metadata(MigrationContext.configure(connection), schema.metadata)
    engine.dispose()
    assert difference == []


@pytest_twisted.ensureDeferred
async def test_a_database_of_the_first_schema_is_taken_over(path: Path) -> None:
    (job, *_) = await filled(path)
    engine = create_engine(make_url("sqlite://").set(database=str(path)))
    with engine.begin() as connection:
        for statement in (
            "ALTER TABLE jobs DROP COLUMN groups",
            "DROP TABLE revocations",
            "DROP TABLE shares",
            "DROP TABLE presence",
            "UPDATE jobs SET document = json_remove(document, '$.grants', '$.invitations')",
            "UPDATE alembic_version SET version_num = '0001'",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    store = store_at(path)
    await store.open()
    assert await store.get(job.id) == job
    again = new_job(groups=("vis",))
    await store.add(again, Quota(per_group={"vis": 1}), None)
    with pytest.raises(QuotaExceeded, match="group vis"):
        await store.add(new_job(groups=("vis",)), Quota(per_group={"vis": 1}), None)
    await store.revoke("ada", 1.0)
    grant = Grant("g", Right.VIEW, 0.0, "bob")
    shared = await store.update(job.id, lambda job: replace(job, grants=(grant,)))
    found = await store.shared("bob", (), 1.0, (), None, 5, None)
    assert found.items == (shared,)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_thousand_live_jobs_load_quickly(path: Path) -> None:
    from twisted.internet import reactor

    await filled(path, 1)
    database = database_at(path)
    store = SqlStore(database, lambda: 0.0)
    await store.open()
    template = (await store.live())[0]

    def many(connection: Connection) -> None:
        revision = rows.lock(connection)
        for number in range(1, 1000):
            job = replace(template, id=new_job_id(), revision=revision + number)
            connection.execute(insert(schema.jobs).values(id=job.id, **rows.columns(job)))

    await database.write(many)
    started = reactor.seconds()
    assert len(await store.live()) == 1000
    assert reactor.seconds() - started < 0.5
    await store.close()
