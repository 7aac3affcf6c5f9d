"""What clients send to REST v1, and the replies that are no view of a job or a use case."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from vsmgate.api.views import JobView, Moment, UsecaseView
from vsmgate.lifecycle import State
from vsmgate.model import LogStream

__all__ = [
    "Extension",
    "IssuedTicket",
    "JobList",
    "JobsQuery",
    "LogsQuery",
    "Me",
    "StartJob",
    "TicketRequest",
    "Usage",
    "UsecaseList",
    "WaitQuery",
]


class StartJob(Struct, frozen=True, forbid_unknown_fields=True):
    """What to start. ``name`` is for people; ``parameters`` fit the use case's schema."""

    usecase: Annotated[str, Meta(min_length=1)]
    parameters: dict[str, Any] = {}
    name: Annotated[str, Meta(max_length=200)] = ""


class Extension(Struct, frozen=True, forbid_unknown_fields=True):
    """By how much a job's end is to move."""

    seconds: Annotated[float, Meta(gt=0)]


class TicketRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """For which service."""

    service: str


class JobsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs: in one of these states (any without), of this use case.

    ``shared``: not your own, but those that others share with you.
    """

    state: tuple[State, ...] = ()
    usecase: str | None = None
    shared: bool = False
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: str | None = None


class WaitQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """How many seconds to wait for a change.

    With ``If-None-Match`` the answer comes at once when the job is not at that ETag any
    more, so that no change is missed between two calls.
    """

    wait: Annotated[float, Meta(ge=0, le=60)] = 0.0


class LogsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which output, and how many octets of its end; without a service the first one."""

    service: str | None = None
    stream: LogStream = LogStream.STDOUT
    tail: Annotated[int, Meta(ge=1, le=1048576)] = 65536


class UsecaseList(Struct, frozen=True):
    """All use cases."""

    items: list[UsecaseView]


class JobList(Struct, frozen=True):
    """One page of jobs, newest first; ``next_cursor`` asks for the next one."""

    items: list[JobView]
    next_cursor: str | None


class IssuedTicket(Struct, frozen=True):
    """A one-time credential for one WebSocket; ``url`` has it already."""

    ticket: str
    expires_at: Moment | None
    url: str


class Usage(Struct, frozen=True):
    """Live jobs, and how many there may be; null: no limit."""

    jobs: int
    max_jobs: int | None


class Me(Struct, frozen=True):
    """Whom the token stands for."""

    subject: str
    groups: tuple[str, ...]
    authenticator: str
    expires_at: Moment | None
    usage: Usage
