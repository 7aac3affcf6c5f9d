"""One connection of a relay, from its accept or dial to its end.

A leg keeps its transport for life and hands what arrives to its present ``receiver``:
first the head reader, then Autobahn's handshake, then the tunnel. So nobody has to
swap protocols inside a transport, and it is the same over TCP and TLS.
"""

from __future__ import annotations

from typing import Protocol as Contract

from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

__all__ = ["Leg", "Receiver"]


class Receiver(Contract):
    """Whoever reads a leg at the moment."""

    def received(self, data: bytes) -> None:
        """Octets arrived."""

    def lost(self, reason: Failure) -> None:
        """The connection is gone; nothing else will be called."""


class Leg(Protocol):
    """A connection whose reader can change."""

    receiver: Receiver

    def dataReceived(self, data: bytes) -> None:
        """Pass octets on."""
        self.receiver.received(data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        """Pass the end on."""
        self.receiver.lost(reason)
