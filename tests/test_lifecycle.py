"""The job life cycle's table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vsmgate.lifecycle import ENDED, OUTCOMES, TABLE, Event, State, outcome, step

ORDER = [State.REQUESTED, State.QUEUED, State.STARTING, State.RUNNING, State.READY]


def test_every_state_answers_every_event() -> None:
    assert set(TABLE) == set(State)
    for state in State:
        assert set(TABLE[state]) == set(Event), state


def test_the_usual_way() -> None:
    state = State.REQUESTED
    for event, expected in [
        (Event.QUEUED, State.QUEUED),
        (Event.STARTING, State.STARTING),
        (Event.RUNNING, State.RUNNING),
        (Event.ANSWERED, State.READY),
        (Event.STOP, State.STOPPING),
        (Event.STOPPED, State.STOPPED),
    ]:
        state = step(state, event)
        assert state is expected


def test_answers_make_a_running_job_ready_and_move_no_other() -> None:
    moved = {state: step(state, Event.ANSWERED) for state in State}
    assert moved == {state: state for state in State} | {State.RUNNING: State.READY}


def test_until_a_stop_a_job_is_where_its_engine_says() -> None:
    for state in ORDER:
        assert step(state, Event.QUEUED) is State.QUEUED
        assert step(state, Event.STARTING) is State.STARTING
        ready = state is State.READY
        assert step(state, Event.RUNNING) is (State.READY if ready else State.RUNNING)


@given(st.sampled_from(sorted(ENDED)), st.lists(st.sampled_from(list(Event))))
def test_an_ended_job_stays_as_it_ended(state: State, events: list[Event]) -> None:
    for event in events:
        assert step(state, event) is state


@given(st.lists(st.sampled_from(list(Event))))
def test_a_stop_is_never_forgotten(events: list[Event]) -> None:
    state = step(State.READY, Event.STOP)
    for event in events:
        state = step(state, event)
        assert state is State.STOPPING or state in ENDED


@given(st.sampled_from(ORDER))
def test_every_live_state_can_stop_and_can_end_in_every_way(state: State) -> None:
    assert step(state, Event.STOP) is State.STOPPING
    assert step(state, Event.FAILED) is State.FAILED
    assert step(state, Event.LOST) is State.LOST
    assert step(state, Event.EXPIRED) is State.EXPIRED
    assert step(state, Event.STOPPED) is State.STOPPED


def test_an_unknown_reason_is_a_fault() -> None:
    assert outcome("something new") is Event.FAILED
    assert all(step(State.RUNNING, event) in ENDED for event in OUTCOMES.values())
