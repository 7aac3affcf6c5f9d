"""The contract of a job store, first half: jobs, their changes, lists."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from zope.interface.verify import verifyObject

from vsmgate.errors import (
    BadCursor,
    JobConflict,
    NoSuchJob,
    StoreUnavailable,
)
from vsmgate.interfaces import IJobStore
from vsmgate.lifecycle import State
from vsmgate.model import (
    Endpoint,
    Job,
    Reason,
    new_job_id,
    replace,
)
from vsmgate.testing.deferreds import deferred, gather
from vsmgate.testing.store_samples import FREE, StoreFixtures, WallClock, ended, new_job

__all__ = ["StoreJobs"]


class StoreJobs(StoreFixtures):
    """Keeping jobs."""

    def test_it_provides_the_interface(self, store: IJobStore) -> None:
        assert verifyObject(IJobStore, store)

    @deferred
    async def test_a_job_comes_back_as_it_was(self, store: IJobStore) -> None:
        job = new_job(
            name="Ünïcode \u2603 \x00",
            parameters={"text": 'a"b\n', "numbers": [1, 2.5, None], "nested": {"x": True}},
            reason=Reason("queued", "Waits.", "(Priority)"),
            state=State.RUNNING,
            engine_ref="17",
            endpoints={"renderer": Endpoint("127.0.0.1", 4321)},
            answered=("renderer",),
            end_time=1_700_000_123.25,
            log_tail="last words",
        )
        stored, new = await store.add(job, FREE, None)
        assert new
        assert replace(stored, revision=0) == job
        assert await store.get(job.id) == stored

    @deferred
    async def test_an_unknown_job_is_no_such_job(self, store: IJobStore) -> None:
        with pytest.raises(NoSuchJob):
            await store.get(new_job_id())
        with pytest.raises(NoSuchJob):
            await store.update(new_job_id(), lambda job: replace(job, name="x"))

    @deferred
    async def test_no_update_is_lost(self, store: IJobStore) -> None:
        job, _ = await store.add(new_job(parameters={"n": 0}), FREE, None)

        def count(job: Job) -> Job:
            return replace(job, parameters={"n": job.parameters["n"] + 1})

        updated, errors = await gather([store.update(job.id, count) for _ in range(30)])
        assert errors == []
        assert sorted(job.parameters["n"] for job in updated) == list(range(1, 31))
        assert len({job.revision for job in updated}) == 30
        assert (await store.get(job.id)).parameters == {"n": 30}

    @deferred
    async def test_an_update_without_change_writes_nothing(self, store: IJobStore) -> None:
        job, _ = await store.add(new_job(), FREE, None)
        assert await store.update(job.id, lambda job: job) == job
        assert await store.changes(job.revision) == []
        other, _ = await store.add(new_job(), FREE, None)
        assert other.revision == job.revision + 1

    @deferred
    async def test_an_update_that_fails_changes_nothing(self, store: IJobStore) -> None:
        job, _ = await store.add(new_job(), FREE, None)

        def refuse(job: Job) -> Job:
            raise JobConflict("not now")

        with pytest.raises(JobConflict, match="not now"):
            await store.update(job.id, refuse)
        with pytest.raises(ValueError, match="another id"):
            await store.update(job.id, lambda job: replace(job, id=new_job_id()))
        assert await store.get(job.id) == job

    @deferred
    async def test_revisions_grow_over_all_jobs(self, store: IJobStore, wall: WallClock) -> None:
        one, _ = await store.add(new_job("ada"), FREE, None)
        two, _ = await store.add(new_job("bob"), FREE, None)
        one = await store.update(one.id, lambda job: replace(job, name="x"))
        assert [job.id for job in await store.changes(0)] == [two.id, one.id]
        await store.touch({two.id: 7.0})
        last = await store.update(two.id, lambda job: ended(job, 8.0))
        revisions = [two.revision, one.revision, last.revision]
        assert revisions == sorted(set(revisions))
        assert await store.changes(one.revision) == [last]
        # The newest revision goes with its job, and is not given again.
        assert await store.prune(9.0) == [last]
        again, _ = await store.add(new_job("ada"), FREE, None)
        assert again.revision > last.revision

    @deferred
    async def test_activity_goes_forward_and_only_for_the_living(self, store: IJobStore) -> None:
        one, two, over = [(await store.add(new_job(), FREE, None))[0] for _ in range(3)]
        over = await store.update(over.id, lambda job: ended(job, 5.0))
        await store.touch({one.id: 10.0, two.id: 20.0, over.id: 30.0, new_job_id(): 40.0})
        touched = await store.changes(over.revision)
        assert {job.id: job.last_activity_at for job in touched} == {one.id: 10.0, two.id: 20.0}
        await store.touch({one.id: 9.0, two.id: 21.0})
        later = await store.changes(max(job.revision for job in touched))
        assert {job.id: job.last_activity_at for job in later} == {two.id: 21.0}
        assert await store.get(over.id) == over

    @deferred
    async def test_live_jobs_come_oldest_first(self, store: IJobStore) -> None:
        jobs = [new_job(owner) for owner in ("ada", "bob", "ada", "eve")]
        for job in (jobs[2], jobs[0], jobs[3], jobs[1]):
            await store.add(job, FREE, None)
        await store.update(jobs[1].id, lambda job: ended(job, 5.0))
        assert [job.id for job in await store.live()] == [jobs[0].id, jobs[2].id, jobs[3].id]

    @deferred
    async def test_pages_show_each_job_once_while_new_ones_come(self, store: IJobStore) -> None:
        # Some of the same moment: the id decides.
        jobs = [new_job(created_at=1_700_000_000.1 + n // 3) for n in range(10)]
        for job in jobs:
            await store.add(job, FREE, None)
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.page("ada", (), None, 3, cursor)
            seen += [job.id for job in page.items]
            await store.add(new_job(), FREE, None)
            cursor = page.next_cursor
            if cursor is None:
                break
        newest_first = sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)
        assert seen == [job.id for job in newest_first]

    @deferred
    async def test_pages_are_the_owners_own_and_filtered(self, store: IJobStore) -> None:
        mine, other, over = new_job(), new_job(usecase="other"), new_job()
        for job in (mine, other, over, new_job("bob")):
            await store.add(job, FREE, None)
        await store.update(over.id, lambda job: ended(job, 5.0, State.FAILED))

        async def ids(owner: str, states: tuple[str, ...], usecase: str | None) -> list[str]:
            page = await store.page(owner, states, usecase, 10, None)
            assert page.next_cursor is None
            return [job.id for job in page.items]

        assert await ids("ada", (), None) == [over.id, other.id, mine.id]
        assert await ids("ada", ("failed", "stopped"), None) == [over.id]
        assert await ids("ada", ("requested",), "other") == [other.id]
        assert await ids("ada", ("ready",), None) == []
        assert await ids("nobody", (), None) == []
        # A page that is full to the brim says that it is the last.
        assert (await store.page("ada", (), None, 3, None)).next_cursor is None

    @deferred
    async def test_a_page_of_everybodys_jobs(self, store: IJobStore) -> None:
        first, second = new_job("ada"), new_job("bob", launcher="cluster")
        for job in (first, second):
            await store.add(job, FREE, None)

        async def ids(owner: str | None, launcher: str | None) -> list[str]:
            page = await store.page(owner, (), None, 10, None, launcher)
            return [job.id for job in page.items]

        assert await ids(None, None) == [second.id, first.id]
        assert await ids(None, "cluster") == [second.id]
        assert await ids("ada", "local") == [first.id]
        assert await ids("ada", "cluster") == []

    @pytest.mark.parametrize(
        "cursor", ["", "x", "%%%", "bnVsbA", "WzEsMl0", "WzFlOTk5LCJhIl0", "Ä", "a" * 5000]
    )
    @deferred
    async def test_a_foreign_cursor_is_refused(self, store: IJobStore, cursor: str) -> None:
        with pytest.raises(BadCursor):
            await store.page("ada", (), None, 3, cursor)

    @deferred
    async def test_ended_jobs_are_pruned(self, store: IJobStore) -> None:
        young, old, live = [(await store.add(new_job(), FREE, None))[0] for _ in range(3)]
        old = await store.update(old.id, lambda job: ended(job, 10.0))
        young = await store.update(young.id, lambda job: ended(job, 20.0))
        assert await store.prune(20.0) == [old]
        with pytest.raises(NoSuchJob):
            await store.get(old.id)
        assert await store.get(young.id) == young
        assert await store.get(live.id) == live
        assert await store.prune(20.0) == []

    @deferred
    async def test_a_cancelled_verb_does_no_harm(self, store: IJobStore) -> None:
        calls = [Deferred.fromCoroutine(store.add(new_job(), FREE, None)) for _ in range(20)]
        for call in calls[::2]:
            call.addErrback(lambda failure: failure.trap(CancelledError))
            call.cancel()
        for call in calls[1::2]:
            await call
        assert 10 <= len(await store.live()) <= 20

    @deferred
    async def test_a_closed_store_is_unavailable(self, store: IJobStore) -> None:
        await store.close()
        with pytest.raises(StoreUnavailable):
            await store.live()
        with pytest.raises(StoreUnavailable):
            await store.add(new_job(), FREE, None)
