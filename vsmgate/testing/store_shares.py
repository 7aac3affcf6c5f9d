"""The contract of a job store, third part: shared jobs, and who is connected to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from vsmgate.errors import BadCursor, NoSuchInvitation
from vsmgate.grants import Grant, Invitation, Right, Visitor
from vsmgate.interfaces import IJobStore
from vsmgate.jobs import sharing
from vsmgate.lifecycle import State
from vsmgate.model import Job, replace
from vsmgate.testing.deferreds import deferred, gather
from vsmgate.testing.store_samples import FREE, StoreFixtures, WallClock, ended, new_job

__all__ = ["StoreShares"]

NOW = 1_700_000_000.0


@dataclass
class Reader:
    """Asks for what is shared with somebody."""

    store: IJobStore
    subject: str
    groups: tuple[str, ...] = ()

    async def ids(self, now: float = NOW, **narrow: Any) -> list[str]:
        """Return the ids of what is shared with them."""
        asked = {"states": (), "usecase": None, "limit": 50, "cursor": None, **narrow}
        page = await self.store.shared(self.subject, self.groups, now, **asked)
        return [job.id for job in page.items]


def grant(number: int = 1, **who: Any) -> Grant:
    """Return a grant."""
    who = who or {"subject": "bob"}
    return Grant(f"g{number}", who.pop("right", Right.VIEW), NOW, **who)


class StoreShares(StoreFixtures):
    """Keeping grants, finding jobs by them, and presence."""

    @deferred
    async def test_grants_and_invitations_come_back_as_they_were(self, store: IJobStore) -> None:
        shared = new_job(
            grants=(grant(1), grant(2, group="staff", right=Right.CONTROL, expires_at=NOW + 5)),
            invitations=(Invitation("i", "d" * 64, Right.VIEW, NOW, NOW + 9, 3, ("eve",)),),
        )
        stored, _ = await store.add(shared, FREE, None)
        assert replace(await store.get(shared.id), revision=0) == shared
        assert await Reader(store, "bob").ids() == [stored.id]

    @deferred
    async def test_shared_jobs_are_found_by_subject_and_by_group(self, store: IJobStore) -> None:
        jobs = [(await store.add(new_job(), FREE, None))[0] for _ in range(4)]
        await store.update(jobs[0].id, lambda job: replace(job, grants=(grant(subject="bob"),)))
        await store.update(jobs[1].id, lambda job: replace(job, grants=(grant(group="staff"),)))
        both = (grant(1, subject="bob"), grant(2, group="staff"), grant(3, group="guests"))
        await store.update(jobs[2].id, lambda job: replace(job, grants=both))
        assert await Reader(store, "bob").ids() == [jobs[2].id, jobs[0].id]
        staff = ("guests", "staff")
        assert await Reader(store, "eve", staff).ids() == [jobs[2].id, jobs[1].id]
        assert await Reader(store, "bob", ("staff",)).ids() == [job.id for job in jobs[2::-1]]
        assert await Reader(store, "staff", ("bob",)).ids() == []  # a name is not a group
        assert await Reader(store, "ada").ids() == []  # one's own are not shared with one

    @deferred
    async def test_a_grant_that_is_gone_or_expired_finds_nothing(self, store: IJobStore) -> None:
        job, _ = await store.add(new_job(), FREE, None)
        until = grant(subject="bob", expires_at=NOW + 10)
        await store.update(job.id, lambda job: replace(job, grants=(until,)))
        reader = Reader(store, "bob")
        assert await reader.ids(NOW + 9.5) == [job.id]
        assert await reader.ids(NOW + 10) == []
        await store.update(job.id, lambda job: replace(job, name="other"))
        assert await reader.ids(NOW + 9.5) == [job.id]
        await store.update(job.id, lambda job: replace(job, grants=()))
        assert await reader.ids(NOW + 9.5) == []

    @deferred
    async def test_pages_of_shared_jobs_are_narrowed(self, store: IJobStore) -> None:
        for_bob = (grant(),)
        jobs = [(await store.add(new_job(grants=for_bob), FREE, None))[0] for _ in range(3)]
        other, _ = await store.add(new_job(usecase="other", grants=for_bob), FREE, None)
        await store.update(jobs[0].id, lambda job: ended(job, 5.0))
        reader = Reader(store, "bob")
        assert await reader.ids(states=(State.STOPPED,)) == [jobs[0].id]
        assert await reader.ids(usecase="other") == [other.id]
        page = await store.shared("bob", (), NOW, (), None, 3, None)
        assert [job.id for job in page.items] == [other.id, jobs[2].id, jobs[1].id]
        rest = await store.shared("bob", (), NOW, (), None, 3, page.next_cursor)
        assert ([job.id for job in rest.items], rest.next_cursor) == ([jobs[0].id], None)
        with pytest.raises(BadCursor):
            await reader.ids(cursor="nonsense")

    @deferred
    async def test_pruned_jobs_are_not_found(self, store: IJobStore) -> None:
        job, _ = await store.add(new_job(grants=(grant(),)), FREE, None)
        await store.update(job.id, lambda job: ended(job, 10.0))
        await store.prune(20.0)
        assert await Reader(store, "bob").ids() == []

    @deferred
    async def test_an_invitation_is_redeemed_as_often_as_it_says(self, store: IJobStore) -> None:
        invitation = Invitation("i", "d" * 64, Right.CONTROL, NOW, NOW + 60, 3)
        job, _ = await store.add(new_job(invitations=(invitation,)), FREE, None)

        def redeemed_by(subject: str) -> Callable[[Job], Job]:
            return lambda job: sharing.redeemed(job, "d" * 64, subject, f"g-{subject}", NOW)

        calls = [store.update(job.id, redeemed_by(f"user{number}")) for number in range(10)]
        done, errors = await gather(calls)
        assert (len(done), {type(error) for error in errors}) == (3, {NoSuchInvitation})
        grants = (await store.get(job.id)).grants
        assert len({grant.subject for grant in grants}) == 3

    @deferred
    async def test_presence_is_what_each_process_last_said(self, store: IJobStore) -> None:
        ada, bob, eve = (
            Visitor("ada", "renderer", Right.OWNER, NOW + 1),
            Visitor("bob", "renderer", Right.VIEW, NOW + 3),
            Visitor("eve", "backend", Right.CONTROL, NOW + 2),
        )
        await store.attend("p1", {"job1": (ada, bob), "job2": (eve,)}, NOW)
        await store.attend("p2", {"job1": (eve,)}, NOW)
        assert await store.visitors("job1", NOW - 1) == [ada, eve, bob]
        await store.attend("p1", {"job1": (bob,)}, NOW)
        assert await store.visitors("job1", NOW - 1) == [eve, bob]
        assert await store.visitors("job2", NOW - 1) == [eve]
        await store.attend("p1", {"job1": (), "job3": ()}, NOW)
        assert await store.visitors("job1", NOW - 1) == [eve]
        assert await store.visitors("job3", NOW - 1) == []

    @deferred
    async def test_a_process_that_says_nothing_is_gone(
        self, store: IJobStore, wall: WallClock
    ) -> None:
        ada = Visitor("ada", "renderer", Right.OWNER, NOW)
        await store.attend("p1", {"job": (ada,)}, NOW)
        await store.attend("p2", {"job": (ada,)}, NOW)
        await store.attend("p1", {}, NOW + 30)  # it lives
        assert await store.visitors("job", NOW + 10) == [ada]
        assert await store.visitors("job", NOW + 30) == []
        wall.now = NOW + 3600
        await store.prune(0.0)
        assert await store.visitors("job", 0.0) == []
