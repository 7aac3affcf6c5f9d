"""One load from start to end: jobs, sessions one after another, the wait, the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.task import LoopingCall, deferLater

from bench.load.masters import Master, Target, Trouble
from bench.load.mixes import make_mix
from bench.load.sessions import Session
from bench.load.tally import Tally

__all__ = ["Plan", "load"]

#: Seconds for all sessions to close at the end.
FAREWELL = 5.0


@dataclass(frozen=True)
class Plan:
    """What was asked for. ``jobs``: ids of running jobs; else ``starts`` of ``usecase``."""

    masters: tuple[tuple[str, str], ...]
    usecase: str
    jobs: tuple[str, ...]
    starts: int
    service: str
    sessions: int
    ramp: int
    duration: int
    mix: str
    size: int | None
    patience: float


async def load(
    reactor: Any, plan: Plan, tally: Tally, progress: Callable[[float], None]
) -> list[str]:
    """Do it; return the ids of jobs that could not be stopped."""
    masters = [Master(reactor, url, token) for url, token in plan.masters]
    try:
        targets = await _targets(masters, plan)
        await _drive(reactor, plan, targets, tally, progress)
    finally:
        left = [job_id for master in masters for job_id in await master.stop()]
    return left


async def _targets(masters: Sequence[Master], plan: Plan) -> list[Target]:
    wanted: list[tuple[Master, str]] = []
    for job_id in plan.jobs:
        for master in masters:
            if await master.knows(job_id):
                wanted.append((master, job_id))
                break
        else:
            raise Trouble(f"no gateway knows job {job_id}")
    if not plan.jobs:
        for _ in range(plan.starts):
            wanted += [(master, await master.start(plan.usecase)) for master in masters]
    return [await master.ready(job_id, plan.service, plan.patience) for master, job_id in wanted]


async def _drive(
    reactor: Any,
    plan: Plan,
    targets: Sequence[Target],
    tally: Tally,
    progress: Callable[[float], None],
) -> None:
    begin = reactor.seconds()
    sessions: list[Session] = []
    running: list[Deferred[None]] = []
    showing = LoopingCall(lambda: progress(reactor.seconds() - begin))
    showing.clock = reactor
    shown = showing.start(0.5)
    try:
        for number in range(plan.sessions):
            due = begin + plan.ramp * number / plan.sessions
            if due > reactor.seconds():
                await deferLater(reactor, due - reactor.seconds())
            session = Session(
                reactor,
                targets[number % len(targets)],
                lambda: make_mix(plan.mix, plan.size),
                tally,
                begin,
            )
            sessions.append(session)
            running.append(Deferred.fromCoroutine(session.run()))
        await deferLater(reactor, max(0.0, begin + plan.ramp + plan.duration - reactor.seconds()))
    finally:
        showing.stop()
        await shown
        for session in sessions:
            session.end()
        # A session that pauses before it tries again is over by being cancelled.
        late = reactor.callLater(FAREWELL, lambda: [each.cancel() for each in running])
        await DeferredList(running, consumeErrors=True)
        if late.active():
            late.cancel()
