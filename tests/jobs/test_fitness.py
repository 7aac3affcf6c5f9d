"""Whether jobs could be kept is told, and untold by itself."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.jobs.rig import DEMO
from vsmgate.errors import StoreUnavailable
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.fitness import HURRY, ROOM, TICK, Fitness
from vsmgate.model import Job, Quota, new_job_id
from vsmgate.testing.memory_store import MemoryStore


class Full(MemoryStore):
    """A store that can be told to have no room."""

    full = False
    tried = 0

    async def attend(self, *args: object) -> None:
        self.tried += 1
        if self.full:
            raise StoreUnavailable("The job store failed: database or disk is full.")

    async def add(self, *args: object) -> tuple[Job, bool]:
        await self.attend()
        return await super().add(*args)  # type: ignore[arg-type]  # handed on


class Rig:
    def __init__(self) -> None:
        self.clock = Clock()
        self.store = Full()
        Deferred.fromCoroutine(self.store.open())
        self.book = JobBook(self.store)
        self.room = ROOM
        self.fitness = Fitness(self.book, lambda: self.room, self.clock, self.clock.seconds)
        self.fitness.ticker.startService()
        self.clock.advance(0)


def test_a_full_disk_is_told_before_anybody_starts_a_job_and_untold() -> None:
    rig = Rig()
    assert (rig.fitness.problems(), rig.store.tried) == ([], 1)
    rig.store.full = True
    rig.clock.advance(TICK)
    assert rig.fitness.problems() == ["The job store failed: database or disk is full."]
    rig.clock.advance(HURRY)
    assert len(rig.fitness.problems()) == 1
    rig.store.full = False
    rig.clock.advance(HURRY)
    assert rig.fitness.problems() == []


def test_a_start_that_fails_tells_at_once() -> None:
    rig = Rig()
    rig.store.full = True
    job = Job(new_job_id(), "ada", DEMO, 1.0)
    failed: list[object] = []
    Deferred.fromCoroutine(rig.book.add(job, Quota(), None)).addErrback(failed.append)
    assert failed
    assert rig.fitness.problems() == ["The job store failed: database or disk is full."]
    rig.store.full = False
    Deferred.fromCoroutine(rig.book.add(job, Quota(), None))
    assert rig.fitness.problems() == []


def test_little_room_is_told() -> None:
    rig = Rig()
    rig.room = ROOM - 1
    rig.clock.advance(TICK)
    assert rig.fitness.problems() == ["The disk of the gateway's state directory is full."]
    rig.room = ROOM
    rig.clock.advance(HURRY)
    assert rig.fitness.problems() == []
