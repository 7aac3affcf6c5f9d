"""The contract of a job store, second half: quotas, idempotency keys, tickets."""

from __future__ import annotations

import pytest

from vsmgate.errors import (
    IdempotencyMismatch,
    NoSuchJob,
    QuotaExceeded,
    Unauthenticated,
)
from vsmgate.interfaces import IJobStore
from vsmgate.model import (
    Idempotency,
    Identity,
    Quota,
    Ticket,
    new_job_id,
    replace,
)
from vsmgate.testing.deferreds import deferred, gather
from vsmgate.testing.store_samples import FREE, StoreFixtures, WallClock, ended, new_job

__all__ = ["StoreStarts"]


class StoreStarts(StoreFixtures):
    """What must happen at most so many times."""

    @pytest.mark.parametrize(
        ("quota", "owners"),
        [
            (Quota(per_user=3), ["ada"]),
            (Quota(total=3), ["ada", "bob", "eve"]),
            (Quota(per_usecase={"demo": 3, "other": 9}), ["ada", "bob", "eve"]),
            (Quota(per_group={"vis": 3, "staff": 9}), ["ada", "bob", "eve"]),
        ],
        ids=["per_user", "total", "per_usecase", "per_group"],
    )
    @deferred
    async def test_starts_at_once_never_exceed_a_quota(
        self, store: IJobStore, quota: Quota, owners: list[str]
    ) -> None:
        jobs = [new_job(owner, groups=("staff", "vis")) for owner in owners * 8]
        added, errors = await gather([store.add(job, quota, None) for job in jobs])
        assert len(added) == 3
        assert {type(error) for error in errors} == {QuotaExceeded}
        assert len(await store.live()) == 3

    @deferred
    async def test_only_live_jobs_count(self, store: IJobStore) -> None:
        quota = Quota(per_user=1, total=2)
        first, _ = await store.add(new_job("ada"), quota, None)
        with pytest.raises(QuotaExceeded) as refused:
            await store.add(new_job("ada"), quota, None)
        assert refused.value.retry_after is not None
        await store.add(new_job("bob"), quota, None)
        await store.update(first.id, lambda job: ended(job, 5.0))
        await store.add(new_job("ada"), quota, None)

    @deferred
    async def test_a_queueing_quota_holds_and_releases_in_order(self, store: IJobStore) -> None:
        quota = Quota(per_user=1, total=2, queue=True)
        owners = ["ada", "ada", "ada", "bob", "eve"]
        jobs = [(await store.add(new_job(owner), quota, None))[0] for owner in owners]
        assert [job.held for job in jobs] == [False, True, True, False, True]
        assert await store.release(quota) == []
        await store.update(jobs[3].id, lambda job: ended(job, 5.0))
        # Ada has her one job and does not keep Eve waiting.
        released = await store.release(quota)
        assert [(job.id, job.held) for job in released] == [(jobs[4].id, False)]
        await store.update(jobs[0].id, lambda job: ended(job, 6.0))
        assert [job.id for job in await store.release(quota)] == [jobs[1].id]
        assert await store.get(jobs[1].id) == replace(jobs[1], held=False, revision=9)

    @deferred
    async def test_only_so_many_jobs_of_one_owner_are_held(self, store: IJobStore) -> None:
        quota = Quota(total=1, queue=True, held_per_user=1)
        for owner in ("ada", "ada", "bob"):
            await store.add(new_job(owner), quota, None)
        with pytest.raises(QuotaExceeded):
            await store.add(new_job("ada"), quota, None)
        assert len(await store.live()) == 3
        # What need not wait is no matter of how many do.
        roomy = Quota(per_usecase={"big": 1}, queue=True, held_per_user=1)
        asked = [new_job("eve", usecase=usecase) for usecase in ("big", "big", "small")]
        stored = [(await store.add(job, roomy, None))[0] for job in asked]
        assert [job.held for job in stored] == [False, True, False]

    @deferred
    async def test_groups_and_use_cases_do_not_hold_up_others(self, store: IJobStore) -> None:
        quota = Quota(per_group={"vis": 1}, per_usecase={"big": 1}, queue=True)
        jobs = [
            new_job("ada", groups=("vis",)),
            new_job("bob", groups=("vis",)),
            new_job("eve", usecase="big"),
            new_job("eve", usecase="big"),
            new_job("eve"),
        ]
        stored = [(await store.add(job, quota, None))[0] for job in jobs]
        assert [job.held for job in stored] == [False, True, False, True, False]
        assert await store.release(quota) == []
        for index in (0, 2):
            await store.update(jobs[index].id, lambda job: ended(job, 5.0))
        assert [job.id for job in await store.release(quota)] == [jobs[1].id, jobs[3].id]

    @deferred
    async def test_nobody_overtakes_a_held_job(self, store: IJobStore) -> None:
        quota = Quota(total=1, queue=True)
        first, _ = await store.add(new_job("ada"), quota, None)
        waiting, _ = await store.add(new_job("bob"), quota, None)
        await store.update(first.id, lambda job: ended(job, 5.0))
        late, _ = await store.add(new_job("eve"), quota, None)
        assert (waiting.held, late.held) == (True, True)
        assert [job.id for job in await store.release(quota)] == [waiting.id]

    @deferred
    async def test_a_held_job_that_ended_is_not_released(self, store: IJobStore) -> None:
        quota = Quota(total=1, queue=True)
        first, _ = await store.add(new_job("ada"), quota, None)
        waiting, _ = await store.add(new_job("bob"), quota, None)
        for job in (waiting, first):
            await store.update(job.id, lambda job: ended(job, 5.0))
        assert await store.release(quota) == []

    @deferred
    async def test_one_key_makes_one_job(self, store: IJobStore) -> None:
        key = Idempotency("k1", "digest")
        jobs = [new_job("ada") for _ in range(10)]
        added, errors = await gather([store.add(job, Quota(per_user=1), key) for job in jobs])
        assert errors == []
        assert len({job.id for job, _ in added}) == 1
        assert [new for _, new in added].count(True) == 1
        changed = await store.update(added[0][0].id, lambda job: replace(job, name="later"))
        assert await store.add(new_job("ada"), Quota(per_user=1), key) == (changed, False)
        assert (await store.add(new_job("bob"), Quota(per_user=1), key))[1]

    @deferred
    async def test_one_key_for_two_requests_is_an_error(self, store: IJobStore) -> None:
        await store.add(new_job("ada"), FREE, Idempotency("k1", "digest"))
        with pytest.raises(IdempotencyMismatch):
            await store.add(new_job("ada"), FREE, Idempotency("k1", "other"))
        assert len(await store.live()) == 1

    @deferred
    async def test_a_refused_start_leaves_nothing(self, store: IJobStore) -> None:
        refused, key = new_job("ada"), Idempotency("k1", "digest")
        with pytest.raises(QuotaExceeded):
            await store.add(refused, Quota(per_user=0), key)
        with pytest.raises(NoSuchJob):
            await store.get(refused.id)
        assert (await store.add(new_job("ada"), FREE, Idempotency("k1", "other")))[1]

    @deferred
    async def test_a_key_outlives_its_job_for_a_day(
        self, store: IJobStore, wall: WallClock
    ) -> None:
        key = Idempotency("k1", "digest")
        job, _ = await store.add(new_job(created_at=wall.now), FREE, key)
        last = await store.update(job.id, lambda job: ended(job, wall.now + 1))
        wall.now += 86399
        assert await store.prune(wall.now) == [last]
        await store.prune(wall.now)
        assert await store.add(new_job(), FREE, key) == (last, False)
        with pytest.raises(IdempotencyMismatch):
            await store.add(new_job(), FREE, Idempotency("k1", "other"))
        wall.now += 2
        await store.prune(wall.now)
        assert (await store.add(new_job(), FREE, key))[1]

    @deferred
    async def test_the_latest_revocation_of_a_subject_is_kept(self, store: IJobStore) -> None:
        assert await store.revocations() == {}
        for subject, at in (("ada", 100.5), ("bob", 7.0), ("ada", 300.25), ("ada", 200.0)):
            await store.revoke(subject, at)
        assert await store.revocations() == {"ada": 300.25, "bob": 7.0}

    @deferred
    async def test_a_revocation_is_lifted_once(self, store: IJobStore) -> None:
        await store.revoke("ada", 100.5)
        await store.revoke("bob", 7.0)
        assert [await store.lift("ada") for _ in range(2)] == [True, False]
        assert await store.revocations() == {"bob": 7.0}
        await store.revoke("ada", 50.0)
        assert await store.revocations() == {"ada": 50.0, "bob": 7.0}

    @deferred
    async def test_a_ticket_is_used_once(self, store: IJobStore) -> None:
        who = Identity("ada", ("vis", "staff"), 99.5, "static")
        ticket = Ticket("d" * 64, new_job_id(), "renderer", who, expires_at=100.0)
        await store.add_ticket(ticket)
        taken, errors = await gather([store.use_ticket(ticket.digest, 50.0) for _ in range(50)])
        assert taken == [ticket]
        assert {type(error) for error in errors} == {Unauthenticated}

    @deferred
    async def test_a_ticket_expires(self, store: IJobStore, wall: WallClock) -> None:
        job_id, who = new_job_id(), Identity("ada")
        await store.add_ticket(Ticket("e" * 64, job_id, "renderer", who, wall.now + 10))
        await store.add_ticket(Ticket("f" * 64, job_id, "renderer", who, wall.now + 30))
        with pytest.raises(Unauthenticated):
            await store.use_ticket("e" * 64, wall.now + 10)
        with pytest.raises(Unauthenticated):
            await store.use_ticket("0" * 64, wall.now)
        wall.now += 20
        await store.prune(0.0)
        with pytest.raises(Unauthenticated):  # even by a clock that goes behind
            await store.use_ticket("e" * 64, 0.0)
        assert (await store.use_ticket("f" * 64, wall.now)).job_id == job_id
