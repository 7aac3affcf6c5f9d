"""Keeping jobs in step with an engine, whatever happens in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.jobs.rig import ALICE, BOB, House, make_ready
from vsmgate.errors import (
    EngineRefused,
    EngineUnreachable,
    NoSuchJob,
    NotExtendable,
    QuotaExceeded,
)
from vsmgate.lifecycle import State
from vsmgate.model import Limits, LogStream, Observation, Phase, Quota, Reason


def submits(house: House) -> Counter[str]:
    return Counter(call[1].job_id for call in house.launcher.calls if call[0] == "submit")


def test_from_request_to_the_end(house: House) -> None:
    asked = house.clock.seconds()
    job = house.start()
    assert job.engine_ref is not None
    assert house.clock.seconds() == asked, "nothing but the engine is waited for"
    house.pass_time(1)
    assert house.get(job).state is State.STARTING
    house.launcher.run(job.id)
    house.pass_time(1)
    running = house.get(job)
    assert running.state is State.RUNNING
    assert running.endpoints["backend"].port == 8000
    ready = make_ready(house, job)
    house.launcher.end(ready.id, "completed", "Done.")
    house.pass_time(6)
    over = house.get(job)
    assert over.state is State.STOPPED
    assert over.reason == Reason("completed", "Done.")
    assert house.book.get(job.id) is None
    house.launcher.calls.clear()
    house.pass_time(30)
    assert not house.launcher.calls  # an engine without jobs is left alone


def test_a_refused_job_says_why_and_is_kept(house: House) -> None:
    house.launcher.fault = EngineRefused("no program x", code="program_missing")
    with pytest.raises(EngineRefused) as refused:
        house.start()
    assert refused.value.code == "program_missing"
    page = house.result(house.desk.page(ALICE, (), None, 10, None))
    assert [(j.state, j.reason.code) for j in page.items if j.reason] == [
        (State.FAILED, "program_missing")
    ]


def test_an_engine_that_goes_away_during_submit_is_asked_again(house: House) -> None:
    house.launcher.fault = EngineUnreachable("down")
    job = house.start()
    assert job.state is State.REQUESTED
    assert job.stale_since is not None
    with pytest.raises(EngineUnreachable):
        house.start()  # known to be away by now: refused at once, nothing stored
    house.launcher.fault = None
    house.pass_time(70)
    now = house.get(job)
    assert now.engine_ref is not None
    assert len(house.engine) == 1
    assert house.result(house.desk.get(ALICE, job.id)).stale_since is None


def test_a_lost_answer_does_not_start_a_second_job(house: House) -> None:
    house.launcher.lose_answers = True
    job = house.start()
    house.launcher.lose_answers = False
    house.pass_time(70)
    assert house.get(job).engine_ref == f"scripted-{job.id}"
    assert submits(house) == {job.id: 1}


def test_a_launcher_with_a_bug_ends_the_job_and_leaves_nothing_behind(
    house: House, flush_logged: Callable[..., list[object]]
) -> None:
    submit = house.launcher.submit

    async def faulty(launch: object) -> str:
        await submit(launch)  # type: ignore[arg-type]
        raise ZeroDivisionError

    house.launcher.submit = faulty  # type: ignore[assignment]
    house.result(house.desk.start(ALICE, "demo", {}))
    house.pass_time(10)
    assert flush_logged(ZeroDivisionError)
    (engine_job,) = house.engine.values()
    assert engine_job.cancels == 1
    over = house.result(house.store.get(engine_job.launch.job_id))
    assert over.state is State.FAILED
    assert over.reason is not None
    assert over.reason.code == "launcher_failed"


@pytest.mark.parametrize("moment", ["before submit", "after submit", "after ref"])
def test_a_crash_around_submit_leads_to_exactly_one_engine_job(house: House, moment: str) -> None:
    if moment == "before submit":
        house.launcher.hold()
        job, _ = house.result(house.desk.start(ALICE, "demo", {}))
    else:
        house.launcher.lose_answers = moment == "after submit"
        job = house.start()
    house.crash()
    house.pass_time(10)
    assert len(house.engine) == 1
    assert house.get(job).engine_ref is not None
    assert submits(house) == ({job.id: 1} if moment == "before submit" else {})


def test_an_engine_that_cannot_be_asked_changes_nothing_but_stale_since(house: House) -> None:
    job = make_ready(house, house.start())
    house.launcher.fault = EngineUnreachable("down")
    house.pass_time(10)
    since = house.result(house.desk.get(ALICE, job.id)).stale_since
    assert since is not None
    house.pass_time(600, 5)
    seen = house.result(house.desk.get(ALICE, job.id))
    assert (seen.state, seen.stale_since) == (State.READY, since)
    assert house.desk.problems() == ["The engine engine cannot be reached."]
    house.launcher.fault = None
    house.pass_time(70)
    assert house.result(house.desk.get(ALICE, job.id)).stale_since is None
    assert not house.desk.problems()


def test_a_job_is_lost_only_after_repeated_answers(make_house: Callable[..., House]) -> None:
    house = make_house(lost_after=3, lost_grace=20.0)
    job = make_ready(house, house.start())
    gone = house.engine.pop(job.id)
    house.pass_time(12)
    assert house.get(job).state is State.READY
    house.engine[job.id] = gone  # the engine only had a bad moment
    house.pass_time(60)
    assert house.get(job).state is State.READY
    del house.engine[job.id]
    house.pass_time(60)
    assert house.get(job).state is State.LOST


def test_so_many_polls_in_a_row_must_not_know_a_job(make_house: Callable[..., House]) -> None:
    house = make_house(lost_after=3, lost_grace=0.1)
    job = make_ready(house, house.start())
    del house.engine[job.id]
    house.launcher.calls.clear()
    house.pass_time(30)
    assert house.get(job).state is State.LOST
    assert [call[0] for call in house.launcher.calls].count("poll") == 3


def test_many_jobs_cost_one_poll_a_tick(house: House) -> None:
    for _ in range(50):
        house.start()
    for job_id in house.engine:
        house.launcher.run(job_id)
    house.pass_time(5)
    house.launcher.calls.clear()
    house.pass_time(60)
    polls = [call for call in house.launcher.calls if call[0] == "poll"]
    assert len(polls) == 12  # poll_interval is 5 s
    assert all(len(call[1]) == 50 for call in polls)
    assert {call[0] for call in house.launcher.calls} == {"poll"}


def test_stop_cancels_once_and_ends(house: House) -> None:
    job = make_ready(house, house.start())
    house.launcher.obedient = False
    for _ in range(3):
        assert house.result(house.desk.stop(ALICE, job.id)).state is State.STOPPING
    house.pass_time(20)
    assert house.engine[job.id].cancels == 1
    house.launcher.end(job.id, "killed", "signal 15")
    house.pass_time(2)
    over = house.result(house.desk.stop(ALICE, job.id))
    assert over.state is State.STOPPED
    assert over.reason is not None
    assert over.reason.code == "cancelled_by_user"


def test_a_cancel_that_failed_is_repeated_soon(house: House) -> None:
    first, second = (make_ready(house, house.start()) for _ in range(2))
    house.launcher.obedient = False
    house.launcher.broken, house.launcher.fault = {"cancel"}, EngineUnreachable("it is busy")
    for job in (first, second):
        house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(3)
    asked = [call[1] for call in house.launcher.calls if call[0] == "cancel"]
    assert sorted(asked) == sorted(house.engine[job.id].ref for job in (first, second))
    house.launcher.fault = None
    house.pass_time(6)  # poll_interval is 5 s
    assert [house.engine[job.id].cancels for job in (first, second)] == [1, 1]


def test_cancels_that_hang_do_not_keep_another_from_its_own(house: House) -> None:
    jobs = [make_ready(house, house.start()) for _ in range(3)]
    house.launcher.hold("cancel")
    for job in jobs:
        house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(100)  # engine_timeout is 30 s
    asked = {call[1] for call in house.launcher.calls if call[0] == "cancel"}
    assert asked == {house.engine[job.id].ref for job in jobs}


def test_a_stop_waits_until_other_processes_have_heard_of_it(
    make_house: Callable[..., House],
) -> None:
    house = make_house(notice=1.5)
    job = make_ready(house, house.start())
    house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(1.25)
    assert house.get(job).state is State.STOPPING
    house.pass_time(1.25)
    assert house.get(job).ended


@pytest.mark.parametrize("limits", [Limits(), Limits(idle_timeout=4.0)])
def test_activity_reaches_the_store_well_before_the_idle_end(
    make_house: Callable[..., House], limits: Limits
) -> None:
    house = make_house(idle_timeout=4.0 if limits == Limits() else None, limits=limits)
    job = make_ready(house, house.start())
    house.activity.note(job.id)
    noted = house.clock.seconds()
    house.pass_time(1.25)
    assert house.result(house.store.get(job.id)).last_activity_at == noted
    assert not house.activity.latest(job.id), "what is stored is not kept here"


def test_a_job_that_its_engine_never_had_can_be_stopped(house: House) -> None:
    house.launcher.fault = EngineUnreachable("down")
    job = house.start()
    house.result(house.desk.stop(ALICE, job.id))
    house.launcher.fault = None
    house.pass_time(70)
    assert house.get(job).state is State.STOPPED
    assert not house.engine


@pytest.mark.parametrize(
    ("config", "limits", "code", "state"),
    [
        ({"lifetime": 100.0}, {}, "walltime", State.EXPIRED),
        ({}, {"lifetime": 100.0}, "walltime", State.EXPIRED),
        ({"idle_timeout": 100.0}, {}, "idle", State.EXPIRED),
    ],
)
def test_limits_end_a_ready_job(
    make_house: Callable[..., House],
    config: dict[str, float],
    limits: dict[str, float],
    code: str,
    state: State,
) -> None:
    house = make_house(**config, limits=Limits(**limits))
    job = make_ready(house, house.start())
    house.pass_time(85)
    assert house.get(job).state is State.READY
    house.pass_time(25)
    over = house.get(job)
    assert over.state is state
    assert over.reason is not None
    assert over.reason.code == code


def test_data_of_clients_puts_the_idle_end_off(make_house: Callable[..., House]) -> None:
    house = make_house(idle_timeout=100.0)
    job = make_ready(house, house.start())
    for _ in range(4):
        house.pass_time(60)
        house.access.active(job.id)
    house.pass_time(60)
    assert house.get(job).state is State.READY
    assert (house.get(job).last_activity_at or 0) > house.clock.seconds() - 80
    house.pass_time(60)
    assert house.get(job).state is State.EXPIRED


@pytest.mark.parametrize("limits", [Limits(), Limits(start_timeout=30.0)])
def test_a_service_that_never_answers_ends_the_job_with_what_was_seen(
    make_house: Callable[..., House], limits: Limits
) -> None:
    house = make_house(start_timeout=30.0 if limits == Limits() else 3600.0, limits=limits)
    job = house.start()
    house.launcher.run(job.id)
    house.trouble[job.id] = "backend: 127.0.0.1:8000 refused the connection"
    house.pass_time(28)
    assert house.get(job).state is State.RUNNING
    house.pass_time(12)
    over = house.get(job)
    assert over.state is State.FAILED
    assert over.reason is not None
    assert "8000 refused" in over.reason.message


def test_time_in_the_queue_is_not_time_to_start(make_house: Callable[..., House]) -> None:
    house = make_house(start_timeout=30.0)
    job = house.start()
    house.launcher.tell(job.id, Observation(Phase.QUEUED))
    house.pass_time(3600, 5)
    assert house.get(job).state is State.QUEUED


@pytest.mark.parametrize("limits", [Limits(), Limits(queue_timeout=30.0)])
def test_time_in_the_queue_may_have_an_end(
    make_house: Callable[..., House], limits: Limits
) -> None:
    house = make_house(queue_timeout=30.0 if limits == Limits() else 3600.0, limits=limits)
    job = house.start()
    house.launcher.tell(job.id, Observation(Phase.QUEUED))
    house.pass_time(28)
    assert house.get(job).state is State.QUEUED
    house.pass_time(7)
    over = house.get(job)
    assert over.reason is not None
    assert (over.state, over.reason.code) == (State.FAILED, "queue_timeout")
    assert house.engine[job.id].cancels == 1


def test_the_quota_refuses_or_holds(make_house: Callable[..., House]) -> None:
    strict = make_house(quota=Quota(per_user=1))
    strict.start()
    with pytest.raises(QuotaExceeded):
        strict.start()
    strict.start(BOB)

    patient = make_house(quota=Quota(per_user=1, queue=True))
    first, second = patient.start(), patient.start()
    assert second.held
    assert second.reason is not None
    assert second.reason.code == "over_quota"
    assert patient.desk.usage(ALICE) == (1, 1)
    assert list(patient.engine) == [first.id]
    patient.result(patient.desk.stop(ALICE, first.id))
    patient.pass_time(5)
    assert second.id in patient.engine


def test_a_job_whose_launcher_is_not_configured_any_more(
    make_house: Callable[..., House],
) -> None:
    house = make_house(retention=100.0)
    job, early = make_ready(house, house.start()), house.start()
    del house.drivers["engine"]
    assert house.result(house.desk.get(ALICE, job.id)).ready
    assert house.result(house.desk.wait(ALICE, early.id, 1)).id == early.id
    assert house.result(house.desk.logs(ALICE, job.id, "renderer", LogStream.STDOUT, 9)) == b""
    with pytest.raises(NotExtendable, match="engine cannot move the end"):
        house.result(house.desk.extend(ALICE, job.id, 60))
    assert house.result(house.desk.stop(ALICE, job.id)).state is State.STOPPING
    house.pass_time(200)  # the driver of before goes on here, so the job ends
    with pytest.raises(NoSuchJob):
        house.get(job)


def test_ended_jobs_are_forgotten_after_their_time(make_house: Callable[..., House]) -> None:
    house = make_house(retention=1000.0)
    job = house.start()
    house.launcher.end(job.id)
    house.pass_time(900, 5)
    assert house.get(job).state is State.FAILED
    house.pass_time(300, 5)
    with pytest.raises(NoSuchJob):
        house.get(job)
    assert ("forget", f"scripted-{job.id}") in house.launcher.calls


def test_the_last_words_of_a_job_are_kept(house: House) -> None:
    job = house.start()
    house.engine[job.id].logs["renderer", LogStream.STDERR] = b"cannot load plugin\n"
    house.launcher.end(job.id)
    house.pass_time(6)
    assert house.get(job).log_tail == "[renderer stderr]\ncannot load plugin"
