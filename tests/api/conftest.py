"""A REST face in memory: raw octets in, raw octets out, and a small desk behind it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from vsmgate.api.metrics import Metrics
from vsmgate.api.service import ApiService
from vsmgate.config import MasterConfig, RelayConfig
from vsmgate.diagnosis import Diagnosis, Finding, failure, passed
from vsmgate.errors import (
    IdempotencyMismatch,
    NoSuchJob,
    NoSuchService,
    NoSuchUsecase,
    NotExtendable,
    Unauthenticated,
)
from vsmgate.grants import Grant, Invitation, Right, Visitor
from vsmgate.jobs import sharing
from vsmgate.jobs.administration import EngineState
from vsmgate.lifecycle import State
from vsmgate.model import (
    Identity,
    Job,
    LogStream,
    Page,
    Reason,
    Secret,
    Service,
    Ticket,
    Timings,
    Usecase,
    new_job_id,
    replace,
)
from vsmgate.parameters import complete

ANN, BOB = "ann-token", "bob-token"
ORIGIN = "https://vis.example.org"

DEMO = Usecase(
    "demo",
    "local",
    {"renderer": Service(), "backend": Service(max_clients=2)},
    {"local": {}},
    title="A demo",
    parameters={
        "type": "object",
        "properties": {"project": {"type": "string"}, "frames": {"type": "integer"}},
        "additionalProperties": False,
    },
)


class FakeSharing:
    """`vsmgate.api.sharing.SharingDesk` over a `FakeDesk`."""

    def __init__(self, desk: FakeDesk) -> None:
        self._desk = desk

    async def grants(self, identity: Identity, job_id: str) -> Sequence[Grant]:
        return self._desk._own(identity, job_id).grants

    async def grant(
        self,
        identity: Identity,
        job_id: str,
        right: Right,
        *,
        subject: str | None = None,
        group: str | None = None,
        expires_in: float | None = None,
    ) -> Grant:
        job = self._desk._own(identity, job_id)
        until = None if expires_in is None else 1_000.0 + expires_in
        grant = Grant(f"g{len(job.grants)}", right, 1_000.0, subject, group, until)
        self._desk.put(sharing.granted(job, grant, 1_000.0))
        return grant

    async def revoke(self, identity: Identity, job_id: str, grant_id: str) -> None:
        self._desk.put(sharing.revoked(self._desk._own(identity, job_id), grant_id))

    async def invitations(self, identity: Identity, job_id: str) -> Sequence[Invitation]:
        return self._desk._own(identity, job_id).invitations

    async def invite(
        self, identity: Identity, job_id: str, right: Right, expires_in: float, uses: int
    ) -> tuple[Secret, Invitation]:
        job, secret = self._desk._own(identity, job_id), Secret(f"{job_id}.s3cret")
        until = 1_000.0 + expires_in
        invitation = Invitation("i0", secret.digest(), right, 1_000.0, until, uses)
        self._desk.put(sharing.invited(job, invitation, 1_000.0))
        return secret, invitation

    async def withdraw(self, identity: Identity, job_id: str, invitation_id: str) -> None:
        self._desk.put(sharing.uninvited(self._desk._own(identity, job_id), invitation_id))

    async def redeem(self, identity: Identity, secret: Secret) -> tuple[Job, Right]:
        job = self._desk.jobs[secret.reveal().partition(".")[0]]
        job = sharing.redeemed(job, secret.digest(), identity.subject, "g", 1_000.0)
        return self._desk.put(job), Right.VIEW

    async def presence(self, identity: Identity, job_id: str) -> Sequence[Visitor]:
        self._desk._own(identity, job_id)
        return [Visitor("ann", "renderer", Right.OWNER, 1_000.0)]


class FakeAdministration:
    """`vsmgate.api.desk.Administration` over a fake desk's jobs."""

    def __init__(self, desk: FakeDesk) -> None:
        self._desk = desk

    async def page(
        self,
        owner: str | None,
        states: Collection[str],
        usecase: str | None,
        launcher: str | None,
        limit: int,
        cursor: str | None,
    ) -> Page:
        self._desk.asked.append(("all", owner, set(states), usecase, launcher, limit, cursor))
        return Page(tuple(self._desk.jobs.values())[:limit])

    async def get(self, job_id: str) -> Job:
        if job_id not in self._desk.jobs:
            raise NoSuchJob
        return self._desk.jobs[job_id]

    async def stop(self, identity: Identity, job_id: str) -> Job:
        return self._desk.put(replace(await self.get(job_id), state=State.STOPPING))

    def engines(self) -> Sequence[EngineState]:
        return [EngineState("local", False, 1_000.0, 3, "It is away.", 2.5, {"ready": 1})]

    async def revoke(self, subject: str) -> float:
        self._desk.asked.append(("revoke", subject))
        return 1_000.5

    async def lift(self, subject: str) -> None:
        self._desk.asked.append(("lift", subject))

    def revocations(self) -> Mapping[str, float]:
        return {"eve": 900.0}


