"""Finding out whether a service answers."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseFailed, ResponseNeverReceived
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from vsmgate.errors import BadHandshake, ServiceError, ServiceRefused, ServiceTimeout
from vsmgate.model import Endpoint, Health

__all__ = ["probe"]

#: A handshake as RFC 6455 section 1.2 shows it; only the status of the answer counts.
_UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
    "Connection: Upgrade\r\nSec-WebSocket-Key: dnNtZ2F0ZSBwcm9iZSBrZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n\r\n"
)


async def probe(reactor: IReactorTime, endpoint: Endpoint, path: str, health: Health) -> None:
    """Return once the service answered.

    Fails with `ServiceRefused`, `ServiceTimeout` (after ``health.timeout``) or
    `BadHandshake` (it answers something else); each says what was seen. Every probe is
    one connection, closed at once: some renderers keep a place for each.
    """
    where = f"{endpoint.host}:{endpoint.port}"
    asked = Deferred.fromCoroutine(_ask(reactor, endpoint, path, health))

    def late(_: object, seconds: float) -> None:
        raise ServiceTimeout(f"{where} did not answer within {seconds:g} s.")

    try:
        await asked.addTimeout(health.timeout, reactor, late)
    except ServiceError:
        raise
    except (ConnectError, ConnectionClosed, ResponseFailed, ResponseNeverReceived) as error:
        raise ServiceRefused(f"{where} refused the connection ({_words(error)}).") from None


def _words(error: Exception) -> str:
    return str(error).strip().rstrip(".") or type(error).__name__


async def _ask(reactor: IReactorTime, endpoint: Endpoint, path: str, health: Health) -> None:
    if health.http is not None:
        await _get(reactor, endpoint, health.http)
        return
    request = b""
    if health.kind == "websocket":
        request = _UPGRADE.format(path=path, host=endpoint.host, port=endpoint.port).encode()
    answer = Deferred[bytes]()
    greeting = _Greeting(request, answer)
    await connectProtocol(HostnameEndpoint(reactor, endpoint.host, endpoint.port), greeting)
    try:
        status = await answer
    finally:
        greeting.hang_up()
    if request and b" 101 " not in status:
        raise BadHandshake(f"{endpoint.host}:{endpoint.port} did not open a WebSocket.")


async def _get(reactor: IReactorTime, endpoint: Endpoint, path: str) -> None:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    uri = f"http://{host}:{endpoint.port}{path}".encode("ascii")
    # An agent without a pool says Connection: close, which frees the service's slot.
    response: IResponse = await Agent(reactor).request(b"GET", uri, Headers({}))
    response.deliverBody(_Discard())
    if not 200 <= response.code < 300:
        raise BadHandshake(f"{uri.decode()} answered {response.code}.")


class _Short(Protocol):
    """A connection that is cut as soon as enough was seen."""

    def hang_up(self) -> None:
        """Cut the connection, whatever is under way."""
        transport: Any = self.transport
        transport.abortConnection()


class _Discard(_Short):
    """Lets a body go unread."""

    def connectionMade(self) -> None:
        """Enough was seen."""
        self.hang_up()


class _Greeting(_Short):
    """Sends a request, if any, and waits for the first line of the answer.

    Without a request it is enough that the connection was accepted.
    """

    def __init__(self, request: bytes, answer: Deferred[bytes]) -> None:
        self._request = request
        self._answer = answer
        self._head = b""

    def connectionMade(self) -> None:
        """Ask, or be content."""
        assert self.transport is not None
        if self._request:
            self.transport.write(self._request)
        else:
            self._done(b"")

    def dataReceived(self, data: bytes) -> None:
        """Look for the status line, 1 KiB at most."""
        self._head += data[:1024]
        if b"\r\n" in self._head or len(self._head) >= 1024:
            self._done(self._head.split(b"\r\n", 1)[0])

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        """No answer came."""
        if not self._answer.called:
            self._answer.errback(reason)

    def _done(self, status: bytes) -> None:
        if not self._answer.called:
            self._answer.callback(status)
