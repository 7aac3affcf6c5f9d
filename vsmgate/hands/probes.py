"""Finding out whether a service answers.

A probe is one connection, closed at once: some renderers keep a place for each, and
for as long as it is kept alive.
"""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from vsmgate.errors import BadHandshake, ServiceError, ServiceRefused, ServiceTimeout
from vsmgate.hands.dialling import Dialler
from vsmgate.model import Endpoint, Secret, Service
from vsmgate.targets import TargetRule

__all__ = ["Question", "probe", "request_for"]

_GET = "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n{secret}\r\n"

#: An opening handshake (RFC 6455 section 1.2); only the status of the answer counts.
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dnNtZ2F0ZSBwcm9iZSBrZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n{secret}\r\n"
)
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})\b")


async def probe(
    dialler: Dialler,
    endpoint: Endpoint,
    rule: TargetRule,
    service: Service,
    secret: Secret | None = None,
) -> None:
    """Return once ``service`` answered; it is shown the job's ``secret``.

    Fails with `TargetDenied`, `ServiceRefused`, `ServiceTlsFailed`, `ServiceTimeout` (after
    ``health.timeout``) or `BadHandshake` (it answers something else); each says what was
    seen.
    """
    health = service.health
    where = f"{endpoint.host}:{endpoint.port}"
    asked = Deferred.fromCoroutine(_ask(dialler, endpoint, rule, service, secret))

    def late(_: object, seconds: float) -> None:
        raise ServiceTimeout(f"{where} did not answer within {seconds:g} s.")

    try:
        await asked.addTimeout(health.timeout, dialler.reactor, late)
    except ServiceError:
        raise
    except (ConnectError, ConnectionClosed, DNSLookupError) as error:
        words = str(error).strip().rstrip(".") or type(error).__name__
        raise ServiceRefused(f"{where} cannot be reached ({words}).") from None


async def _ask(
    dialler: Dialler,
    endpoint: Endpoint,
    rule: TargetRule,
    service: Service,
    secret: Secret | None,
) -> None:
    health = service.health
    path = health.http or service.path
    request = request_for(endpoint, service, secret)
    question = Question(request)
    factory = Factory.forProtocol(lambda: question)
    factory.noisy = False
    await dialler.connect(factory, endpoint, rule, health.timeout, service.tls)
    try:
        line = await question.answer
    finally:
        question.hang_up()
    if not request:
        return
    found = _STATUS_LINE.match(line)
    status = int(found[1]) if found else 0
    good = 200 <= status < 300 if health.http else status == 101
    if not good:
        said = str(status) if status else "something that is not HTTP"
        raise BadHandshake(f"{endpoint.host}:{endpoint.port}{path} answered {said}.")


def request_for(endpoint: Endpoint, service: Service, secret: Secret | None) -> bytes:
    """Return what a probe sends: nothing, where the connection is enough."""
    health = service.health
    template, path = (_GET, health.http) if health.http else (_UPGRADE, service.path)
    if health.http is None and health.kind == "tcp":
        return b""
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    shown = "" if secret is None else f"Authorization: Bearer {secret.reveal()}\r\n"
    request = template.format(path=path, host=host, port=endpoint.port, secret=shown)
    return request.encode("ascii")


class Question(Protocol):
    """Sends a request and waits for the first line; without one, the connection is enough."""

    def __init__(self, request: bytes) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._request = request
        self._head = b""

    def hang_up(self) -> None:
        """Cut the connection, whatever is under way."""
        transport: Any = self.transport
        if transport is not None:
            transport.abortConnection()

    def connectionMade(self) -> None:
        """Ask, or be content."""
        assert self.transport is not None
        if self._request:
            self.transport.write(self._request)
        else:
            self.answer.callback(b"")

    def dataReceived(self, data: bytes) -> None:
        """Look for the status line, in 1 KiB at most."""
        self._head += data[:1024]
        if not self.answer.called and (b"\n" in self._head or len(self._head) >= 1024):
            self.answer.callback(self._head)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        """No answer came."""
        if not self.answer.called:
            self.answer.errback(reason)