class FakeDesk:
    """`vsmgate.api.desk.Desk` over a dict. ``fail`` is raised by the next call."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.keys: dict[str, tuple[object, str]] = {}
        self.fail: Exception | None = None
        self.trouble: list[str] = []
        self.waiting: list[Deferred[None]] = []
        self.cancelled = 0
        self.left: float | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.sharing = FakeSharing(self)
        self.administration = FakeAdministration(self)
        self.users = {
            ANN: Identity("ann", ("staff",), 2e9, "tokens"),
            BOB: Identity("bob"),
        }

    def put(self, job: Job) -> Job:
        """Keep a job as it is."""
        self.jobs[job.id] = job
        return job

    async def authenticate(self, credential: Secret) -> Identity:
        for token, identity in self.users.items():
            if credential.matches(token):
                return identity
        raise Unauthenticated("The token is unknown, or has expired.")

    def _raise(self) -> None:
        if self.fail is not None:
            failure, self.fail = self.fail, None
            raise failure

    def _own(self, identity: Identity, job_id: str) -> Job:
        self._raise()
        job = self.jobs.get(job_id)
        if job is None or job.owner != identity.subject:
            raise NoSuchJob
        return job

    def usecases(self, identity: Identity) -> Mapping[str, Usecase]:
        return {"demo": DEMO}

    def administers(self, identity: Identity) -> bool:
        return identity.subject == "ann"

    async def start(
        self,
        identity: Identity,
        usecase: str | None,
        parameters: dict[str, Any],
        *,
        name: str = "",
        idempotency_key: str | None = None,
    ) -> tuple[Job, bool]:
        self._raise()
        found = self.usecases(identity).get(usecase or "demo")
        if found is None:
            raise NoSuchUsecase("No use case has this name; known: demo.")
        asked = (found.name, complete(found.parameters, parameters), name)
        if idempotency_key is not None and idempotency_key in self.keys:
            before, job_id = self.keys[idempotency_key]
            if before != asked:
                raise IdempotencyMismatch
            return self.jobs[job_id], False
        job = Job(new_job_id(), identity.subject, found, 1_000.0, name=name, parameters=asked[1])
        if idempotency_key is not None:
            self.keys[idempotency_key] = (asked, job.id)
        return self.put(job), True

    async def get(self, identity: Identity, job_id: str) -> Job:
        return self._own(identity, job_id)

    async def wait(self, identity: Identity, job_id: str, seconds: float) -> Job:
        self.asked.append(("wait", seconds))
        changed: Deferred[None] = Deferred(lambda _: self._note_cancel())
        self.waiting.append(changed)
        await changed
        return self._own(identity, job_id)

    def _note_cancel(self) -> None:
        self.cancelled += 1

    async def page(
        self,
        identity: Identity,
        states: Collection[str],
        usecase: str | None,
        limit: int,
        cursor: str | None,
        *,
        shared: bool = False,
    ) -> Page:
        self.asked.append(("shared" if shared else "page", set(states), usecase, limit, cursor))
        if shared:
            visible = [job for job in self.jobs.values() if self.right(identity, job)]
            return Page(tuple(job for job in visible if job.owner != identity.subject))
        own = [job for job in self.jobs.values() if job.owner == identity.subject]
        own = [job for job in own if not states or job.state in states]
        return Page(tuple(own[:limit]), "more" if len(own) > limit else None)

    def right(self, identity: Identity, job: Job) -> Right | None:
        return sharing.right_of(job, identity, 1_000.0)

    async def stop(self, identity: Identity, job_id: str) -> Job:
        job = self._own(identity, job_id)
        return job if job.ended else self.put(replace(job, state=State.STOPPING))

    async def extend(self, identity: Identity, job_id: str, seconds: float) -> Job:
        job = self._own(identity, job_id)
        if job.end_time is None:
            raise NotExtendable("The job does not run yet.")
        return self.put(replace(job, end_time=job.end_time + seconds))

    async def logs(
        self, identity: Identity, job_id: str, service: str, stream: LogStream, tail: int
    ) -> bytes:
        self.asked.append(("logs", service, stream, tail))
        return b"caf\xc3\xa9 \xff end\n"[-tail:]

    async def issue_ticket(
        self, identity: Identity, job_id: str, service: str
    ) -> tuple[Secret, Ticket]:
        job = self._own(identity, job_id)
        if service not in job.usecase.services:
            raise NoSuchService("The job has no such service.")
        secret = Secret("s3cret-ticket")
        return secret, Ticket(secret.digest(), job.id, service, identity, 1_060.0)

    async def diagnose(self, identity: Identity, job_id: str) -> Diagnosis:
        job = self._own(identity, job_id)
        engine = passed("engine", "local runs the job.")
        tcp = failure("tcp", Finding("tcp_refused", "127.0.0.1:5000 refused the connection"), 0.1)
        charts = dict.fromkeys(job.usecase.services, (engine, tcp))
        return Diagnosis(job.id, job.state, False, "It does not answer.", charts)

    def expires_in(self, identity: Identity) -> float | None:
        return self.left

    async def recheck(self, identity: Identity) -> None:
        pass

    def usage(self, identity: Identity) -> tuple[int, int | None]:
        return sum(1 for job in self.jobs.values() if job.owner == identity.subject), 4

    def problems(self) -> Sequence[str]:
        return self.trouble

    def counts(self) -> Mapping[tuple[str, str, str], int]:
        return {("ready", "demo", "local"): 2}


@dataclass
class Answer:
    """A reply taken apart by the standard library's parser."""

    status: int
    phrase: str
    headers: Message
    body: bytes
    octets: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Socket:
    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self.octets)


