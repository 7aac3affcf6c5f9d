"""The book keeps up with the store, whoever writes there and whoever gives up waiting."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from tests.jobs.rig import ALICE, DEMO, House, Names, make_ready
from tests.jobs.test_desk import bearer
from vsmgate.jobs import changes
from vsmgate.jobs.access import Access
from vsmgate.jobs.book import JobBook
from vsmgate.lifecycle import State
from vsmgate.model import Job, Quota, Reason, new_job_id
from vsmgate.testing.memory_store import MemoryStore

STOPPED = Reason("cancelled_by_user", "Enough.")


class SlowStore(MemoryStore):
    """A store that has written long before anybody hears of it."""

    def __init__(self) -> None:
        super().__init__()
        self.told: Deferred[None] = Deferred()

    async def add(self, *args: Any) -> tuple[Job, bool]:
        stored = await super().add(*args)
        await self.told
        return stored

    async def update(self, *args: Any) -> Job:
        stored = await super().update(*args)
        await self.told
        return stored


def test_who_hangs_up_leaves_no_job_that_nobody_drives() -> None:
    store = SlowStore()
    book = JobBook(store)
    Deferred.fromCoroutine(store.open())
    job = Job(new_job_id(), "ada", DEMO, 1.0)
    gave_up = []
    adding = Deferred.fromCoroutine(book.add(job, Quota(), None))
    adding.addErrback(lambda failure: gave_up.append(failure.check(CancelledError)))
    adding.cancel()
    assert gave_up == [CancelledError]
    store.told.callback(None)
    assert [known.id for known in book.live()] == [job.id]

    store.told = Deferred()
    stop = Deferred.fromCoroutine(
        book.update(job.id, lambda job: changes.stopping(job, STOPPED, 2.0))
    )
    stop.addErrback(lambda failure: gave_up.append(failure.check(CancelledError)))
    stop.cancel()
    assert len(gave_up) == 2
    store.told.callback(None)
    assert [known.state for known in book.live()] == [State.STOPPING]


def elsewhere(house: House) -> tuple[JobBook, Access]:
    """Return what another process on the same store knows, before it looked at anything."""
    book = JobBook(house.store)
    clock = house.clock
    return book, Access(book, house.store, [Names()], clock.seconds, lambda job_id: None)


def test_a_job_of_another_process_joins_when_it_is_asked_for(house: House) -> None:
    job = house.start()
    book, _ = elsewhere(house)
    assert book.get(job.id) is None
    assert house.result(book.find(job.id)).id == job.id
    assert book.get(job.id) is not None
    house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(5)
    house.result(book.refresh())
    assert book.get(job.id) is None
    assert house.result(book.find(job.id)).ended
    assert not book.live()


def test_another_process_admits_as_soon_as_the_job_is_ready(house: House) -> None:
    job = house.start()
    book, access = elsewhere(house)
    house.result(book.load())
    make_ready(house, job)
    known = book.get(job.id)
    assert known is not None
    assert not known.ready
    target = house.result(access.admit(job.id, "renderer", bearer("alice")))
    assert target.endpoint.port == 5000


def test_another_process_tells_of_the_end_when_it_comes_and_not_before(house: House) -> None:
    job = make_ready(house, house.start())
    book, access = elsewhere(house)
    told: list[Job] = []
    access.on_end(job.id, told.append)
    assert not told
    house.result(house.desk.stop(ALICE, job.id))
    house.result(book.refresh())
    assert [one.state for one in told] == [State.STOPPING]
