"""Jobs and use cases as clients read them: the bodies of replies, and how they are made.

Pure. Times are ISO 8601 in UTC, durations seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from vsmgate.config import JobsConfig, RelayConfig
from vsmgate.grants import Right
from vsmgate.lifecycle import State
from vsmgate.model import Job, Limits, QueuePlace, Reason, Service, Usecase
from vsmgate.reasons import remedy

__all__ = [
    "JobView",
    "QueueView",
    "ReasonView",
    "ServiceView",
    "TimingsView",
    "UsecaseView",
    "Views",
    "moment",
    "queue_view",
    "reason_view",
    "second",
]

Moment = Annotated[datetime, Meta(tz=True)]

_ANY_ADDRESS = frozenset({"", "0.0.0.0", "::"})


class ServiceView(Struct, frozen=True, omit_defaults=True):
    """A job's service: whether it answers, and where its WebSocket is opened.

    ``page``: where its web page is opened, of a service with pages of its own.
    """

    ready: bool
    url: str | None
    page: str | None = None


class ReasonView(Struct, frozen=True, omit_defaults=True):
    """Why a job is where it is: `Reason`, and what usually helps (docs/reasons.md)."""

    code: str
    message: str
    native: str = ""
    remedy: str = ""


class QueueView(Struct, frozen=True):
    """A waiting job's place in its engine's queue, as far as the engine tells."""

    position: int | None
    reason: str
    estimated_start: Moment | None


class TimingsView(Struct, frozen=True):
    """Where the time of a start went, in seconds; null: not so far, or not known.

    ``submit``: request to the engine's acceptance. ``run``: from there until it ran.
    ``services``: from there until the last probe that failed, so their own start-up took
    at least that. ``gateway``: from there to ready, which bounds what probing added.
    ``total``: request to ready.
    """

    submit: float | None
    run: float | None
    services: float | None
    gateway: float | None
    total: float | None


class JobView(Struct, frozen=True):
    """A job. ``held``: it waits for quota. ``stale_since``: its engine cannot be asked.

    ``launcher_reason``: why it was given to that launcher, where there was a choice.
    ``right``: the reader's. ``engine_ref``, and ``native`` of the reason, are for the owner only.
    """

    id: str
    name: str
    usecase: str
    parameters: dict[str, Any]
    owner: str
    right: Right
    launcher: str
    launcher_reason: str | None
    engine_ref: str | None
    state: State
    reason: ReasonView | None
    held: bool
    queue: QueueView | None
    services: dict[str, ServiceView]
    created_at: Moment
    started_at: Moment | None
    ready_at: Moment | None
    end_time: Moment | None
    ended_at: Moment | None
    last_activity_at: Moment | None
    idle_timeout: float | None
    extendable_until: Moment | None
    stale_since: Moment | None
    timings: TimingsView
    links: dict[str, str]


class UsecaseServiceView(Struct, frozen=True):
    """What a client must know of a use case's service."""

    max_message: int | None
    max_clients: int | None
    idle_timeout: float


class UsecaseView(Struct, frozen=True):
    """What may be started; ``parameters`` is the JSON Schema of its parameters.

    ``launchers``: where it may run, the preferred one first; ``launcher`` is that one.
    """

    name: str
    title: str
    description: str
    default: bool
    launcher: str
    launchers: tuple[str, ...]
    services: dict[str, UsecaseServiceView]
    parameters: dict[str, Any]
    limits: Limits


def moment(seconds: float | None) -> datetime | None:
    """Return Unix ``seconds`` as a time in UTC, to the millisecond."""
    return None if seconds is None else datetime.fromtimestamp(round(seconds, 3), UTC)