def parse(octets: bytes, method: str = "GET") -> Answer:
    """Read one reply."""
    response = HTTPResponse(_Socket(octets), method=method)  # type: ignore[arg-type]
    response.begin()
    body = response.read()
    return Answer(response.status, response.reason, response.headers, body, octets)


class Wire:
    """One connection to the face."""

    def __init__(self, face: Face) -> None:
        self.transport = StringTransport()
        self._gone = False
        self.channel = face.service.site.buildProtocol(None)
        self.channel.makeConnection(self.transport)

    def send(self, octets: bytes) -> bytes:
        """Send octets; return all that came back for them."""
        self.transport.clear()
        self.channel.dataReceived(octets)
        return self.transport.value()

    @property
    def closing(self) -> bool:
        return bool(self.transport.disconnecting)

    def hang_up(self) -> None:
        if self._gone:
            return
        self._gone = True
        self.channel.connectionLost(Failure(ConnectionDone()))


@dataclass
class Face:
    """The whole face on a clock that stands still."""

    master: MasterConfig = field(
        default_factory=lambda: MasterConfig(port=0, allowed_origins=(ORIGIN,), max_body=1000)
    )
    relay: RelayConfig = field(default_factory=RelayConfig)
    desk: Any = field(default_factory=FakeDesk)
    clock: Any = field(default_factory=MemoryReactorClock)
    token: str = ANN

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.desk)
        self.service = ApiService(self.clock, self.master, self.relay, self.desk, self.metrics)
        self._wires: list[Wire] = []

    def wire(self) -> Wire:
        """Connect."""
        self._wires.append(Wire(self))
        return self._wires[-1]

    def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *,
        token: str | None = "",
        media_type: str | None = "application/json",
        **headers: str,
    ) -> Answer:
        """Send one request on a connection of its own; keywords are more headers."""
        lines = [f"{method} {target} HTTP/1.1", "Host: gateway"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token or self.token}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        content = b""
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            if media_type is not None:
                lines.append(f"Content-Type: {media_type}")
            lines.append(f"Content-Length: {len(content)}")
        octets = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + content
        wire = self.wire()
        said = wire.send(octets)
        for _ in range(100):  # some answers of a real house take a moment
            if said or isinstance(self.desk, FakeDesk):
                break
            self.clock.advance(0.1)
            said = wire.transport.value()
        return parse(said, method)

    def job(self, **changes: Any) -> Job:
        """Put a job of Ann's that is ready."""
        job = Job(
            new_job_id(),
            "ann",
            DEMO,
            1_000.0,
            state=State.READY,
            answered=("renderer", "backend"),
            engine_ref="4711",
            timings=Timings(1_000.25, 1_001.0, 1_001.5, 1_001.6),
            end_time=29_800.9,
            revision=7,
        )
        return self.desk.put(replace(job, **changes))

    def ended(self) -> Job:
        """Put a job of Ann's that is over."""
        reason = Reason("walltime", "It reached its limit of 8 hours.")
        return self.job(state=State.EXPIRED, reason=reason, ended_at=29_800.9)

    def close(self) -> None:
        for wire in self._wires:
            wire.hang_up()
        if isinstance(self.desk, FakeDesk):
            assert not self.clock.getDelayedCalls()


@pytest.fixture
def make_face() -> Any:
    """Return `Face`, for other configurations; what it made is closed and checked."""
    faces: list[Face] = []

    def make(**settings: Any) -> Face:
        faces.append(Face(**settings))
        return faces[-1]

    yield make
    for face in faces:
        face.close()


@pytest.fixture
def face(make_face: Callable[..., Face]) -> Face:
    """Return a face with the usual configuration."""
    return make_face()


@pytest.fixture
def real(make_face: Callable[..., Face], house: Any) -> Face:
    """Return a face over the house of the test's module, and on its clock."""
    return make_face(desk=house.desk, clock=house.clock, token="alice")
