"""What happens to a job, as pure functions."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.diagnosis import NOT_ANSWERING
from vsmgate.jobs import changes
from vsmgate.lifecycle import ENDED, State
from vsmgate.model import Endpoint, Job, Observation, Phase, Reason, Service, Usecase, replace

USECASE = Usecase("demo", "local", {"renderer": Service(), "backend": Service()}, {"local": {}})
ENDPOINTS = {"renderer": Endpoint("127.0.0.1", 5000), "backend": Endpoint("127.0.0.1", 8000)}
RUNNING = Observation(Phase.RUNNING, ENDPOINTS)
HOUR = 3600.0


def job(**more: object) -> Job:
    return replace(Job("a" * 26, "alice", USECASE, 100.0, lifetime=HOUR), **more)


def running() -> Job:
    return changes.observed(changes.submitted(job(), "1:2", 101.0), RUNNING, 102.0, 2 * HOUR)


def test_the_engine_ref_is_noted_once() -> None:
    first = changes.submitted(job(), "1", 101.0)
    assert first.engine_ref == "1"
    assert first.timings.submitted_at == 101.0
    assert changes.submitted(first, "2", 102.0) is first


def test_running_fixes_the_end() -> None:
    seen = running()
    assert seen.state is State.RUNNING
    assert seen.endpoints == ENDPOINTS
    assert seen.end_time == 102.0 + HOUR
    assert seen.extendable_until == 102.0 + 2 * HOUR
    assert changes.observed(seen, RUNNING, 110.0, 2 * HOUR) is seen


def test_the_engines_own_end_time_wins() -> None:
    seen = changes.observed(job(), Observation(Phase.RUNNING, end_time=500.0), 102.0, HOUR)
    assert seen.end_time == 500.0


def test_ready_needs_every_service() -> None:
    one = changes.answered(running(), ("renderer",), 103.0)
    assert one.state is State.RUNNING
    both = changes.answered(one, ("backend",), 104.0, 103.9)
    assert both.state is State.READY
    assert both.reason is None
    assert both.timings.ready_at == 104.0
    assert both.timings.last_refusal == 103.9


def test_a_requeued_job_has_no_endpoints() -> None:
    again = changes.observed(running(), Observation(Phase.QUEUED), 105.0, HOUR)
    assert again.state is State.QUEUED
    assert not again.endpoints
    assert not again.answered


def test_the_first_reason_to_stop_stays_and_gains_the_engines_words() -> None:
    idle = Reason("idle", "No client.")
    asked = changes.stopping(running(), idle, 110.0)
    assert changes.stopping(asked, Reason("walltime", "Late."), 111.0) is asked
    ended = changes.finished(asked, Reason("killed", "x", "signal 15"), 112.0)
    assert ended.state is State.EXPIRED
    assert ended.reason == Reason("idle", "No client.", "signal 15")


def test_what_stops_or_is_over_waits_for_nothing_and_moves_nowhere() -> None:
    usecase = msgspec.structs.replace(USECASE, fallbacks=("cloud", "spare"))
    waits = changes.waiting(job(usecase=usecase), Reason("engine_unreachable", "It is away."))
    assert waits.reason == Reason("engine_unreachable", "It is away.")
    moved = changes.passed_on(waits, "cloud", "It is away.")
    assert (moved.usecase.launcher, moved.usecase.fallbacks) == ("cloud", ("spare",))
    assert (moved.reason, moved.launcher_reason) == (None, "It is away.")
    assert changes.passed_on(moved, "cloud", "Again.") is moved
    stops = changes.stopping(waits, Reason("idle", "x"), 110.0)
    for one in (stops, changes.finished(stops, Reason("completed", "x"), 111.0)):
        assert changes.waiting(one, Reason("engine_unreachable", "x")) is one
        assert changes.passed_on(one, "cloud", "x") is one
        assert changes.unanswered(one, Reason("starting", "x")) is one


def test_a_running_job_without_an_address_says_so_after_a_while() -> None:
    nowhere = Observation(Phase.RUNNING)
    first = changes.observed(job(), nowhere, 102.0, HOUR)
    for after, code in ((changes.PATIENCE - 1, "starting"), (changes.PATIENCE, NOT_ANSWERING)):
        seen = changes.observed(first, nowhere, 102.0 + after, HOUR)
        assert seen.reason is not None
        assert seen.reason.code == code
    late = changes.observed(first, RUNNING, 102.0 + 9 * changes.PATIENCE, HOUR)
    assert late.reason is not None
    assert late.reason.code == "starting", "it has one now"


def test_a_held_job_ends_at_once() -> None:
    gone = changes.stopping(job(held=True), Reason("cancelled_by_user", "x"), 110.0)
    assert gone.state is State.STOPPED
    assert not gone.held


@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("completed", State.STOPPED),
        ("exited", State.FAILED),
        ("walltime", State.EXPIRED),
        ("lost", State.LOST),
    ],
)
def test_how_it_ends_follows_from_the_reason(code: str, state: State) -> None:
    seen = Observation(Phase.ENDED, reason=Reason(code, "x"))
    assert changes.observed(running(), seen, 120.0, HOUR).state is state


observations = st.sampled_from(
    [
        Observation(Phase.QUEUED),
        Observation(Phase.STARTING),
        RUNNING,
        Observation(Phase.ENDED, reason=Reason("exited", "code 1")),
    ]
)
steps = st.one_of(
    observations.map(lambda seen: lambda j, now: changes.observed(j, seen, now, HOUR)),
    st.just(lambda j, now: changes.stopping(j, Reason("idle", "x"), now)),
    st.just(lambda j, now: changes.answered(j, ("renderer", "backend"), now)),
    st.just(lambda j, now: changes.submitted(j, "ref", now)),
    st.just(lambda j, now: changes.finished(j, Reason("lost", "x"), now)),
)


@given(st.lists(steps, max_size=12))
def test_any_history_keeps_the_invariants(history: list) -> None:  # type: ignore[type-arg]
    now, one = 100.0, job()
    for change in history:
        now += 1
        before, one = one, change(one, now)
        if before.ended:
            assert one is before
        assert one.ended == (one.state in ENDED) == (one.ended_at is not None)
        if one.ready:
            assert one.endpoints
            assert one.timings.ready_at is not None
        if one.ended:
            assert one.reason is not None
        assert msgspec.json.decode(msgspec.json.encode(one), type=Job) == one
