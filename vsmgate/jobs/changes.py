"""What happens to a job, as pure functions from a job to a job.

Each returns its argument itself when nothing changes, so that a store writes nothing.
The states come from `vsmgate.lifecycle` alone.
"""

from __future__ import annotations

from typing import Any

import msgspec

from vsmgate.diagnosis import NOT_ANSWERING, unaddressed
from vsmgate.diagnosis import reason as why_silent
from vsmgate.lifecycle import Event, State, outcome, step
from vsmgate.model import Job, Observation, Phase, Reason, Timings, replace

__all__ = [
    "answered",
    "extended",
    "finished",
    "observed",
    "passed_on",
    "renamed",
    "stopping",
    "submitted",
    "unanswered",
    "waiting",
]

#: Seconds without an answer after which a running job says why, and again when that changes.
PATIENCE = 10.0

_WAITING = {
    Phase.QUEUED: (Event.QUEUED, Reason("queued", "The engine holds the job in its queue.")),
    Phase.STARTING: (Event.STARTING, Reason("starting", "The engine prepares the job.")),
}


def _changed(job: Job, **changes: Any) -> Job:
    new = replace(job, **changes)
    return job if new == job else new


def _timed(timings: Timings, **moments: float) -> Timings:
    """Note moments that are not noted yet."""
    values = {
        "submitted_at": timings.submitted_at,
        "running_at": timings.running_at,
        "last_refusal": timings.last_refusal,
        "ready_at": timings.ready_at,
        "starting_at": timings.starting_at,
    }
    return Timings(**{k: v if v is not None else moments.get(k) for k, v in values.items()})


def submitted(job: Job, ref: str, now: float) -> Job:
    """The engine took the job and calls it ``ref``."""
    if job.ended or job.engine_ref is not None:
        return job
    return _changed(job, engine_ref=ref, timings=_timed(job.timings, submitted_at=now))


def renamed(job: Job, ref: str) -> Job:
    """The engine had taken the job twice, and keeps the one that it calls ``ref``."""
    return job if job.ended else _changed(job, engine_ref=ref, endpoints={}, answered=())


def waiting(job: Job, reason: Reason) -> Job:
    """The engine could not be given the job yet, for this reason."""
    if job.ended or job.state is State.STOPPING:
        return job
    return _changed(job, reason=reason)


def passed_on(job: Job, to: str, why: str) -> Job:
    """The job's launcher has not got it and never will: the launcher ``to`` is tried next."""
    if job.ended or job.state is State.STOPPING or to not in job.usecase.fallbacks:
        return job
    rest = job.usecase.fallbacks[job.usecase.fallbacks.index(to) + 1 :]
    usecase = msgspec.structs.replace(job.usecase, launcher=to, fallbacks=rest)
    return _changed(job, usecase=usecase, reason=None, launcher_reason=why)


def observed(job: Job, seen: Observation, now: float, max_lifetime: float) -> Job:
    """The engine said where the job is (any phase but ``UNKNOWN``)."""
    if job.ended:
        return job
    if seen.phase is Phase.ENDED:
        assert seen.reason is not None, "an ended observation has a reason"
        return finished(job, seen.reason, now)
    if seen.phase is Phase.RUNNING:
        return _runs(job, seen, now, max_lifetime)
    event, usual = _WAITING[seen.phase]
    since = (job.timings.starting_at or now) if seen.phase is Phase.STARTING else None
    reason = job.reason if job.state is State.STOPPING else seen.reason or usual
    return _changed(
        job,
        state=step(job.state, event),
        reason=reason,
        queue=seen.queue,
        endpoints={},
        answered=(),
        timings=msgspec.structs.replace(job.timings, starting_at=since),
    )


def _runs(job: Job, seen: Observation, now: float, max_lifetime: float) -> Job:
    state = step(job.state, Event.RUNNING)
    timings = _timed(job.timings, running_at=now)
    started = timings.running_at or now
    waits: Reason | None = Reason("starting", "The job runs; its services do not all answer yet.")
    if job.reason is not None and job.reason.code == NOT_ANSWERING:  # it outlives polls
        waits = job.reason if seen.endpoints in ({}, job.endpoints) else waits
    elif not (seen.endpoints or job.endpoints) and now - started >= PATIENCE:
        name = next(iter(job.usecase.services))
        waits = why_silent(name, [unaddressed(name)])
    return _changed(
        job,
        state=state,
        reason={State.RUNNING: waits, State.READY: None}.get(state, job.reason),
        queue=None,
        endpoints=seen.endpoints or job.endpoints,
        timings=timings,
        end_time=seen.end_time or job.end_time or started + job.lifetime,
        extendable_until=job.extendable_until or started + max(max_lifetime, job.lifetime),
    )


def answered(
    job: Job, services: tuple[str, ...], now: float, last_refusal: float | None = None
) -> Job:
    """These services answered their probes; when all have, the job is ready."""
    if job.state is not State.RUNNING:
        return job
    all_answered = tuple(sorted({*job.answered, *services}))
    if len(all_answered) < len(job.usecase.services):
        return _changed(job, answered=all_answered)
    timings = _timed(job.timings, ready_at=now, **_known(last_refusal=last_refusal))
    return _changed(
        job,
        state=step(job.state, Event.ANSWERED),
        reason=None,
        answered=all_answered,
        timings=timings,
    )


def unanswered(job: Job, reason: Reason) -> Job:
    """A service of the running job still does not answer, for this reason."""
    return _changed(job, reason=reason) if job.state is State.RUNNING else job


def _known(**moments: float | None) -> dict[str, float]:
    return {name: moment for name, moment in moments.items() if moment is not None}


def stopping(job: Job, reason: Reason, now: float) -> Job:
    """Somebody or some limit asks for the job's end; the first reason stays."""
    if job.ended or job.state is State.STOPPING:
        return job
    if job.held:  # no engine ever heard of it
        return finished(job, reason, now)
    return _changed(
        job, state=step(job.state, Event.STOP), reason=reason, stopping_since=now, queue=None
    )


def finished(job: Job, reason: Reason, now: float, log_tail: str = "") -> Job:
    """The job is over; if it was asked to stop, that reason stays, with the engine's words."""
    if job.ended:
        return job
    if job.state is State.STOPPING and job.reason is not None:
        native = reason.native or job.reason.native
        reason = Reason(job.reason.code, job.reason.message, native)
    return _changed(
        job,
        state=step(job.state, outcome(reason.code)),
        reason=reason,
        ended_at=now,
        held=False,
        queue=None,
        log_tail=log_tail or job.log_tail,
    )


def extended(job: Job, end_time: float) -> Job:
    """The job may live until ``end_time``."""
    if job.ended:
        return job
    started = job.timings.running_at
    lifetime = end_time - started if started is not None else job.lifetime
    return _changed(job, end_time=end_time, lifetime=lifetime)
