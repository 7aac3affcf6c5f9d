"""Connections and the rights that they are open by; presence, and how often it is stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.jobs.rig import ALICE, BOB, House, make_ready
from vsmgate.errors import Forbidden, NoSuchInvitation, NoSuchJob, StoreUnavailable, ViewUnsupported
from vsmgate.grants import Right
from vsmgate.jobs.visits import HEARTBEAT, SILENCE, Visits
from vsmgate.model import Identity, Job, LogStream, Secret
from vsmgate.relay.desk import Credential, Target

BEARER = {name: Credential("bearer", Secret(name)) for name in ("alice", "bob")}


class Counted:
    """Counts what `Visits` writes."""

    def __init__(self, house: House) -> None:
        self.writes: list[tuple[str, ...]] = []
        self._attend = house.store.attend
        house.store.attend = self.attend  # type: ignore[method-assign]

    async def attend(self, process: str, present: Any, now: float) -> None:
        await self._attend(process, present, now)
        self.writes.append(tuple(present))


def admitted(house: House, job: Job, name: str = "bob", service: str = "renderer") -> Target:
    return house.result(house.access.admit(job.id, service, BEARER[name]))


def share(house: House, job: Job, right: Right = Right.CONTROL, **more: Any) -> str:
    who = more.pop("who", {"subject": "bob"})
    grant = house.result(house.desk.sharing.grant(ALICE, job.id, right, **who, **more))
    return grant.id


def ticks(house: House, seconds: float, visits: Visits | None = None) -> None:
    for _ in range(int(seconds)):
        house.clock.advance(1.0)
        house.result((visits or house.access.visits).tick())


def there(house: House, job: Job) -> list[tuple[str, str, Right]]:
    found = house.result(house.desk.sharing.presence(ALICE, job.id))
    return [(visitor.subject, visitor.service, visitor.right) for visitor in found]


@pytest.fixture
def job(house: House) -> Job:
    return make_ready(house, house.start())


def test_what_each_right_allows(house: House, job: Job) -> None:
    desk, sharing = house.desk, house.desk.sharing
    calls: dict[Right, list[Callable[[Identity], Any]]] = {
        Right.VIEW: [
            lambda who: desk.get(who, job.id),
            lambda who: desk.wait(who, job.id, 0.1),
            lambda who: sharing.presence(who, job.id),
        ],
        Right.CONTROL: [
            lambda who: desk.logs(who, job.id, "renderer", LogStream.STDOUT, 10),
        ],
        Right.OWNER: [
            lambda who: desk.extend(who, job.id, 60.0),
            lambda who: sharing.grants(who, job.id),
            lambda who: sharing.grant(who, job.id, Right.VIEW, subject="eve"),
            lambda who: sharing.revoke(who, job.id, "x"),
            lambda who: sharing.invitations(who, job.id),
            lambda who: sharing.invite(who, job.id, Right.VIEW, 60.0, 1),
            lambda who: sharing.withdraw(who, job.id, "x"),
            lambda who: desk.stop(who, job.id),
        ],
    }
    for has in (None, Right.VIEW, Right.CONTROL):
        if has is not None:
            share(house, job, has)
        for needed, asked in calls.items():
            for call in asked:
                if has is None:
                    with pytest.raises(NoSuchJob):
                        house.result(call(BOB))
                elif not has.includes(needed):
                    with pytest.raises(Forbidden):
                        house.result(call(BOB))
                else:
                    house.result(call(BOB))
    assert house.get(job).ready


def test_a_viewer_gets_no_relay_and_no_ticket_of_a_service_that_does_not_say_how(
    house: House, job: Job
) -> None:
    share(house, job, Right.VIEW)
    with pytest.raises(ViewUnsupported):
        admitted(house, job)
    with pytest.raises(ViewUnsupported):
        house.result(house.desk.issue_ticket(BOB, job.id, "renderer"))
    share(house, job, Right.CONTROL)
    assert admitted(house, job).right is Right.CONTROL
    assert admitted(house, job, "alice").right is Right.OWNER


def test_a_ticket_gives_what_its_holder_has_when_it_is_used(house: House, job: Job) -> None:
    grant = share(house, job)
    tickets = [house.result(house.desk.issue_ticket(BOB, job.id, "renderer"))[0] for _ in range(2)]
    used, late = (Credential("ticket", ticket) for ticket in tickets)
    target = house.result(house.access.admit(job.id, "renderer", used))
    assert (target.identity, target.right) == (BOB, Right.CONTROL)
    house.result(house.desk.sharing.revoke(ALICE, job.id, grant))
    with pytest.raises(NoSuchJob):
        house.result(house.access.admit(job.id, "renderer", late))


def test_a_connection_is_told_when_its_grant_is_revoked(house: House, job: Job) -> None:
    grant, calls = share(house, job), list[str]()
    visits = house.access.visits
    leave = visits.enter(admitted(house, job), True, lambda: calls.append("bob"))
    visits.enter(admitted(house, job, "alice"), True, lambda: calls.append("alice"))
    house.result(house.book.update(job.id, lambda job: job))
    house.result(house.desk.sharing.grant(ALICE, job.id, Right.VIEW, subject="eve"))
    assert calls == []
    house.result(house.desk.sharing.revoke(ALICE, job.id, grant))
    assert calls == ["bob"]
    house.result(house.desk.extend(ALICE, job.id, 60.0))  # the job changes again
    assert calls == ["bob"]
    leave()


def test_a_connection_is_told_when_its_right_becomes_less(house: House, job: Job) -> None:
    share(house, job)
    calls: list[str] = []
    house.access.visits.enter(admitted(house, job), True, lambda: calls.append("bob"))
    share(house, job, Right.VIEW)
    assert calls == ["bob"]


def test_a_connection_is_told_when_its_grant_expires(house: House, job: Job) -> None:
    share(house, job, expires_in=10.0)
    calls: list[str] = []
    house.access.visits.enter(admitted(house, job), False, lambda: calls.append("bob"))
    ticks(house, 8)
    assert calls == []
    ticks(house, 3)
    assert calls == ["bob"]
    assert there(house, job) == []  # it is no relay


def test_one_that_was_revoked_while_it_was_opening_is_told_at_once(house: House, job: Job) -> None:
    grant = share(house, job)
    target = admitted(house, job)
    house.result(house.desk.sharing.revoke(ALICE, job.id, grant))
    calls: list[str] = []
    house.access.visits.enter(target, True, lambda: calls.append("bob"))
    assert calls == ["bob"]


def test_another_process_revokes_by_the_store(house: House, job: Job) -> None:
    grant = share(house, job)
    calls: list[str] = []
    house.access.visits.enter(admitted(house, job), True, lambda: calls.append("bob"))
    other = House(lifetime=1.0)
    try:
        other.store = house.store
        other.begin()
        other.result(other.desk.sharing.revoke(ALICE, job.id, grant))
    finally:
        other.end()
    assert calls == []
    house.result(house.book.refresh())
    assert calls == ["bob"]


def test_a_grant_of_another_process_counts_at_once(house: House, job: Job) -> None:
    other = House()
    try:
        other.store = house.store
        other.begin()
        other.result(other.desk.sharing.grant(ALICE, job.id, Right.CONTROL, subject="bob"))
        assert not house.book.get(job.id).grants  # type: ignore[union-attr]
        assert admitted(house, job).right is Right.CONTROL
    finally:
        other.end()


def test_what_another_process_revoked_does_not_count_any_more(house: House, job: Job) -> None:
    grant = share(house, job)
    other = House()
    try:
        other.store = house.store
        other.begin()
        other.result(other.desk.sharing.revoke(ALICE, job.id, grant))
    finally:
        other.end()
    assert house.book.get(job.id).grants  # type: ignore[union-attr]
    with pytest.raises(NoSuchJob):
        admitted(house, job)
    with pytest.raises(NoSuchJob):
        house.result(house.desk.get(BOB, job.id))


def test_presence_is_there_while_a_relay_is(house: House, job: Job) -> None:
    share(house, job)
    leave = [
        house.access.visits.enter(admitted(house, job, name, service), True, lambda: None)
        for name, service in (("alice", "backend"), ("bob", "renderer"))
    ]
    ticks(house, 1)
    assert there(house, job) == [
        ("alice", "backend", Right.OWNER),
        ("bob", "renderer", Right.CONTROL),
    ]
    leave[0]()
    ticks(house, 1)
    assert there(house, job) == [("bob", "renderer", Right.CONTROL)]
    ticks(house, 10 * SILENCE)
    assert there(house, job) == [("bob", "renderer", Right.CONTROL)]
    house.clock.advance(SILENCE + 1)  # it says nothing any more
    assert there(house, job) == []


def test_writes_are_few(house: House, job: Job) -> None:
    counted, visits = Counted(house), house.access.visits
    ticks(house, 100)
    assert counted.writes == []  # nobody is there
    leaves = [visits.enter(admitted(house, job, "alice"), True, lambda: None) for _ in range(500)]
    ticks(house, 1)
    assert counted.writes == [(job.id,)]
    ticks(house, 4 * HEARTBEAT)
    assert counted.writes == [(job.id,), (), (), (), ()]
    for leave in leaves:
        leave()
    ticks(house, 4 * HEARTBEAT)
    assert counted.writes[5:] == [(job.id,)]


def test_presence_is_stored_again_when_the_store_is_back(house: House, job: Job) -> None:
    house.access.visits.enter(admitted(house, job, "alice"), True, lambda: None)
    house.store.fault = StoreUnavailable("The disk is full.")
    with pytest.raises(StoreUnavailable):
        ticks(house, 1)
    house.store.fault = None
    ticks(house, 1)
    assert there(house, job) == [("alice", "renderer", Right.OWNER)]


def test_an_invitation_of_no_job_is_like_one_that_is_used_up(house: House, job: Job) -> None:
    secret, _ = house.result(house.desk.sharing.invite(ALICE, job.id, Right.VIEW, 60.0, 1))
    for wrong in ("", "x", "a" * 26, f"{'a' * 26}.x", f"{job.id}.x", secret.reveal() + "x"):
        with pytest.raises(NoSuchInvitation):
            house.result(house.desk.sharing.redeem(BOB, Secret(wrong)))
    found, right = house.result(house.desk.sharing.redeem(BOB, secret))
    assert (found.id, right) == (job.id, Right.VIEW)
    own = house.result(house.desk.sharing.redeem(ALICE, secret))
    assert own[1] is Right.OWNER


def test_shared_jobs_are_listed_apart(house: House, job: Job) -> None:
    house.result(house.desk.sharing.grant(ALICE, job.id, Right.VIEW, group="lab", expires_in=60.0))
    member = Identity("bob", ("lab",))

    def shared_with(who: Identity) -> list[str]:
        page = house.result(house.desk.page(who, (), None, 10, None, shared=True))
        return [found.id for found in page.items]

    assert shared_with(member) == [job.id]
    assert shared_with(BOB) == shared_with(ALICE) == []
    house.clock.advance(61)
    assert shared_with(member) == []
