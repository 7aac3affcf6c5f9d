"""Submissions beside polls, the breaker, and moving on to the next launcher."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from twisted.internet.defer import Deferred
from zope.interface import alsoProvides

from tests.jobs.rig import ALICE, House, make_ready
from vsmgate.errors import EngineRefused, EngineUnreachable
from vsmgate.interfaces import IAbandoning
from vsmgate.jobs.line import LONGEST, backoff
from vsmgate.jobs.submitter import CONCURRENT
from vsmgate.lifecycle import State
from vsmgate.model import Job, Limits, Observation, Phase, Reason
from vsmgate.testing.launchers import ScriptedLauncher

MakeHouse = Callable[..., House]


def verbs(launcher: ScriptedLauncher) -> list[str]:
    return [call[0] for call in launcher.calls]


def begin(house: House) -> None:
    """Ask for one more job without waiting for its engine's first word."""
    Deferred.fromCoroutine(house.desk.start(ALICE, "demo", {}))
    house.clock.advance(0)


def only(house: House) -> Job:
    (job,) = house.book.live()
    return job


# -- beside each other ------------------------------------------------------------------


def test_a_submission_that_hangs_delays_no_poll_and_no_other_start(house: House) -> None:
    ready = make_ready(house, house.start())
    house.launcher.hold("submit")
    slow = house.start()
    assert slow.state is State.REQUESTED
    assert slow.stale_since is None
    house.pass_time(5)
    house.launcher.calls.clear()
    house.pass_time(10)
    assert verbs(house.launcher).count("poll") == 20  # a job is new: every half second
    house.launcher.end(ready.id, "completed", "Done.")
    house.pass_time(1)
    assert house.get(ready).state is State.STOPPED
    house.launcher.release()
    house.pass_time(1)
    assert house.get(slow).engine_ref is not None


def test_a_few_submissions_go_on_at_a_time(house: House) -> None:
    assert CONCURRENT == 4
    house.launcher.hold("submit")
    for _ in range(CONCURRENT + 3):
        begin(house)
    house.pass_time(1)
    assert verbs(house.launcher).count("submit") == CONCURRENT
    house.launcher.release()
    house.pass_time(3)
    assert len(house.engine) == CONCURRENT + 3


def test_a_submission_that_is_never_answered_is_looked_for_before_each_new_try(
    house: House,
) -> None:
    ready = make_ready(house, house.start())
    house.launcher.fault, house.launcher.broken = EngineUnreachable("no answer"), ("submit",)
    job = house.start()
    assert job.reason is not None
    assert job.reason.code == "engine_unreachable"
    house.launcher.calls.clear()
    house.pass_time(300)
    calls = [verb for verb in verbs(house.launcher) if verb != "poll"]
    assert 3 <= calls.count("submit") <= 60  # pauses grow up to half a minute in the mean
    assert all(before == "find" for before, now in pairwise(calls) if now == "submit")
    # The engine answers all else, so nothing of it is stale.
    assert not house.desk.problems()
    assert house.result(house.desk.get(ALICE, ready.id)).stale_since is None
    house.launcher.fault = None
    house.pass_time(LONGEST + 5)
    assert house.get(job).engine_ref is not None
    assert Counter(j.launch.job_id for j in house.engine.values())[job.id] == 1


def test_a_job_that_is_stopped_while_it_is_submitted_is_cancelled(house: House) -> None:
    house.launcher.hold("submit")
    job = house.start()
    house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(5)
    assert house.get(job).state is State.STOPPING
    house.launcher.release()
    house.pass_time(2)
    assert house.get(job).state is State.STOPPED
    assert house.engine[job.id].cancels == 1


def test_a_job_that_is_stopped_before_its_turn_never_reaches_the_engine(house: House) -> None:
    house.launcher.hold("submit")
    for _ in range(CONCURRENT):
        begin(house)
    last = house.start()
    house.result(house.desk.stop(ALICE, last.id))
    house.launcher.release()
    house.pass_time(3)
    assert house.get(last).state is State.STOPPED
    assert len(house.engine) == CONCURRENT


def test_a_shutdown_in_the_middle_of_submissions_loses_and_doubles_nothing(house: House) -> None:
    house.launcher.hold("submit")
    for _ in range(CONCURRENT + 2):
        begin(house)
    house.crash()
    house.pass_time(10)
    assert len(house.engine) == CONCURRENT + 2
    assert all(job.engine_ref for job in house.book.live())


