"""REST v0: the contract of the seed (BlueBrain's VSM), frozen.

::

    POST /start {"usecase": "..."}  -> 201 {"job_id": "..."}
    GET  /status/{job_id}           -> 200 {"job_running", "end_time", "brayns_started", ...}
    POST /stop/{job_id}             -> 200

Its clients are old and literal: one takes only 201 for a start, shows the reason phrase
and nothing else, polls without looking at the status, and gives up at the first body
that is not of the shape above. So replies only ever gain members, ``end_time`` is always
there, and an ended job is an error *without* those members.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from vsmgate.api.call import Call
from vsmgate.api.desk import Desk
from vsmgate.api.problem import problem_reply
from vsmgate.api.reply import Reply, json_reply
from vsmgate.api.route import Route
from vsmgate.api.views import (
    QueueView,
    ReasonView,
    ServiceView,
    Views,
    queue_view,
    reason_view,
    second,
)
from vsmgate.errors import (
    AuthenticatorUnavailable,
    BadParameters,
    BadRequest,
    EngineUnreachable,
    Forbidden,
    IdempotencyMismatch,
    JobEnded,
    NoSuchJob,
    NoSuchUsecase,
    Problem,
    QuotaExceeded,
    StoreUnavailable,
    TooLarge,
    TooManyFailures,
    Unauthenticated,
    UnsupportedMediaType,
)
from vsmgate.grants import Right
from vsmgate.lifecycle import State
from vsmgate.model import Job

__all__ = ["V0"]

#: The seed never looked; ``requests`` sends no media type with a string, and a browser's
#: ``fetch`` says text/plain. A form is refused: no script of ours would send one.
_MEDIA_TYPES = ("application/json", "", "text/plain")

_REMEMBERED = 10_000

_AUTH = (Unauthenticated, TooManyFailures, AuthenticatorUnavailable, StoreUnavailable)


class StartRequest(Struct, frozen=True):
    """What to start. ``project`` alone starts the default use case with that parameter."""

    usecase: str | None = None
    project: str | None = None
    parameters: dict[str, Any] | None = None
    name: Annotated[str, Meta(max_length=200)] | None = None


class Started(Struct, frozen=True):
    """The new job."""

    job_id: str
    state: State
    usecase: str
    name: str


class Status(Struct, frozen=True):
    """Where a live job is.

    ``job_running``: its engine runs it. ``brayns_started`` = ``ready``: every service
    answers. ``end_time``: ISO 8601 with offset, or null. ``job_url``: without scheme,
    only when ready. ``stale_since``: since when its engine cannot be asked.
    """

    job_running: bool
    end_time: str | None
    brayns_started: bool
    ready: bool
    state: State
    reason: ReasonView | None
    queue: QueueView | None
    services: dict[str, ServiceView]
    stale_since: str | None
    job_url: str | UnsetType = UNSET


class Stopped(Struct, frozen=True):
    """A job whose end was asked for, or that was over before."""

    job_id: str
    state: State


class V0:
    """The seed's three calls."""

    def __init__(self, desk: Desk, views: Views) -> None:
        self._desk = desk
        self._views = views
        #: Job id and right -> the job, and what was said of it. Clients ask much more often than a
        #: job changes, and one that has changed is another object.
        self._told: dict[tuple[str, Right], tuple[Job, Reply]] = {}

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(
                "POST",
                "/start",
                self.start,
                "Start a job (v0)",
                {201: Started},
                (
                    *_AUTH,
                    BadRequest,
                    NoSuchUsecase,
                    BadParameters,
                    Forbidden,
                    TooLarge,
                    UnsupportedMediaType,
                    IdempotencyMismatch,
                    QuotaExceeded,
                    EngineUnreachable,
                ),
                body=StartRequest,
                action="start",
            ),
            Route(
                "GET",
                "/status/{job_id}",
                self.status,
                "Where a job is (v0)",
                {200: Status},
                (*_AUTH, NoSuchJob, JobEnded),
            ),
            Route(
                "POST",
                "/stop/{job_id}",
                self.stop,
                "End a job (v0)",
                {200: Stopped},
                (*_AUTH, NoSuchJob, Forbidden),
                action="stop",
            ),
        ]

    async def start(self, call: Call) -> Reply:
        """Start a job."""
        asked = call.read(StartRequest, media_types=_MEDIA_TYPES)
        parameters = dict(asked.parameters or {})
        if not asked.usecase:
            if asked.project is None:
                raise NoSuchUsecase(
                    f"Say which usecase to start; known: {self._known(call)}.",
                    problems=[Problem("/usecase", "is missing")],
                )
            parameters["project"] = asked.project
        elif asked.project is not None and self._takes_project(call, asked.usecase):
            parameters.setdefault("project", asked.project)
        call.details["usecase"] = asked.usecase
        job, _ = await self._desk.start(
            call.identity,
            asked.usecase or None,
            parameters,
            name=asked.name or "",
            idempotency_key=call.key(),
        )
        call.details |= {"job": job.id, "usecase": job.usecase.name}
        return json_reply(201, Started(job.id, job.state, job.usecase.name, job.name))

    async def status(self, call: Call) -> Reply:
        """Tell where a job is, from memory."""
        job = await self._desk.get(call.identity, call.job_id())
        right = self._desk.right(call.identity, job) or Right.VIEW
        if job.ended:
            reason = job.reason
            if reason is not None and right is not Right.OWNER:
                reason = replace(reason, native="")
            return problem_reply(
                JobEnded(_ending(job)), call.request_id, state=job.state, reason=reason
            )
        told = self._told.get((job.id, right))
        if told is None or told[0] is not job:
            if len(self._told) >= _REMEMBERED:
                self._told.clear()
            told = (job, json_reply(200, self._status(job, right)))
            self._told[job.id, right] = told
        return told[1]

    async def stop(self, call: Call) -> Reply:
        """Ask for a job's end."""
        job = await self._desk.stop(call.identity, call.job_id())
        return json_reply(200, Stopped(job.id, job.state))

    def _status(self, job: Job, right: Right) -> Status:
        ready = job.ready
        return Status(
            job_running=job.running,
            end_time=second(job.end_time),
            brayns_started=ready,
            ready=ready,
            state=job.state,
            reason=reason_view(job.reason, right),
            queue=queue_view(job.queue),
            services=self._views.services(job),
            stale_since=second(job.stale_since),
            job_url=self._views.address(job.id, _entrance(job)) if ready else UNSET,
        )

    def _known(self, call: Call) -> str:
        return ", ".join(sorted(self._desk.usecases(call.identity))) or "none"

    def _takes_project(self, call: Call, usecase: str) -> bool:
        known = self._desk.usecases(call.identity).get(usecase)
        return known is not None and "project" in known.parameters.get("properties", {})


def _entrance(job: Job) -> str:
    """Return the service that ``job_url`` leads to: the renderer, or else the first."""
    services = job.usecase.services
    return "renderer" if "renderer" in services else next(iter(services))


def _ending(job: Job) -> str:
    return f"The job is over ({job.state})" + (f": {job.reason.message}" if job.reason else ".")
