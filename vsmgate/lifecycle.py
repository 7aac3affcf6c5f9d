"""The life of a job as one table.

Everything that decides a job's state lives here: the states, the events that an
engine, a probe, a user or a clock can cause, and the table that joins them.
The table is total (every state answers every event) and pure.

::

    requested -> queued -> starting -> running -> ready -> stopping
                          any live state -> stopped | failed | expired | lost

*Cannot ask the engine* is not an event: it changes ``stale_since``, never a state.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

__all__ = ["ENDED", "OUTCOMES", "TABLE", "Event", "State", "outcome", "step"]


class State(enum.StrEnum):
    """Where a job is; the values are the API's words."""

    REQUESTED = "requested"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    EXPIRED = "expired"
    LOST = "lost"


class Event(enum.StrEnum):
    """What can happen to a job."""

    QUEUED = "queued"  #: the engine holds it in its queue
    STARTING = "starting"  #: the engine prepares it (image pull, prolog)
    RUNNING = "running"  #: the engine runs it
    ANSWERED = "answered"  #: every service answered its probe
    STOP = "stop"  #: somebody or some limit asks for its end
    STOPPED = "stopped"  #: it ended as asked, or by itself with success
    FAILED = "failed"  #: it ended by a fault
    EXPIRED = "expired"  #: it ended at a limit of time
    LOST = "lost"  #: the engine, asked repeatedly, does not know it


ENDED = frozenset({State.STOPPED, State.FAILED, State.EXPIRED, State.LOST})

_ENDS: Mapping[Event, State] = {
    Event.STOPPED: State.STOPPED,
    Event.FAILED: State.FAILED,
    Event.EXPIRED: State.EXPIRED,
    Event.LOST: State.LOST,
}
_LIVING = {Event.STOP: State.STOPPING, **_ENDS}

#: (state, event) -> state. An ended job stays as it ended.
TABLE: Mapping[State, Mapping[Event, State]] = {
    State.REQUESTED: {
        Event.QUEUED: State.QUEUED,
        Event.STARTING: State.STARTING,
        Event.RUNNING: State.RUNNING,
        Event.ANSWERED: State.REQUESTED,
        **_LIVING,
    },
    State.QUEUED: {
        Event.QUEUED: State.QUEUED,
        Event.STARTING: State.STARTING,
        Event.RUNNING: State.RUNNING,
        Event.ANSWERED: State.QUEUED,
        **_LIVING,
    },
    State.STARTING: {
        Event.QUEUED: State.QUEUED,
        Event.STARTING: State.STARTING,
        Event.RUNNING: State.RUNNING,
        Event.ANSWERED: State.STARTING,
        **_LIVING,
    },
    State.RUNNING: {
        Event.QUEUED: State.QUEUED,  # some engines put a job back in the queue
        Event.STARTING: State.STARTING,
        Event.RUNNING: State.RUNNING,
        Event.ANSWERED: State.READY,
        **_LIVING,
    },
    State.READY: {
        Event.QUEUED: State.QUEUED,
        Event.STARTING: State.STARTING,
        Event.RUNNING: State.READY,
        Event.ANSWERED: State.READY,
        **_LIVING,
    },
    State.STOPPING: {
        Event.QUEUED: State.STOPPING,
        Event.STARTING: State.STOPPING,
        Event.RUNNING: State.STOPPING,
        Event.ANSWERED: State.STOPPING,
        Event.STOP: State.STOPPING,
        **_ENDS,
    },
    **{state: dict.fromkeys(Event, state) for state in ENDED},
}

#: How a job ends for each reason code; a code that is not here means a fault.
OUTCOMES: Mapping[str, Event] = {
    "cancelled_by_user": Event.STOPPED,
    "cancelled_by_administrator": Event.STOPPED,
    "completed": Event.STOPPED,
    "idle": Event.EXPIRED,
    "walltime": Event.EXPIRED,
    "lost": Event.LOST,
}


def step(state: State, event: Event) -> State:
    """Return the state that follows ``event`` in ``state``."""
    return TABLE[state][event]


def outcome(code: str) -> Event:
    """Return the ending event for a reason's ``code``."""
    return OUTCOMES.get(code, Event.FAILED)