def test_a_store_that_fails_after_the_submission_does_not_lead_to_a_second(house: House) -> None:
    update = house.store.update

    async def failing(*args: object) -> Job:
        raise EngineUnreachable("the store, for once")

    house.launcher.hold("submit")
    job_id = house.start().id
    house.store.update = failing  # type: ignore[method-assign, assignment]
    house.launcher.release()
    house.store.update = update  # type: ignore[method-assign]
    house.pass_time(1)  # it is looked for soon, not only at the next pass of rest
    assert house.result(house.book.find(job_id)).engine_ref == f"scripted-{job_id}"
    assert verbs(house.launcher).count("submit") == 1


# -- the breaker --------------------------------------------------------------------------


def test_pauses_have_full_jitter_and_a_ceiling() -> None:
    for failures, ceiling in ((1, 1.0), (4, 8.0), (100, LONGEST)):
        pauses = [backoff(0.5, failures) for _ in range(300)]
        assert 0.5 <= min(pauses) < 0.5 + ceiling / 10
        assert 0.5 + ceiling * 0.9 < max(pauses) <= 0.5 + ceiling


def test_an_engine_that_is_away_is_asked_by_one_caller_now_and_then(house: House) -> None:
    make_ready(house, house.start())
    house.launcher.fault = EngineUnreachable("down")
    house.pass_time(120, 1)
    house.launcher.calls.clear()
    house.result(house.desk.start(ALICE, "demo", {}, idempotency_key="k"))  # kept, and waits
    house.pass_time(600, 1)
    asked = Counter(verbs(house.launcher))
    assert "submit" not in asked
    assert 8 <= asked["poll"] + asked["find"] <= 80  # a pause is half a minute in the mean
    house.launcher.fault = None
    house.pass_time(2 * LONGEST + 5)
    assert len(house.engine) == 2
    assert not house.desk.problems()


def test_an_open_breaker_lets_one_question_through_at_a_time(house: House) -> None:
    line = house.driver.line
    house.launcher.fault = EngineUnreachable("down")
    house.end()
    for _ in range(3):
        with pytest.raises(EngineUnreachable):
            house.result(line.query(lambda: house.launcher.find(["x"])))
    assert line.open
    assert 0.0 < line.pause() <= LONGEST
    house.clock.advance(LONGEST + 1)
    house.launcher.fault = None
    house.launcher.hold()
    house.launcher.calls.clear()
    trial = Deferred.fromCoroutine(line.query(lambda: house.launcher.find(["x"])))
    with pytest.raises(EngineUnreachable, match="down"):
        house.result(line.query(lambda: house.launcher.find(["y"])))
    house.launcher.release()
    assert trial.called
    assert not line.open
    assert house.launcher.calls == [("find", ("x",))]


# -- time to start ------------------------------------------------------------------------


def test_a_job_that_its_engine_does_not_get_to_run_ends(make_house: MakeHouse) -> None:
    house = make_house(limits=Limits(start_timeout=30.0))
    job = house.start()
    pulling = Reason("image_pull", "The image is being pulled.", "ImagePullBackOff")
    house.launcher.tell(job.id, Observation(Phase.STARTING, reason=pulling))
    house.pass_time(28)
    assert house.get(job).state is State.STARTING
    house.pass_time(5)
    over = house.get(job)
    assert over.state is State.FAILED
    assert over.reason is not None
    assert over.reason.code == "never_ready"
    assert "The image is being pulled." in over.reason.message
    assert "ImagePullBackOff" in over.reason.native
    assert house.engine[job.id].cancels == 1


def test_time_to_start_begins_anew_after_the_queue_and_when_it_runs(make_house: MakeHouse) -> None:
    house = make_house(start_timeout=30.0)
    job = house.start()
    for phase in (Phase.STARTING, Phase.QUEUED, Phase.STARTING):
        house.launcher.tell(job.id, Observation(phase))
        house.pass_time(25)
        assert not house.get(job).ended
    house.launcher.run(job.id)
    house.pass_time(25)
    assert house.get(job).state is State.RUNNING


# -- several launchers ----------------------------------------------------------------------


