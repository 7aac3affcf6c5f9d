"""The words of the gateway as values.

Frozen `msgspec` structs: the same types read the TOML of use cases, parse request
bodies, are stored, and are described in ``/openapi.json``. Times are Unix seconds
(float, UTC); durations are seconds; sizes are octets.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from vsmgate.grants import Grant, Invitation
from vsmgate.lifecycle import ENDED, State

__all__ = [
    "JOB_ID",
    "Endpoint",
    "Health",
    "Identity",
    "Idempotency",
    "Job",
    "Launch",
    "Limits",
    "LogStream",
    "Observation",
    "Page",
    "Phase",
    "Prefix",
    "Quota",
    "QueuePlace",
    "Reason",
    "Secret",
    "Service",
    "ServiceTls",
    "Ticket",
    "Timings",
    "Usecase",
    "View",
    "new_job_id",
    "tag_of",
]

#: A job id: 26 characters of lower-case base32, 130 random bits.
JOB_ID = re.compile(r"[a-z2-7]{26}", re.ASCII)

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$")]
UsecaseName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$")]
Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(gt=0)]
Octets = Annotated[int, Meta(ge=1)]


def new_job_id() -> str:
    """Return a new unguessable job id (130 random bits; a URL part and a DNS label)."""
    return base64.b32encode(os.urandom(17)).decode("ascii").lower()[:26]


def tag_of(job_id: str) -> str:
    """Return the tag that an engine's job carries for ``job_id``."""
    return f"vsmgate-{job_id}"


class Secret:
    """A string that must never be shown; compare with `matches`, read with `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def digest(self) -> str:
        """Return the SHA-256 of the value as lower-case hexadecimal."""
        return hashlib.sha256(self._value.encode("utf-8", "surrogateescape")).hexdigest()

    def matches(self, other: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(self._value.encode(), other.encode())

    def __repr__(self) -> str:
        return "Secret(...)"


class Reason(Struct, frozen=True, omit_defaults=True):
    """Why a job is where it is: a stable code, a sentence, the engine's own text."""

    code: str
    message: str
    native: str = ""


