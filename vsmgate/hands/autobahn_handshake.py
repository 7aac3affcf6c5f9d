"""The relay's two opening handshakes, done by Autobahn (the only Autobahn code of the relay).

Autobahn's protocols run on a transport that only collects what they write. So a
handshake is octets in, octets out: Autobahn never touches a leg, starts no timer
(its timers would run on the global reactor), and leaves nothing behind. Each side is fed
exactly one head, which was parsed strictly before and is rendered anew without anything
that has nothing to do with the handshake: no credential can reach Autobahn's logs.

Compression is not negotiated here. The client's offer goes to the service verbatim, and
the service's answer to the client; frames are never inflated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from autobahn.websocket.compress import (
    PerMessageDeflateOffer,
    PerMessageDeflateResponse,
    PerMessageDeflateResponseAccept,
)
from autobahn.websocket.types import ConnectingRequest, ConnectionRequest
from msgspec import Struct
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from vsmgate.errors import BadHandshake, BadRequest
from vsmgate.heads import RequestHead, ResponseHead

__all__ = ["Answer", "ClientHandshake", "ServiceHandshake"]


class Answer(Struct, frozen=True):
    """What the service chose: a subprotocol, and extensions (verbatim), or empty texts."""

    protocol: str
    extensions: str


class _Paper:
    """A transport that keeps what is written to it."""

    disconnecting = False

    def __init__(self) -> None:
        self.written = bytearray()

    def write(self, data: bytes) -> None:
        self.written += data

    def loseConnection(self) -> None:
        """Do nothing: a failed handshake raises instead."""

    def abortConnection(self) -> None:
        """Do nothing: a failed handshake raises instead."""

    def getPeer(self) -> IPv4Address:
        return IPv4Address("TCP", "0.0.0.0", 0)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "0.0.0.0", 0)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: nothing is sent."""


class _ServerProtocol(WebSocketServerProtocol):
    """Autobahn's server, stopped between the check of the request and the 101."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = False
        self.failure = ""
        self.verdict: Deferred[tuple[str | None, dict[str, str]]] = Deferred()

    def onConnect(self, request: ConnectionRequest) -> Any:
        self.asked = True
        return self.verdict

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        self.failure = reason


class ClientHandshake:
    """Our side towards a client: first its request is checked, much later it is answered."""

    def __init__(
        self, reactor: IReactorTime, head: RequestHead, protocols: tuple[str, ...]
    ) -> None:
        """Check ``head``, which offers ``protocols`` besides bearers; fails with `BadRequest`."""
        factory = WebSocketServerFactory(reactor=reactor, server="")
        factory.setProtocolOptions(
            versions=[13], webStatus=False, openHandshakeTimeout=0, autoPingInterval=0
        )
        self._protocol = _ServerProtocol()
        self._protocol.factory = factory
        self._paper = _Paper()
        self._protocol.makeConnection(self._paper)
        names = ("Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")
        pairs = [(name, value) for name in names for value in head.all(name)]
        if protocols:
            pairs.append(("Sec-WebSocket-Protocol", ", ".join(protocols)))
        self._protocol.dataReceived(
            RequestHead(method=head.method, target="/", headers=tuple(pairs)).render()
        )
        if not self._protocol.asked:
            raise BadRequest("This is not a valid WebSocket handshake.")

    def accept(self, answer: Answer) -> bytes:
        """Return the 101 for the client; may be called once."""
        headers = {"Sec-WebSocket-Extensions": answer.extensions} if answer.extensions else {}
        self._protocol.verdict.callback((answer.protocol or None, headers))
        return bytes(self._paper.written)


class _RawOffer(PerMessageDeflateOffer):
    """A client's offers as it wrote them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def get_extension_string(self) -> str:
        return self._text


class _ClientProtocol(WebSocketClientProtocol):
    """Autobahn's client, which asks for what it is told to and remembers a failure."""

    def __init__(self, request: ConnectingRequest) -> None:
        super().__init__()
        self._request = request
        self.opened = False
        self.failure = ""

    def onConnecting(self, transport_details: Any) -> ConnectingRequest:
        return self._request

    def onOpen(self) -> None:
        self.opened = True

    def failHandshake(self, reason: str) -> None:
        self.failure = reason


def _accept_deflate(response: PerMessageDeflateResponse) -> PerMessageDeflateResponseAccept:
    return PerMessageDeflateResponseAccept(response)


class ServiceHandshake:
    """Our side towards a service: `request` is what to send, `check` judges its answer."""

    def __init__(
        self,
        reactor: IReactorTime,
        *,
        host: str,
        port: int,
        target: str,
        headers: Mapping[str, str],
        user_agent: str = "",
        protocols: tuple[str, ...] = (),
        protocols_text: str = "",
        extensions: str = "",
    ) -> None:
        """Prepare the request.

        ``protocols_text`` is sent, and one of ``protocols`` is accepted; ``extensions``:
        the client's offers of permessage-deflate, sent verbatim.
        """
        factory = WebSocketClientFactory(reactor=reactor, protocols=list(protocols))
        factory.setProtocolOptions(version=18, openHandshakeTimeout=0, autoPingInterval=0)
        if extensions:
            factory.setProtocolOptions(
                perMessageCompressionOffers=[_RawOffer(extensions)],
                perMessageCompressionAccept=_accept_deflate,
            )
        bracketed = f"[{host}]" if ":" in host else host
        self._protocol = _ClientProtocol(
            ConnectingRequest(
                host=bracketed,
                port=port,
                resource=target,
                headers=dict(headers),
                useragent=user_agent,
                protocols=[protocols_text] if protocols else [],
            )
        )
        self._protocol.factory = factory
        paper = _Paper()
        self._protocol.makeConnection(paper)
        # As everybody else writes it; some programs (viser) compare it letter by letter.
        self.request = bytes(paper.written).replace(
            b"\r\nUpgrade: WebSocket\r\n", b"\r\nUpgrade: websocket\r\n", 1
        )

    def check(self, head: ResponseHead) -> Answer:
        """Return what the service chose; fails with `BadHandshake` for all but a good 101."""
        names = ("Upgrade", "Connection", "Sec-WebSocket-Accept")
        chosen = ("Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions")
        pairs = tuple((name, value) for name in names + chosen for value in head.all(name))
        self._protocol.dataReceived(
            ResponseHead(status=head.status, reason="Answer", headers=pairs).render()
        )
        if not self._protocol.opened:
            raise BadHandshake(_told(head.status, self._protocol.failure))
        return Answer(head.one(chosen[0]) or "", head.one(chosen[1]) or "")


def _told(status: int, failure: str) -> str:
    if status != 101:
        return f"The service answered {status} to the WebSocket handshake."
    # Autobahn's text may quote the service; only its own words before that are shown.
    words = failure.partition(":")[0].partition('"')[0].strip()
    return f"The service's handshake is wrong: {words}."