@pytest.fixture
def two(make_house: MakeHouse) -> House:
    """Return a house whose use case prefers ``engine`` and may run on ``spare``."""
    return make_house(fallbacks=("spare",))


def test_the_first_choice_is_taken(two: House) -> None:
    job = two.start()
    assert (job.usecase.launcher, job.launcher_reason) == ("engine", "The first choice.")
    assert (len(two.engine), len(two.spare_engine)) == (1, 0)


def test_a_first_choice_that_is_known_to_be_away_is_not_asked(two: House) -> None:
    make_ready(two, two.start())
    two.launcher.fault = EngineUnreachable("down")
    two.pass_time(30)
    two.launcher.calls.clear()
    job = two.start()
    assert (job.usecase.launcher, job.usecase.fallbacks) == ("spare", ())
    assert job.launcher_reason == "engine cannot be reached."
    assert job.stale_since is None
    assert list(two.spare_engine) == [job.id]


def test_a_first_choice_that_turns_out_to_be_away_is_not_asked_to_take_it(two: House) -> None:
    two.launcher.fault = EngineUnreachable("down")
    job = two.start()
    assert job.usecase.launcher == "spare"
    assert job.launcher_reason == "engine cannot be reached."
    assert job.engine_ref is not None
    assert "submit" not in verbs(two.launcher)
    assert not two.engine


def test_an_engine_that_lost_its_jobs_to_another_is_found_to_be_back(two: House) -> None:
    two.launcher.fault = EngineUnreachable("down")
    two.start()
    two.pass_time(30)
    assert two.desk.problems() == ["The engine engine cannot be reached."]
    two.launcher.fault = None
    two.pass_time(LONGEST + 5)
    assert not two.desk.problems()
    assert two.start().usecase.launcher == "engine"


def test_a_first_choice_that_says_no_leaves_it_to_the_next(two: House) -> None:
    two.launcher.fault = EngineRefused("No such partition.", code="bad_partition")
    two.launcher.broken = ("submit",)
    job = two.start()
    assert job.launcher_reason == "engine refused it: No such partition."
    two.pass_time(30)
    assert list(two.spare_engine) == [job.id]
    two.spare.run(job.id)
    two.pass_time(6)
    assert two.get(job).state is State.RUNNING
    two.crash()
    two.pass_time(10)
    assert two.get(job).state is State.RUNNING
    assert not two.engine


def test_the_last_choice_decides(two: House) -> None:
    for launcher in (two.launcher, two.spare):
        launcher.fault, launcher.broken = EngineRefused("No.", code="limit_reached"), ("submit",)
    with pytest.raises(EngineRefused) as refused:
        two.start()
    assert refused.value.code == "limit_reached"


def test_a_mistake_of_the_user_is_not_tried_again_elsewhere(two: House) -> None:
    two.launcher.fault = EngineRefused("A bad value.", code="bad_parameters")
    two.launcher.broken = ("submit",)
    with pytest.raises(EngineRefused):
        two.start()
    assert "submit" not in verbs(two.spare)


def test_a_job_that_the_first_may_have_stays_there(two: House) -> None:
    two.launcher.lose_answers = True
    job = two.start()
    assert job.usecase.launcher == "engine"
    two.launcher.fault = EngineUnreachable("down")
    two.pass_time(120)
    two.launcher.fault, two.launcher.lose_answers = None, False
    two.pass_time(2 * LONGEST)
    assert two.get(job).engine_ref == f"scripted-{job.id}"
    assert len(two.engine) == 1
    assert not two.spare_engine


def test_a_refusal_after_a_doubt_moves_nothing(two: House) -> None:
    two.launcher.fault, two.launcher.broken = EngineUnreachable("no answer"), ("submit",)
    job = two.start()
    two.launcher.fault = EngineRefused("Full.", code="limit_reached")
    two.pass_time(60)
    over = two.get(job)
    assert over.state is State.FAILED
    assert not two.spare_engine


def test_after_a_crash_nothing_is_certain(two: House) -> None:
    two.launcher.hold()
    job, _ = two.result(two.desk.start(ALICE, "demo", {}))
    two.crash()
    two.launcher.fault = EngineUnreachable("down")
    two.pass_time(60)
    assert two.get(job).usecase.launcher == "engine"
    assert not two.spare_engine


