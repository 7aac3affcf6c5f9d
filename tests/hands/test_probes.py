"""Whether a service answers, over real sockets on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.protocol import Factory, Protocol

from vsmgate.errors import BadHandshake, ServiceError, ServiceRefused, ServiceTimeout
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.probes import probe
from vsmgate.model import Endpoint, Health, Secret, Service
from vsmgate.targets import ANYWHERE
from vsmgate.testing.deferreds import deferred

HTTP = Health(http="/healthz", timeout=0.3)
TCP = Health(timeout=0.3)
WEBSOCKET = Health(kind="websocket", timeout=0.3)


class Listener(Protocol):
    """Answers with fixed octets; ``asked`` is what it was asked."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked = b""

    def dataReceived(self, data: bytes) -> None:
        self.asked += data
        if self.answer is not None and self.asked.endswith(b"\r\n\r\n"):
            transport: Any = self.transport
            transport.write(self.answer)
            if not self.answer:
                transport.loseConnection()


class Host:
    """Listens with `Listener` on a free port."""

    def __init__(self) -> None:
        from twisted.internet import reactor as running

        reactor: Any = running
        self.answer: bytes | None = None
        self.seen: list[Listener] = []
        self.dialler = Dialler(reactor)
        factory = Factory.forProtocol(self._make)  # type: ignore[arg-type]
        self.port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.endpoint = Endpoint("127.0.0.1", self.port.getHost().port)

    def _make(self) -> Listener:
        self.seen.append(Listener(self.answer))
        return self.seen[-1]

    async def outcome(self, answer: bytes | None, health: Health) -> type[ServiceError] | None:
        self.answer = answer
        try:
            await probe(self.dialler, self.endpoint, ANYWHERE, Service(path="/ws", health=health))
        except ServiceError as error:
            return type(error)
        return None


@pytest_twisted.async_yield_fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    yield host
    await host.port.stopListening()


@deferred
async def test_http_wants_a_2xx(host: Host) -> None:
    assert await host.outcome(b"HTTP/1.1 200 OK\r\n\r\n", HTTP) is None
    assert await host.outcome(b"HTTP/1.0 204 No Content\r\n\r\n", HTTP) is None
    assert await host.outcome(b"HTTP/1.1 404 Not Found\r\n\r\n", HTTP) is BadHandshake
    assert await host.outcome(b"SSH-2.0-OpenSSH\r\n", HTTP) is BadHandshake
    # A renderer keeps a slot for a kept-alive connection; and the URI must be exact.
    head = host.seen[0].asked.split(b"\r\n")
    assert head[0] == b"GET /healthz HTTP/1.1"
    assert b"Connection: close" in head


@deferred
async def test_a_websocket_wants_a_101(host: Host) -> None:
    assert await host.outcome(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", WEBSOCKET) is None
    assert await host.outcome(b"HTTP/1.1 200 OK\r\n\r\n", WEBSOCKET) is BadHandshake
    assert host.seen[0].asked.startswith(b"GET /ws HTTP/1.1\r\n")


@deferred
async def test_a_service_is_shown_the_jobs_secret(host: Host) -> None:
    host.answer = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    service = Service(health=WEBSOCKET, secret=True)
    await probe(host.dialler, host.endpoint, ANYWHERE, service, Secret("of-the-job"))
    assert b"\r\nAuthorization: Bearer of-the-job\r\n\r\n" in host.seen[0].asked


@deferred
async def test_tcp_is_content_with_the_connection(host: Host) -> None:
    assert await host.outcome(None, TCP) is None


@deferred
async def test_silence_and_hanging_up_are_told_apart(host: Host) -> None:
    assert await host.outcome(None, HTTP) is ServiceTimeout
    assert await host.outcome(b"", HTTP) is ServiceRefused


@deferred
async def test_nobody_there() -> None:
    gone = Host()
    await gone.port.stopListening()
    for health in (HTTP, TCP, WEBSOCKET):
        with pytest.raises(ServiceRefused, match="refused"):
            await probe(gone.dialler, gone.endpoint, ANYWHERE, Service(health=health))
