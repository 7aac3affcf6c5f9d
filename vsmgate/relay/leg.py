"""One connection of a relay, from its accept or dial to its end.

A leg keeps its transport for life and hands what arrives to its present ``receiver``:
first the head reader, then Autobahn's handshake, then the tunnel. So nobody has to
swap protocols inside a transport, and it is the same over TCP and TLS.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Contract

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["Leg", "Receiver"]


class Receiver(Contract):
    """Whoever reads a leg at the moment."""

    def received(self, data: bytes) -> None:
        """Octets arrived."""

    def lost(self, reason: Failure) -> None:
        """The connection is gone; nothing else will be called."""


@implementer(IHalfCloseableProtocol)
class Leg(Protocol):
    """A connection whose reader can change.

    ``on_finish`` is called when the peer sends nothing more but may still read; while
    nobody set it, the connection is closed then, as if it were not half-closeable.
    """

    receiver: Receiver
    on_finish: Callable[[], None] | None = None

    def dataReceived(self, data: bytes) -> None:
        """Pass octets on."""
        self.receiver.received(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        """Pass the end on."""
        self.receiver.lost(reason)

    def readConnectionLost(self) -> None:
        """Pass the peer's FIN on (plain TCP only)."""
        if self.on_finish is not None:
            self.on_finish()
        elif self.transport is not None:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Nothing: whoever sent our FIN knows."""