def test_when_no_choice_can_be_reached_the_start_is_refused(two: House) -> None:
    for launcher in (two.launcher, two.spare):
        launcher.fault = EngineUnreachable("down")
    job = two.start()
    assert job.usecase.launcher == "spare"
    with pytest.raises(EngineUnreachable, match="engine and spare cannot be reached"):
        two.start()


# -- what an engine takes late ----------------------------------------------------------------

LATE = 31.0  # a little more than for what the gateway waits of an engine


def in_doubt(house: House) -> Job:
    """Return a job of whose submission nobody knows whether it came to anything."""
    house.launcher.fault, house.launcher.broken = EngineUnreachable("no answer"), ("submit",)
    job = house.start()
    house.launcher.fault = None
    return job


def finds(house: House, seconds: float) -> int:
    """Let time go by; return how often the engine was asked for a job by its tag."""
    house.launcher.calls.clear()
    house.pass_time(seconds)
    return verbs(house.launcher).count("find")


def test_a_job_in_doubt_is_looked_for_a_while_after_it_was_taken(house: House) -> None:
    job = in_doubt(house)
    house.pass_time(5)
    assert house.get(job).engine_ref == f"scripted-{job.id}"
    assert finds(house, 20) >= 3
    # The first one has come too, and is the one that the engine keeps.
    house.engine[job.id].ref = "scripted-first"
    house.launcher.run(job.id)
    house.pass_time(6)
    assert house.get(job).engine_ref == "scripted-first"
    assert house.get(job).state is State.RUNNING
    house.pass_time(LATE)
    assert finds(house, LATE) == 0


def test_a_job_that_nobody_doubts_is_not_looked_for(house: House) -> None:
    job = house.start()
    assert "find" not in verbs(house.launcher)
    make_ready(house, job)
    assert finds(house, LATE) == 0


def test_a_gateway_looks_once_more_for_what_was_submitted_just_before_it(house: House) -> None:
    job = house.start()
    house.crash()
    assert finds(house, LATE) >= 3
    assert finds(house, LATE) == 0
    house.crash()
    assert finds(house, LATE) == 0
    assert house.get(job).engine_ref == f"scripted-{job.id}"


def test_the_doubt_waits_for_an_engine_that_is_away(house: House) -> None:
    job = in_doubt(house)
    house.pass_time(5)
    house.launcher.fault, house.launcher.broken = EngineUnreachable("away"), ("find", "poll")
    house.pass_time(4 * LATE)
    assert house.get(job).state is State.STARTING
    house.launcher.fault = None
    house.engine[job.id].ref = "scripted-first"
    house.pass_time(2 * LATE)
    assert house.get(job).engine_ref == "scripted-first"


def test_a_stopped_job_that_comes_late_is_cancelled(house: House) -> None:
    job = in_doubt(house)
    house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(10)
    assert house.get(job).state is State.STOPPING
    house.crash()
    house.pass_time(10)
    house.result(house.launcher.submit(house.driver._launch(house.get(job))))
    house.pass_time(10)
    assert house.get(job).state is State.STOPPED
    assert house.engine[job.id].cancels == 1


def test_a_job_that_was_refused_and_comes_late_is_cancelled(house: House) -> None:
    job = in_doubt(house)
    house.launcher.fault = EngineRefused("Full.", code="limit_reached")
    house.pass_time(5)
    assert house.get(job).state is State.FAILED
    house.launcher.fault = None
    house.result(house.launcher.submit(house.driver._launch(job)))
    house.pass_time(10)
    assert house.engine[job.id].cancels == 1
    assert finds(house, 2 * LATE) <= 5
    assert finds(house, LATE) == 0


def test_a_stopped_job_that_never_comes_is_over_in_the_end(house: House) -> None:
    abandoned: list[str] = []

    async def abandon(tag: str) -> None:
        abandoned.append(tag)
        raise EngineUnreachable("may not be removed")

    house.launcher.abandon = abandon  # type: ignore[attr-defined]
    alsoProvides(house.launcher, IAbandoning)
    job = in_doubt(house)
    house.result(house.desk.stop(ALICE, job.id))
    house.pass_time(20)
    assert house.get(job).state is State.STOPPING
    house.pass_time(20)
    assert house.get(job).state is State.STOPPED
    assert abandoned == [job.tag]
    assert verbs(house.launcher).count("submit") == 1
