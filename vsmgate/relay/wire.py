"""The moving of octets: one leg of a relay as its tunnel uses it.

`Wire` is the seam between the tunnel's rules and what moves the octets; another engine
is another `Wire`. `TransportWire` is the one over Twisted's transports, TCP or TLS;
`vsmgate.relay.socket_wire` has the fast one, and `vsmgate.relay.engines` chooses.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer, ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from vsmgate.frames import Octets
from vsmgate.hands.tcp import acknowledged, tune, unsent
from vsmgate.relay.leg import Leg, Receiver

__all__ = ["NOBODY", "MakeWire", "Reader", "TransportWire", "Wire"]


class Reader(Receiver, Protocol):
    """Whoever reads a wire; ``lost`` as for a leg."""

    def received(self, data: Octets) -> None:
        """Octets arrived; a view is valid only until this returns."""

    def finished(self) -> None:
        """The peer sends nothing more, but may still read; not every wire can tell."""

    def room(self) -> None:
        """What waited for the peer was taken, after too much had been waiting."""


class Wire(Protocol):
    """One connection, and how much of it waits."""

    #: Whether more waits for the peer than should.
    full: bool

    def write(self, data: Octets) -> None:
        """Send, or keep in order what the peer does not take yet."""

    def start(self, reader: Reader) -> None:
        """Let ``reader`` have what arrives from now on."""

    def throttle(self, source: Wire) -> None:
        """Pause ``source`` while this wire is full."""

    def unthrottle(self) -> None:
        """Undo `throttle`; the source reads on. May be called twice."""

    def pause(self) -> None:
        """Read nothing from the peer, so that its sending blocks."""

    def resume(self) -> None:
        """Read on."""

    def finish(self) -> None:
        """Deliver what waits, then send a FIN; read on until the peer's. Once."""

    def leave(self) -> None:
        """Deliver what waits, then close; read nothing more."""

    def abort(self) -> None:
        """Drop what waits and the connection, at once."""

    def waiting(self) -> int:
        """Return how many octets the peer has not taken yet, the kernel's included."""

    def acknowledged(self) -> bool:
        """Return whether the peer's kernel acknowledged all that could be sent to it.

        If octets wait and this is so, then the peer is there and does not read.
        """

    def release(self) -> None:
        """Let go of everything; the connection is gone."""


#: Makes a leg's wire: the leg, ``dead_peer_timeout`` (seconds), whether it is the client's.
MakeWire = Callable[[Leg, float, bool], Wire]


@implementer(IPushProducer)
class TransportWire:
    """A wire over a leg's Twisted transport; its socket, if it has one, is tuned."""

    def __init__(self, leg: Leg, dead_peer_timeout: float, to_client: bool) -> None:
        self._leg = leg
        # Any: what is used goes beyond ITransport, and is the same over TCP and TLS.
        transport: Any = leg.transport
        self._transport = transport
        self._can_half_close = hasattr(
            self._transport, "loseWriteConnection"
        ) and not ISSLTransport.providedBy(self._transport)
        self._finished = False  # our FIN is sent, or will be
        self._read_all = False  # the peer's FIN has come
        self._source: Wire | None = None
        self.full = False
        tune(self._socket, dead_peer_timeout, to_client)

    def write(self, data: Octets) -> None:
        self._transport.write(bytes(data))

    def start(self, reader: Reader) -> None:
        self._reader = reader
        self._leg.receiver = reader
        self._leg.on_finish = self._finish_read

    def throttle(self, source: Wire) -> None:
        self._source = source
        self._transport.registerProducer(self, True)

    def unthrottle(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            self._transport.unregisterProducer()
            self.full = False
            source.resume()

    def pauseProducing(self) -> None:
        self.full = True
        if self._source is not None:
            self._source.pause()

    def resumeProducing(self) -> None:
        self.full = False
        if self._source is not None:
            self._source.resume()
            self._reader.room()

    def stopProducing(self) -> None:
        """Nothing: the reader is told by ``lost``."""

    def pause(self) -> None:
        self._transport.pauseProducing()

    def resume(self) -> None:
        if not self._read_all:
            self._transport.resumeProducing()

    def finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        if self._can_half_close and not self._read_all:
            self._transport.loseWriteConnection()
        else:
            self._transport.loseConnection()

    def leave(self) -> None:
        self._finished = True
        self._transport.loseConnection()

    def abort(self) -> None:
        self._transport.abortConnection()

    def waiting(self) -> int:
        transport = self._transport
        waits = len(getattr(transport, "dataBuffer", b"")) - getattr(transport, "offset", 0)
        return waits + unsent(self._socket)

    def acknowledged(self) -> bool:
        return acknowledged(self._socket)

    def release(self) -> None:
        self._source = None
        self._leg.on_finish = None
        self._leg.receiver = self._reader = NOBODY

    @property
    def _socket(self) -> socket.socket | None:
        found = getattr(self._transport, "socket", None)
        return found if isinstance(found, socket.socket) else None

    def _finish_read(self) -> None:
        if self._read_all:
            return
        self._read_all = True
        self._reader.finished()
        if self._finished:
            self._transport.loseConnection()


class _Nobody:
    """Reads a leg whose relay is over."""

    def received(self, data: Octets) -> None:
        """Nobody wants it."""

    def finished(self) -> None:
        """Nobody minds."""

    def room(self) -> None:
        """Nobody minds."""

    def lost(self, reason: Failure) -> None:
        """Nobody minds."""


NOBODY = _Nobody()
