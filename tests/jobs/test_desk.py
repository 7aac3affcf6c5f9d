"""Who may do what with which job."""

from __future__ import annotations

import pytest

from tests.jobs.rig import ALICE, BOB, House, make_ready
from vsmgate.errors import (
    BadParameters,
    GatewayError,
    IdempotencyMismatch,
    JobConflict,
    JobEnded,
    JobNotReady,
    NoSuchJob,
    NoSuchService,
    NoSuchUsecase,
    NotExtendable,
    Unauthenticated,
)
from vsmgate.lifecycle import State
from vsmgate.model import Job, LogStream, Observation, Phase, Secret
from vsmgate.relay.desk import Credential


def bearer(name: str) -> Credential:
    return Credential("bearer", Secret(name))


def test_an_unknown_use_case_names_the_known_ones(house: House) -> None:
    with pytest.raises(NoSuchUsecase, match="known: demo"):
        house.result(house.desk.start(ALICE, "dmeo", {}))


def test_parameters_are_checked_and_completed(house: House) -> None:
    assert house.start().parameters == {"size": 3}
    with pytest.raises(BadParameters) as bad:
        house.result(house.desk.start(ALICE, "demo", {"size": "x", "sise": 1}))
    assert {problem.pointer for problem in bad.value.problems} == {"/size", "/sise"}
    assert len(house.engine) == 1


def test_an_idempotency_key_starts_one_job(house: House) -> None:
    first = house.start(idempotency_key="k")
    again, new = house.result(house.desk.start(ALICE, "demo", {}, idempotency_key="k"))
    assert (again.id, new) == (first.id, False)
    with pytest.raises(IdempotencyMismatch):
        house.start(idempotency_key="k", parameters={"size": 4})
    assert house.start(BOB, idempotency_key="k").id != first.id
    assert len(house.engine) == 2


def everything_bob_tries(house: House, job_id: str) -> list[tuple[type, str]]:
    desk = house.desk
    seen = []
    for call in (
        desk.get(BOB, job_id),
        desk.wait(BOB, job_id, 1),
        desk.stop(BOB, job_id),
        desk.extend(BOB, job_id, 60),
        desk.logs(BOB, job_id, "renderer", LogStream.STDOUT, 10),
        desk.issue_ticket(BOB, job_id, "renderer"),
        house.access.admit(job_id, "renderer", bearer("bob")),
        house.access.admit(job_id, "nothing", bearer("bob")),
    ):
        with pytest.raises(GatewayError) as refused:
            house.result(call)
        seen.append((type(refused.value), refused.value.detail))
    return seen


@pytest.mark.criterion("S-2")
def test_anothers_job_is_like_an_unknown_one(house: House) -> None:
    job = make_ready(house, house.start())
    foreign = everything_bob_tries(house, job.id)
    assert foreign == everything_bob_tries(house, "a" * 26)
    assert {kind for kind, _ in foreign} == {NoSuchJob}
    assert house.result(house.desk.page(BOB, (), None, 10, None)).items == ()
    assert house.get(job).state is State.READY


def test_the_relay_is_told_where_to_dial(house: House) -> None:
    job = house.start()
    with pytest.raises(JobNotReady):
        house.result(house.access.admit(job.id, "renderer", bearer("alice")))
    house.launcher.run(job.id)
    house.pass_time(1)
    with pytest.raises(JobNotReady, match="running"):  # it has an address, and did not answer yet
        house.result(house.access.admit(job.id, "renderer", bearer("alice")))
    make_ready(house, job)
    target = house.result(house.access.admit(job.id, "renderer", bearer("alice")))
    assert (target.endpoint.port, target.identity) == (5000, ALICE)
    with pytest.raises(Unauthenticated):
        house.result(house.access.admit(job.id, "renderer", None))
    with pytest.raises(Unauthenticated):
        house.result(house.access.admit(job.id, "renderer", bearer("mallory")))
    with pytest.raises(NoSuchService, match="renderer, backend"):
        house.result(house.access.admit(job.id, "rendrer", bearer("alice")))
    house.launcher.end(job.id)
    house.pass_time(6)
    with pytest.raises(JobEnded, match="exited"):
        house.result(house.access.admit(job.id, "renderer", bearer("alice")))


@pytest.mark.criterion("S-4")
def test_a_ticket_opens_its_own_door_once(house: House) -> None:
    job = make_ready(house, house.start())
    secret, ticket = house.result(house.desk.issue_ticket(ALICE, job.id, "renderer"))
    assert secret.reveal() not in repr(ticket)
    shown = Credential("ticket", secret)
    with pytest.raises(Unauthenticated):
        house.result(house.access.admit(job.id, "backend", shown))
    with pytest.raises(Unauthenticated):  # a ticket shown at the wrong door is used up
        house.result(house.access.admit(job.id, "renderer", shown))
    secret, _ = house.result(house.desk.issue_ticket(ALICE, job.id, "renderer"))
    assert house.result(house.access.admit(job.id, "renderer", Credential("ticket", secret)))
    secret, _ = house.result(house.desk.issue_ticket(ALICE, job.id, "renderer"))
    house.pass_time(61)
    with pytest.raises(Unauthenticated):
        house.result(house.access.admit(job.id, "renderer", Credential("ticket", secret)))


