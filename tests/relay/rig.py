"""A relay in memory: scripted peers on both sides, and a clock that only the test moves."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from vsmgate.config import RelayConfig
from vsmgate.errors import GatewayError, JobNotReady, NoSuchJob, Unauthenticated
from vsmgate.grants import Right
from vsmgate.heads import RequestHead, ResponseHead, request_reader, response_reader
from vsmgate.lifecycle import State
from vsmgate.model import Endpoint, Identity, Job, Secret, Service, Usecase
from vsmgate.relay.desk import Credential, Target
from vsmgate.relay.service import RelayService
from vsmgate.relay.tunnel import Ending
from vsmgate.sessions import Session, Sessions

JOB = "abcdefghijklmnopqrstuvwxyz"
TOKEN = "s3cret-t0ken"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
KEY_ACCEPTED = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def accepted(key: str) -> str:
    """RFC 6455 section 4.2.2, item 5.4."""
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return base64.b64encode(digest).decode()


def job(**services: Service) -> Job:
    usecase = Usecase(
        name="demo", launcher="local", services=services or {"renderer": Service()}, launch={}
    )
    return Job(id=JOB, owner="ada", usecase=usecase, created_at=0.0, state=State.READY)


class FakeDesk:
    """Knows one job of one user."""

    def __init__(self, endpoint: Endpoint | None = None, **services: Service) -> None:
        self.job = job(**services)
        self.endpoint = endpoint or Endpoint("10.0.0.1", 5000)
        self.tokens = {TOKEN: "ada", "b0b": "bob"}
        self.shown: list[Credential | None] = []
        self.error: Exception | None = None
        self.waiting: Any = None
        self.sessions = Sessions(b"k" * 32, 600.0)
        self.calls: list[Callable[[Job], None]] = []
        self.told_active = 0
        self.right = Right.OWNER
        self.visits: list[tuple[Target, bool, Callable[[], None]]] = []
        self.rechecks = 0
        self.recheck_error: Exception | None = None

    def expires_in(self, identity: Identity) -> float | None:
        return None

    async def recheck(self, identity: Identity) -> None:
        if self.recheck_error is not None:
            raise self.recheck_error
        self.rechecks += 1

    async def admit(
        self,
        job_id: str,
        service: str,
        credential: Credential | None,
        known: Callable[[Identity], None] = lambda _: None,
    ) -> Target:
        self.shown.append(credential)
        if self.waiting is not None:
            await self.waiting
        if self.error is not None:
            raise self.error
        subject: str | None = None
        if credential is not None and credential.kind == "session":
            subject = self.sessions.read(credential.secret, job_id, service, 0.0).subject
        elif credential is not None:
            subject = self.tokens.get(credential.secret.reveal())
        if not subject:
            raise Unauthenticated("A token or a ticket is required.")
        known(Identity(subject))
        if job_id != self.job.id or subject != self.job.owner:
            raise NoSuchJob
        spec = self.job.usecase.services[service]
        identity = Identity(subject)
        secret = Secret("of-the-job") if spec.secret else None
        return Target(
            self.job, service, spec, self.endpoint, identity, right=self.right, secret=secret
        )

    def session(self, target: Target) -> Session:
        return self.sessions.make(target.job.id, target.service, target.identity, 0.0)

    def active(self, job_id: str) -> None:
        self.told_active += 1

    def visit(self, target: Target, relay: bool, revoked: Callable[[], None]) -> Callable[[], None]:
        self.visits.append((target, relay, revoked))
        return lambda: self.visits.remove((target, relay, revoked))

    def on_end(self, job_id: str, call: Callable[[Job], None]) -> Callable[[], None]:
        self.calls.append(call)
        return lambda: self.calls.remove(call)


class Watcher:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def opened(self, service: str, seconds: float) -> None:
        self.told.append(("opened", service))

    def closed(self, service: str, ending: Ending) -> None:
        self.told.append(("closed", service, ending.initiator))

    def refused(self, error: GatewayError) -> None:
        self.told.append(("refused", error.code))


@implementer(ITCPTransport)
class Link(StringTransport):
    """A transport in memory, with the peer's side of it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.7", 1234))
        self._clock = clock
        self.half_closed = False
        self.aborted = False
        self.gone = False
        self.protocol: Any = None

    def loseWriteConnection(self) -> None:
        self.half_closed = True

    def abortConnection(self) -> None:
        if not self.aborted:
            self.aborted = True
            self._clock.callLater(0, self.drop)  # never at once, as in Twisted

    def setTcpNoDelay(self, enabled: bool) -> None: ...
    def getTcpNoDelay(self) -> bool:
        return True

    def setTcpKeepAlive(self, enabled: bool) -> None: ...
    def getTcpKeepAlive(self) -> bool:
        return True

    @property
    def paused(self) -> bool:
        return bool(self.producerState == "paused")

    def send(self, data: bytes) -> None:
        """Let octets arrive, unless nobody reads any more."""
        if not self.gone:
            self.protocol.dataReceived(data)

    def drop(self) -> None:
        """Let the connection end."""
        if not self.gone:
            self.gone = True
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def read(self) -> bytes:
        """Take what was written."""
        octets: bytes = self.value()
        self.clear()
        return octets