def second(seconds: float | None) -> str | None:
    """Return Unix ``seconds`` as the seed's clients read it: ``+00:00``, whole seconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(int(seconds), UTC).isoformat(timespec="seconds")


@dataclass
class Views:
    """Makes the views; ``relay_port`` is the relay's bound port once it is known."""

    relay: RelayConfig
    jobs: JobsConfig
    relay_port: int | None = None

    def address(self, job_id: str, service: str) -> str:
        """Return where a service is reached, without scheme (``host:port/JOB/SERVICE``)."""
        relay = self.relay
        base = relay.public_base.rstrip("/")
        if not base:
            host = "localhost" if relay.host in _ANY_ADDRESS else relay.host
            host = f"[{host}]" if ":" in host else host
            prefix = relay.base_path.strip("/")
            base = f"{host}:{self.relay_port or relay.port}{'/' if prefix else ''}{prefix}"
        return f"{base}/{job_id}/{service}"

    def url(self, job_id: str, service: str) -> str:
        """Return the WebSocket URL of a service."""
        scheme = "wss" if self.relay.tls_public else "ws"
        return f"{scheme}://{self.address(job_id, service)}"

    def page(self, job_id: str, service: str) -> str:
        """Return the URL of a service's own page."""
        scheme = "https" if self.relay.tls_public else "http"
        return f"{scheme}://{self.address(job_id, service)}/"

    def services(self, job: Job) -> dict[str, ServiceView]:
        """Return the job's services by name."""
        return {
            name: ServiceView(
                ready=job.running and name in job.answered,
                url=None if job.ended else self.url(job.id, name),
                page=self.page(job.id, name) if spec.http and not job.ended else None,
            )
            for name, spec in job.usecase.services.items()
        }

    def job(self, job: Job, right: Right | None = Right.OWNER) -> JobView:
        """Return a job as somebody with ``right`` reads it (None: with the least)."""
        path = f"/v1/jobs/{job.id}"
        right = right or Right.VIEW
        return JobView(
            id=job.id,
            name=job.name,
            usecase=job.usecase.name,
            parameters=job.parameters,
            owner=job.owner,
            right=right,
            launcher=job.usecase.launcher,
            launcher_reason=job.launcher_reason or None,
            engine_ref=job.engine_ref if right is Right.OWNER else None,
            state=job.state,
            reason=reason_view(job.reason, right),
            held=job.held,
            queue=queue_view(job.queue),
            services=self.services(job),
            created_at=datetime.fromtimestamp(round(job.created_at, 3), UTC),
            started_at=moment(job.timings.running_at),
            ready_at=moment(job.timings.ready_at),
            end_time=moment(job.end_time),
            ended_at=moment(job.ended_at),
            last_activity_at=moment(job.last_activity_at),
            idle_timeout=self.limits(job.usecase).idle_timeout,
            extendable_until=moment(job.extendable_until),
            stale_since=moment(job.stale_since),
            timings=_timings(job),
            links={
                "self": path,
                "usecase": f"/v1/usecases/{job.usecase.name}",
                "logs": f"{path}/logs",
                "events": f"{path}/events",
                "doctor": f"{path}/doctor",
                "extend": f"{path}/extend",
                "tickets": f"{path}/tickets",
                "presence": f"{path}/presence",
                "grants": f"{path}/grants",
            },
        )

    def usecase(self, usecase: Usecase) -> UsecaseView:
        """Return a use case as whoever may start it reads it."""
        return UsecaseView(
            name=usecase.name,
            title=usecase.title,
            description=usecase.description,
            default=usecase.name == self.jobs.default_usecase,
            launcher=usecase.launcher,
            launchers=usecase.choices,
            services={name: _service(spec) for name, spec in usecase.services.items()},
            parameters=usecase.parameters,
            limits=self.limits(usecase),
        )

    def limits(self, usecase: Usecase) -> Limits:
        """Return a use case's limits with the gateway's where it has none."""
        return Limits(
            **{
                name: own
                if (own := getattr(usecase.limits, name)) is not None
                else getattr(self.jobs, name)
                for name in Limits.__struct_fields__
            }
        )


def _service(spec: Service) -> UsecaseServiceView:
    return UsecaseServiceView(spec.max_message, spec.max_clients, spec.idle_timeout)


def reason_view(reason: Reason | None, right: Right = Right.OWNER) -> ReasonView | None:
    """Return a job's reason, as somebody with ``right`` reads it, with what usually helps.

    The engine's own text may hold its id of the job, or the end of a log: it is for the owner.
    """
    if reason is None:
        return None
    native = reason.native if right is Right.OWNER else ""
    return ReasonView(reason.code, reason.message, native, remedy(reason.code))


def queue_view(place: QueuePlace | None) -> QueueView | None:
    """Return a waiting job's place."""
    if place is None:
        return None
    return QueueView(place.position, place.reason, moment(place.estimated_start))


def _timings(job: Job) -> TimingsView:
    moments = job.timings
    answering = moments.running_at
    if moments.last_refusal is not None and answering is not None:
        answering = max(answering, moments.last_refusal)
    return TimingsView(
        submit=_between(job.created_at, moments.submitted_at),
        run=_between(moments.submitted_at, moments.running_at),
        services=_between(moments.running_at, answering) if moments.ready_at else None,
        gateway=_between(answering, moments.ready_at),
        total=_between(job.created_at, moments.ready_at),
    )


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else round(max(0.0, end - start), 3)
