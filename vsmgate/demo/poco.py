"""The renderer's WebSocket server, with the manners of Brayns 3 and its Poco library.

Some of them hurt, and clients and gateways have to live with them, so they are here too:

* A PING or a PONG is taken for a CLOSE: the TCP connection ends, without a close frame. So
  does an empty frame, and a CLOSE is never answered.
* Fragments are not put together: each frame is a request of its own, and a continuation
  is none at all.
* So many clients as there are *slots* are served. As many again wait: their connections
  are accepted and nothing is read from them, not even a health check. More are closed.
* ``GET /healthz`` is answered on the same port, for exactly that URI. Anything else, with
  whatever path, is taken for a WebSocket handshake; a bad one is a 400.
* No subprotocol is ever chosen and no compression negotiated.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket import ConnectionRequest
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.demo.jsonrpc import Frame, Kind
from vsmgate.demo.program import check_secret
from vsmgate.demo.tasks import TaskQueue

__all__ = ["RendererFactory", "RendererProtocol"]

LARGEST_FRAME = 2**31 - 1
LARGEST_HEAD = 65536
# Seconds that a connection may take for its handshake, and may idle after a health check.
HANDSHAKE_TIMEOUT = 60
KEEP_ALIVE = 15


class RendererProtocol(WebSocketServerProtocol):
    """One connection."""

    _log = Logger()
    factory: RendererFactory
    transport: Any  # a TCP connection: ITCPTransport and IPushProducer

    _opened = False
    _dropped = False
    _kind = Kind.OTHER
    _idle: IDelayedCall | None = None

    # The connection and its slot ---------------------------------------------

    def connectionMade(self) -> None:
        super().connectionMade()
        self._parts: list[bytes] = []
        self.factory.enter(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        if self._opened:
            self._log.info("Client disconnected itself: {client}.", client=self.peer)
            self.factory.queue.disconnect(self)
        self.factory.leave(self)

    # HTTP ---------------------------------------------------------------------

    def processHandshake(self) -> None:
        end = self.data.find(b"\r\n\r\n")
        if end < 0:
            if len(self.data) > LARGEST_HEAD:
                self.transport.abortConnection()
            return
        head = self.data[:end].decode("latin-1")
        if head.split(" ", 2)[1:2] != ["/healthz"]:
            super().processHandshake()
            return
        self.data = self.data[end + 4 :]
        lines = [line.lower().replace(" ", "") for line in head.split("\r\n")]
        close = "connection:close" in lines
        self._log.debug("Healthcheck.")
        connection = b"Close" if close else b"Keep-Alive"
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nConnection: " + connection + b"\r\nContent-Length: 2\r\n\r\nOk"
        )
        if close:
            self._drop()
        elif self._idle is None:
            # Poco keeps the connection, and with it the slot.
            self._idle = self.factory.clock.callLater(KEEP_ALIVE, self._drop)

    def failHandshake(
        self, reason: str, code: int = 400, responseHeaders: list[tuple[str, str]] | None = None
    ) -> None:
        # Whatever is wrong, Poco says 400. It knows of no secrets: that answer is the demo's own.
        super().failHandshake(reason, 401 if code == 401 else 400, responseHeaders)

    def onConnect(self, request: ConnectionRequest) -> None:
        check_secret(request, self.factory.secret)

    def onOpen(self) -> None:
        self._opened = True
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._log.info("New client connected: {client}.", client=self.peer)

    # Frames -------------------------------------------------------------------

    def onMessageBegin(self, isBinary: bool) -> None:
        self._kind = Kind.BINARY if isBinary else Kind.TEXT

    def onMessageFrameBegin(self, length: int) -> None:
        if length > LARGEST_FRAME:
            self._drop()
        self._parts = []

    def onMessageFrameData(self, payload: bytes) -> None:
        self._parts.append(payload)

    def onMessageFrameEnd(self) -> None:
        data, self._parts = b"".join(self._parts), []
        kind, self._kind = self._kind, Kind.OTHER
        if not data:
            self._drop()
        if not self._dropped:
            self.factory.queue.receive(self, kind, data)

    def onMessageEnd(self) -> None:
        """The frames have been dealt with one by one."""

    def onPing(self, payload: bytes) -> None:
        self._drop()

    def onPong(self, payload: bytes) -> None:
        self._drop()

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool:
        self._drop()
        return True

    def _drop(self) -> None:
        """End the connection, without a close frame."""
        self._dropped = True
        self.transport.loseConnection()

    def send(self, frame: Frame) -> None:
        """A message to the client; nothing when it has gone."""
        if self.state == self.STATE_OPEN and not self._dropped:
            self.sendMessage(frame.data, isBinary=frame.binary)


class RendererFactory(WebSocketServerFactory):
    """All connections and their slots; ``secret`` is what clients must show."""

    noisy = False

    def __init__(
        self, queue: TaskQueue, max_clients: int, clock: IReactorTime, secret: str | None = None
    ) -> None:
        super().__init__(server="", reactor=clock)
        self.setProtocolOptions(
            webStatus=False,
            openHandshakeTimeout=HANDSHAKE_TIMEOUT,
            maxFramePayloadSize=0,
            maxMessagePayloadSize=0,
            autoPingInterval=0,
            utf8validateIncoming=False,
            failByDrop=True,
        )
        self.protocol = RendererProtocol
        self.queue = queue
        self.clock = clock
        self.secret = secret
        self._max_clients = max_clients
        self._served: set[Any] = set()
        self._waiting: deque[Any] = deque()

    def enter(self, connection: RendererProtocol) -> None:
        """A connection wants a slot."""
        if len(self._served) < self._max_clients:
            self._served.add(connection)
        elif len(self._waiting) < self._max_clients:
            self._waiting.append(connection)
            connection.transport.pauseProducing()
        else:
            connection.transport.abortConnection()

    def leave(self, connection: RendererProtocol) -> None:
        """A connection has ended; the one that waits longest is read from."""
        if connection in self._waiting:
            self._waiting.remove(connection)
        if connection in self._served:
            self._served.discard(connection)
            if self._waiting:
                first = self._waiting.popleft()
                self._served.add(first)
                first.transport.resumeProducing()