def test_the_end_of_a_job_is_told_once_also_to_who_asks_late(house: House) -> None:
    job = make_ready(house, house.start())
    told: list[Job] = []
    house.access.on_end(job.id, told.append)
    house.access.on_end(job.id, told.append)()  # revoked
    house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(5)
    assert [one.id for one in told] == [job.id]
    house.access.on_end(job.id, told.append)
    assert len(told) == 2
    assert told[1].ended


def test_extend_moves_the_end_as_far_as_is_allowed(house: House) -> None:
    job = house.start()
    with pytest.raises(NotExtendable):
        house.result(house.desk.extend(ALICE, job.id, 60))
    job = make_ready(house, job)
    assert job.end_time is not None
    longer = house.result(house.desk.extend(ALICE, job.id, 3600))
    assert longer.end_time == job.end_time + 3600
    assert longer.extendable_until is not None
    room = longer.extendable_until - longer.end_time
    with pytest.raises(NotExtendable, match=f"by {room:.0f} s at most"):
        house.result(house.desk.extend(ALICE, job.id, 10**6))
    house.launcher.extendable = False
    with pytest.raises(NotExtendable, match="It cannot be extended"):
        house.result(house.desk.extend(ALICE, job.id, 60))


def test_a_job_that_ends_is_neither_extended_nor_given_a_ticket(house: House) -> None:
    job = make_ready(house, house.start())
    house.launcher.obedient = False
    house.result(house.desk.stop(ALICE, job.id))
    with pytest.raises(NotExtendable, match="being stopped"):
        house.result(house.desk.extend(ALICE, job.id, 60))
    with pytest.raises(JobConflict, match="being stopped"):
        house.result(house.desk.issue_ticket(ALICE, job.id, "renderer"))
    with pytest.raises(JobNotReady, match="stopping"):
        house.result(house.access.admit(job.id, "renderer", bearer("alice")))
    house.launcher.end(job.id)
    house.pass_time(6)
    for call in (
        house.desk.extend(ALICE, job.id, 60),
        house.desk.issue_ticket(ALICE, job.id, "renderer"),
    ):
        with pytest.raises(JobEnded):
            house.result(call)


def test_an_administrator_ends_anybodys_job(house: House) -> None:
    job = make_ready(house, house.start())
    stop = house.desk.administration.stop
    assert house.result(stop(BOB, job.id)).state is State.STOPPING
    house.pass_time(1)  # the engine is told at once
    for over in (house.get(job), house.result(stop(BOB, job.id))):
        assert over.state is State.STOPPED
        assert over.reason is not None
        assert over.reason.code == "cancelled_by_administrator"
    with pytest.raises(NoSuchJob):
        house.result(stop(BOB, "a" * 26))


def test_the_last_words_of_a_service(house: House) -> None:
    job = house.start()
    house.engine[job.id].logs["renderer", LogStream.STDOUT] = b"loading\nready\n"
    logs = house.desk.logs
    assert house.result(logs(ALICE, job.id, "renderer", LogStream.STDOUT, 6)) == b"ready\n"
    assert house.result(logs(ALICE, job.id, "backend", LogStream.STDOUT, 6)) == b""
    with pytest.raises(NoSuchService):
        house.result(logs(ALICE, job.id, "rendrer", LogStream.STDOUT, 6))


def test_waiting_ends_with_the_next_change(house: House) -> None:
    job = house.start()
    house.pass_time(1)
    before = house.clock.seconds()
    house.clock.callLater(3, house.launcher.run, job.id)
    assert house.result(house.desk.wait(ALICE, job.id, 15)).state is State.RUNNING
    assert house.clock.seconds() - before < 4
    assert house.result(house.book.wait(job, 15, house.clock)).state is State.RUNNING
    assert house.clock.seconds() - before < 4, "who knows an older one need not wait"
    unchanged = house.result(house.desk.wait(ALICE, job.id, 2))
    assert unchanged.state is State.RUNNING
    assert not house.book.awaited()


def test_who_waits_for_a_queued_job_learns_of_a_change_soon(house: House) -> None:
    job = house.start()
    house.launcher.tell(job.id, Observation(Phase.QUEUED))
    house.pass_time(6)  # at rest it is asked about every five seconds
    before = house.clock.seconds()
    house.launcher.run(job.id)
    assert house.result(house.desk.wait(ALICE, job.id, 15)).state is State.RUNNING
    assert house.clock.seconds() - before < 1
