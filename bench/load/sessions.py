"""Sessions: Autobahn clients that keep a dialogue going, and open again when they are lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory, WebSocketClientProtocol
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS
from twisted.internet.task import deferLater

from bench.load.masters import Target
from bench.load.mixes import Mix
from bench.load.tally import Tally

__all__ = ["Session"]

#: Seconds for TCP, TLS and the handshake together.
OPENING = 15.0
#: Seconds until a session that failed tries again, and until a Close must be answered.
PAUSE, CLOSING = 1.0, 2.0


class _Client(WebSocketClientProtocol):
    """Tells its session what happens."""

    factory: Any

    def onOpen(self) -> None:
        self.factory.session.opened(self)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.factory.session.received(self, payload, isBinary)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        self.factory.session.closed(self, wasClean, code, reason)


class Session:
    """One user: a WebSocket that is opened again for as long as the load lasts."""

    def __init__(
        self, reactor: Any, target: Target, make: Callable[[], Mix], tally: Tally, begin: float
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._make = make
        self._tally = tally
        self._begin = begin
        self._dialled = 0.0
        self._asked: dict[int, float] = {}
        self._mix: Mix = make()
        self._client: _Client | None = None
        self._over: Deferred[None] = Deferred()
        self._ending = False

    @property
    def _now(self) -> float:
        return float(self._reactor.seconds()) - self._begin

    async def run(self) -> None:
        """Live until `end`."""
        while not self._ending:
            self._over = Deferred()
            try:
                await self._open()
            except CancelledError:
                return
            except Exception as error:
                self._fail(f"cannot connect: {type(error).__name__}")
            else:
                await self._over
            if not self._ending:
                await deferLater(self._reactor, PAUSE)

    def end(self) -> None:
        """Close; `run` returns soon."""
        self._ending = True
        if self._client is not None:
            self._client.sendClose(1000)

    async def _open(self) -> None:
        target = self._target
        factory = WebSocketClientFactory(
            target.url,
            headers={"Authorization": f"Bearer {target.token}"},
            useragent="vsmgate-load",
            reactor=self._reactor,
        )
        factory.protocol = _Client
        factory.session = self
        factory.setProtocolOptions(
            openHandshakeTimeout=OPENING,
            closeHandshakeTimeout=CLOSING,
            autoPingInterval=0,
            tcpNoDelay=True,
        )
        endpoint: Any = HostnameEndpoint(self._reactor, factory.host, factory.port, OPENING)
        if factory.isSecure:
            endpoint = wrapClientTLS(optionsForClientTLS(factory.host), endpoint)
        self._dialled = self._now
        self._opened = False
        await endpoint.connect(factory)

    # -- what the client tells ----------------------------------------------------

    def opened(self, client: _Client) -> None:
        """Begin the dialogue."""
        if self._ending:
            client.sendClose(1000)
            return
        self._client, self._opened = client, True
        self._tally.opened(self._now, self._now - self._dialled)
        self._mix = self._make()
        self._asked = {}
        self._send(client, self._mix.first())

    def received(self, client: _Client, payload: bytes, binary: bool) -> None:
        """Count an answer, and go on."""
        now = self._now
        reading = self._mix.read(payload, binary)
        asked = None if reading.ended is None else self._asked.pop(reading.ended, None)
        if reading.error:
            self._fail(reading.error)
        if asked is None:
            self._tally.received(now, len(payload))
            return
        if not reading.error:
            self._tally.answered(now, now - asked, len(payload))
        if not self._ending:
            self._send(client, self._mix.then())

    def closed(self, client: _Client, clean: bool, code: int | None, reason: str | None) -> None:
        """Say why, unless it was our wish."""
        self._client = None
        if self._opened:
            self._opened = False
            self._tally.closed(self._now)
            if not self._ending:
                self._fail(f"closed {code}" if clean else "lost")
        elif not self._ending:
            self._fail(opening_trouble(reason or ""))
        if not self._over.called:
            self._over.callback(None)

    def _send(self, client: _Client, questions: Any) -> None:
        for number, message in questions:
            if number:
                self._asked[number] = self._now
            binary = isinstance(message, bytes)
            client.sendMessage(message if binary else message.encode(), binary)

    def _fail(self, kind: str) -> None:
        self._tally.failed(self._now, kind)


def opening_trouble(reason: str) -> str:
    """Return the kind of a failed opening from Autobahn's sentence about it."""
    if found := re.search(r"upgrade failed \[(\d{3})", reason):
        return f"refused {found[1]}"
    if "timeout" in reason.lower() or "in time" in reason.lower():
        return "opening timed out"
    return "lost while opening"