def answer_in(octets: bytes) -> tuple[ResponseHead, bytes]:
    reader = response_reader()
    head = reader.feed(octets)
    assert head is not None
    return head, reader.rest


class Rig:
    """The relay service, one client at a time, and its service's side."""

    def __init__(self, desk: FakeDesk | None = None, **config: Any) -> None:
        self.clock = MemoryReactorClock()
        self.desk = desk or FakeDesk()
        self.watcher = Watcher()
        self.relay = RelayService(self.clock, RelayConfig(**config), self.desk, self.watcher)
        self.relay.startService()
        self.listener = self.clock.tcpServers[0][1]

    def client(self) -> Link:
        link = Link(self.clock)
        link.protocol = self.listener.buildProtocol(link.getPeer())
        link.protocol.makeConnection(link)
        return link

    def asked(self, octets: bytes) -> Link:
        link = self.client()
        link.send(octets)
        return link

    @property
    def dials(self) -> int:
        return len(self.clock.tcpClients)

    def service(self) -> Link:
        """Accept the last dial."""
        link = Link(self.clock)
        factory = self.clock.tcpClients[-1][2]
        link.protocol = factory.buildProtocol(link.getPeer())
        link.protocol.makeConnection(link)
        return link

    def settle(self) -> None:
        """Let what is due in the next turn happen."""
        self.clock.advance(0)

    def refuse_dial(self) -> None:
        factory = self.clock.tcpClients[-1][2]
        factory.clientConnectionFailed(self.clock.connectors[-1], Failure(ConnectionRefusedError()))

    def opened(self, octets: bytes | None = None, *lines: str) -> tuple[Link, Link]:
        """Open a relay; both links are emptied."""
        client = self.asked(octets or request())
        service = self.service()
        service.send(welcome(service.read(), *lines))
        assert client.read().startswith(b"HTTP/1.1 101 ")
        return client, service


def request(
    target: str = f"/{JOB}/renderer?token={TOKEN}", *lines: str, upgrade: bool = True
) -> bytes:
    handshake = (
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    )
    parts = ["Host: vis.example.org", *(handshake if upgrade else ()), *lines, "", ""]
    return (f"GET {target} HTTP/1.1\r\n" + "\r\n".join(parts)).encode()


def head_in(octets: bytes) -> RequestHead:
    head = request_reader().feed(octets)
    assert head is not None
    return head


def welcome(asked: bytes, *lines: str) -> bytes:
    """The service's 101 for a request."""
    key = head_in(asked).one("Sec-WebSocket-Key")
    assert key
    parts = [
        "HTTP/1.1 101 Switching Protocols",
        "upgrade: WebSocket",
        "connection: upgrade",
        f"Sec-WebSocket-Accept: {accepted(key)}",
        *lines,
        "",
        "",
    ]
    return "\r\n".join(parts).encode()


def problem(client: Link) -> tuple[int, dict[str, Any]]:
    """The refusal that a client got, which must be the end of the connection too."""
    head, body = answer_in(client.read())
    assert client.half_closed or client.disconnecting
    assert head.one("Connection") == "close"
    assert head.one("Server") is None
    return head.status, json.loads(body)


__all__ = [
    "JOB",
    "KEY",
    "KEY_ACCEPTED",
    "TOKEN",
    "FakeDesk",
    "GatewayError",
    "JobNotReady",
    "Link",
    "Rig",
    "Watcher",
    "accepted",
    "answer_in",
    "head_in",
    "problem",
    "request",
    "welcome",
]