class Health(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How to find out that a service answers.

    ``http``: a GET of that path answers 2xx. Without it: the port accepts a connection
    (``kind = "tcp"``) or opens a WebSocket (``kind = "websocket"``).
    """

    http: str | None = None
    kind: str = "tcp"
    timeout: Seconds = 2.0

    def __post_init__(self) -> None:
        if self.kind not in ("tcp", "websocket"):
            raise ValueError(f"unknown kind {self.kind!r}; known: tcp, websocket")
        if self.http is not None and not self.http.startswith("/"):
            raise ValueError(f"http = {self.http!r} must be a path that starts with /")


class Pings(StrEnum):
    """What becomes of the client's Ping frames."""

    PASS = "pass"
    ANSWER = "answer"


class Fragments(StrEnum):
    """What becomes of the client's fragmented messages."""

    PASS = "pass"
    COALESCE = "coalesce"


class Prefix(StrEnum):
    """What of ``/JOB/SERVICE/...`` a service with pages of its own gets to see."""

    STRIP = "strip"
    KEEP = "keep"


class View(StrEnum):
    """What the client of a ``view`` relay may send, beside pings and its Close.

    ``none``: there are no such relays. ``receive``: nothing. ``jsonrpc``: JSON-RPC requests
    as text, of declared methods. ``brayns``: these as text, or as Brayns' binary messages.
    """

    NONE = "none"
    RECEIVE = "receive"
    JSONRPC = "jsonrpc"
    BRAYNS = "brayns"


class ServiceTls(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a service that takes TLS only is verified; that cannot be switched off.

    ``ca``: a file with its authority's certificates (PEM); None trusts the system's.
    ``server_name``: what its certificate must be for; None is the host that is dialled.
    """

    ca: str | None = None
    server_name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,253}$")] | None = None


class Service(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A named port of a job that clients reach, and how the relay treats it.

    ``port``: None lets the launcher choose a free one. ``max_message``: the largest
    frame accepted from either side (None: no limit); where fragments are coalesced,
    the largest message, and then None means 64 MiB. ``idle_timeout``: a relay without
    octets either way for so long is closed. ``max_clients``: relays at a time. ``http``:
    plain requests are passed on too, and addresses below the service's; ``prefix``: with
    ``/JOB/SERVICE`` before them, or without. ``secret``: the gateway shows it the job's
    secret (see `Launch`) at every connection, as ``Authorization: Bearer``. ``view``: how
    relays that only look are kept to that; ``view_methods``: what they may call.
    """

    port: Port | None = None
    path: str = "/"
    health: Health = Health()
    pings: Pings = Pings.PASS
    fragments: Fragments = Fragments.PASS
    max_message: Octets | None = None
    idle_timeout: Seconds = 3600.0
    max_clients: Annotated[int, Meta(ge=1)] | None = None
    http: bool = False
    prefix: Prefix = Prefix.STRIP
    tls: ServiceTls | None = None
    secret: bool = False
    view: View = View.NONE
    view_methods: tuple[str, ...] = ()


class Limits(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A use case's limits of time; None takes the gateway's.

    ``start_timeout`` bounds the time in ``starting``, and again the time from running until
    every service answers.
    """

    queue_timeout: Seconds | None = None
    start_timeout: Seconds | None = None
    idle_timeout: Seconds | None = None
    lifetime: Seconds | None = None
    max_lifetime: Seconds | None = None


class Usecase(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What may be started.

    ``services``: name -> `Service`. ``parameters``: a JSON Schema (2020-12) of an
    object. ``launch``: engine kind -> what that engine needs to run it (the plan, read
    by the launcher's own type). ``launcher``: the name of a configured launcher, and
    ``fallbacks`` those that are tried after it, in order of preference.
    """

    name: UsecaseName
    launcher: str
    services: dict[Name, Service]
    launch: dict[str, dict[str, Any]]
    title: str = ""
    description: str = ""
    parameters: dict[str, Any] = {}
    limits: Limits = Limits()
    tokenless: bool = False
    fallbacks: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[str, ...]:
        """All launchers that may run it, the preferred one first."""
        return (self.launcher, *self.fallbacks)


class Endpoint(Struct, frozen=True):
    """Where a service of a running job is dialled."""

    host: str
    port: int


class QueuePlace(Struct, frozen=True, omit_defaults=True):
    """A waiting job's place in its engine's queue, as far as the engine knows."""

    position: int | None = None
    reason: str = ""
    estimated_start: float | None = None


class Timings(Struct, frozen=True, omit_defaults=True):
    """Moments of a job's start (Unix seconds), from which both shares follow.

    ``starting_at``: since when the engine prepares it, without a break.
    ``last_refusal``: the last probe that failed; the services' own start-up ended
    after it, so ``ready_at - last_refusal`` bounds what the gateway added by probing.
    """

    submitted_at: float | None = None
    running_at: float | None = None
    last_refusal: float | None = None
    ready_at: float | None = None
    starting_at: float | None = None


class Job(Struct, frozen=True, omit_defaults=True):
    """One start of a use case by one owner.

    ``usecase`` is the use case as it was when the job started: a later change of its
    file does not reach a running job. Its ``launcher`` is the one that has the job, and its
    ``fallbacks`` those that could still be tried; ``launcher_reason`` says why. ``end_time``
    is when it will end at the latest. ``revision`` grows with every stored change, over all
    jobs. ``held``: it waits for quota and has not been given to its engine. ``grants``: who
    else may reach it, and ``invitations``: who may yet.
    """

    id: str
    owner: str
    usecase: Usecase
    created_at: float
    state: State = State.REQUESTED
    name: str = ""
    parameters: dict[str, Any] = {}
    reason: Reason | None = None
    held: bool = False
    engine_ref: str | None = None
    endpoints: dict[str, Endpoint] = {}
    answered: tuple[str, ...] = ()
    queue: QueuePlace | None = None
    timings: Timings = Timings()
    lifetime: float = 0.0
    end_time: float | None = None
    extendable_until: float | None = None
    stopping_since: float | None = None
    ended_at: float | None = None
    last_activity_at: float | None = None
    stale_since: float | None = None
    log_tail: str = ""
    grants: tuple[Grant, ...] = ()
    invitations: tuple[Invitation, ...] = ()
    revision: int = 0
    launcher_reason: str = ""

    @property
    def tag(self) -> str:
        """The mark that the engine's job carries."""
        return tag_of(self.id)

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self.state in ENDED

    @property
    def ready(self) -> bool:
        """Whether every service answered its probe."""
        return self.state is State.READY

    @property
    def running(self) -> bool:
        """Whether the engine runs it."""
        return self.state in (State.RUNNING, State.READY)


class Page(Struct, frozen=True):
    """One page of a list of jobs, newest first."""

    items: tuple[Job, ...]
    next_cursor: str | None = None


class Quota(Struct, frozen=True):
    """How many live jobs there may be; None is no limit.

    ``queue``: over the quota a job is kept (``held``) until there is room, instead of
    being refused; at most ``held_per_user`` of one owner.
    """

    per_user: int | None = None
    total: int | None = None
    queue: bool = False
    held_per_user: int | None = None


class Idempotency(Struct, frozen=True):
    """A client's key for one create, and the digest of what it asked for."""

    key: str
    digest: str


class Identity(Struct, frozen=True):
    """Who a credential stands for; ``expires_at`` is when it stops doing so."""

    subject: str
    groups: tuple[str, ...] = ()
    expires_at: float | None = None
    authenticator: str = ""


class Ticket(Struct, frozen=True):
    """A one-time right to open one WebSocket; ``digest`` is the SHA-256 of its value."""

    digest: str
    job_id: str
    service: str
    identity: Identity
    expires_at: float


class Launch(Struct, frozen=True):
    """What a launcher is asked to run.

    ``plan``: the use case's table for this kind of engine, read into the factory's
    ``plan`` type. ``parameters`` are checked and complete (defaults filled in).
    ``lifetime``: seconds after which the engine may end it by itself. ``secret``: what the
    gateway shows to those services that ask for it; they find it in their environment as
    ``VSMGATE_SECRET``, and it must not get where others can read it (an argument, a script,
    a comment); None where no service asks.
    """

    job_id: str
    owner: str
    usecase: Usecase
    plan: Any
    parameters: dict[str, Any]
    lifetime: float
    secret: Secret | None = None

    @property
    def tag(self) -> str:
        """The mark that the engine's job must carry."""
        return tag_of(self.job_id)


class Phase(StrEnum):
    """Where an engine's job is, in the engine's own eyes."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"
    UNKNOWN = "unknown"  #: the engine answered, and does not know the job


class Observation(Struct, frozen=True):
    """What one poll says of one engine job.

    ``endpoints``: service name -> where it is dialled, as far as known; while running
    a service that is missing here is not routable yet. ``reason`` is required with
    `Phase.ENDED`: its code decides how the job ended (`vsmgate.lifecycle.OUTCOMES`).
    ``end_time``: when the engine will end it, if the engine knows.
    """

    phase: Phase
    endpoints: dict[str, Endpoint] = {}
    reason: Reason | None = None
    queue: QueuePlace | None = None
    end_time: float | None = None


class LogStream(StrEnum):
    """Which of a service's outputs."""

    STDOUT = "stdout"
    STDERR = "stderr"


def replace(job: Job, **changes: Any) -> Job:
    """Return ``job`` with ``changes``."""
    return msgspec.structs.replace(job, **changes)
