"""One thing done again and again, never twice at a time."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent

from vsmgate.errors import StoreUnavailable
from vsmgate.jobs.ticker import Ticker


class Work:
    """A body whose runs a test ends."""

    def __init__(self) -> None:
        self.runs: list[Deferred[float]] = []

    async def body(self) -> float:
        run: Deferred[float] = Deferred()
        self.runs.append(run)
        return await run


def started() -> tuple[Work, Ticker, Clock]:
    work, clock = Work(), Clock()
    ticker = Ticker("work", work.body, clock, after_failure=7)
    ticker.startService()
    clock.advance(0)
    return work, ticker, clock


def test_it_waits_as_long_as_the_body_says() -> None:
    work, ticker, clock = started()
    work.runs[0].callback(3)
    clock.advance(2.9)
    assert len(work.runs) == 1
    clock.advance(0.2)
    assert len(work.runs) == 2
    ticker.stopService()


def test_a_nudge_comes_at_once_and_never_runs_twice_at_a_time() -> None:
    work, ticker, clock = started()
    ticker.nudge()
    ticker.nudge()
    clock.advance(100)
    assert len(work.runs) == 1
    work.runs[0].callback(50)
    clock.advance(0)
    assert len(work.runs) == 2
    work.runs[1].callback(50)
    ticker.nudge()
    clock.advance(0)
    assert len(work.runs) == 3
    ticker.stopService()


def test_within_brings_the_next_run_forward_and_never_back() -> None:
    work, ticker, clock = started()
    work.runs[0].callback(50)
    ticker.within(2)
    ticker.within(20)
    clock.advance(2)
    assert len(work.runs) == 2
    ticker.stopService()


def test_a_failure_does_not_end_it(flush_logged) -> None:  # type: ignore[no-untyped-def]
    work, ticker, clock = started()
    work.runs[0].errback(ValueError("no"))
    assert len(flush_logged(ValueError)) == 1
    clock.advance(7)
    assert len(work.runs) == 2
    ticker.stopService()


def test_a_fault_of_the_world_is_a_line_and_no_traceback(flush_logged) -> None:  # type: ignore[no-untyped-def]
    work, ticker, clock = started()
    work.runs[0].errback(StoreUnavailable("The disk is full."))
    assert not flush_logged()
    clock.advance(7)
    assert len(work.runs) == 2
    ticker.stopService()


def test_stopping_cancels_the_run_and_waits_for_its_end() -> None:
    work, ticker, clock = started()
    ended: list[object] = []
    stopped = ticker.stopService()
    assert stopped is not None
    stopped.addCallback(ended.append)
    assert ended == [None]
    clock.advance(1000)
    assert len(work.runs) == 1
    assert clock.getDelayedCalls() == []


def test_what_fails_for_long_does_not_fill_the_log(logged: list[LogEvent]) -> None:
    clock, world = Clock(), {"away": True}

    async def body() -> float:
        if world["away"]:
            raise StoreUnavailable("away")
        return 5.0

    ticker = Ticker("work", body, clock, after_failure=5.0)
    ticker.startService()
    clock.pump([5.0] * 200)  # a thousand seconds
    assert [formatEvent(event) for event in logged] == ["work failed, it goes on: away"] * 2
    world["away"] = False
    clock.pump([5.0] * 2)
    assert len(logged) == 3
    assert formatEvent(logged[-1]).startswith("work works again, after 1")
    ticker.stopService()
