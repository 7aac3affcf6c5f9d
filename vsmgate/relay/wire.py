"""The moving of octets: one leg of a relay as its tunnel uses it.

`Wire` is the seam between the tunnel's rules and what moves the octets; another engine
is another `Wire`. `TransportWire` is the one over Twisted's transports, TCP or TLS.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer, ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from vsmgate.relay.leg import Leg, Receiver

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["Reader", "TransportWire", "Wire"]

#: How much unsent data the kernel takes for a client: stale frames wait where they are
#: made, and whoever made them can drop them.
NOTSENT_LOWAT = 128 * 1024


class Reader(Receiver, Protocol):
    """Whoever reads a wire; ``received`` and ``lost`` as for a leg."""

    def finished(self) -> None:
        """The peer sends nothing more, but may still read; not every wire can tell."""

    def room(self) -> None:
        """What waited for the peer was taken, after too much had been waiting."""


class Wire(Protocol):
    """One connection, and how much of it waits."""

    #: Whether more waits for the peer than should.
    full: bool

    def write(self, data: bytes) -> None:
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


@implementer(IPushProducer)
class TransportWire:
    """A wire over a leg's Twisted transport.

    ``dead_peer_timeout``: an idle connection whose peer does not answer for so long
    (seconds) is dropped by the kernel. There is no TCP_USER_TIMEOUT: Linux counts the
    time of a shut receive window into it, so it would end a peer that reads slowly.
    """

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
        self.write: Callable[[bytes], None] = self._transport.write
        _tune(self._socket, dead_peer_timeout, to_client)

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
        return waits + _unsent(self._socket)

    def acknowledged(self) -> bool:
        return _acknowledged(self._socket)

    def release(self) -> None:
        self._source = None
        self._leg.on_finish = None
        self._leg.receiver = self._reader = _NOBODY

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

    def received(self, data: bytes) -> None:
        """Nobody wants it."""

    def finished(self) -> None:
        """Nobody minds."""

    def room(self) -> None:
        """Nobody minds."""

    def lost(self, reason: Failure) -> None:
        """Nobody minds."""


_NOBODY = _Nobody()


def _tune(sock: socket.socket | None, dead_peer_timeout: float, to_client: bool) -> None:
    """Set the socket's options; what the platform does not have is left out."""
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # The first question comes after half the time, then three are asked in the other half.
    wanted = {
        "TCP_KEEPIDLE": max(1, round(dead_peer_timeout / 2)),
        "TCP_KEEPINTVL": max(1, round(dead_peer_timeout / 6)),
        "TCP_KEEPCNT": 3,
    }
    if to_client:
        wanted["TCP_NOTSENT_LOWAT"] = NOTSENT_LOWAT
    for name, value in wanted.items():
        option = getattr(socket, name, None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _unsent(sock: socket.socket | None) -> int:
    """Return how many octets the kernel holds that the peer has not acknowledged."""
    if sock is None or sys.platform == "win32":
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)


def _acknowledged(sock: socket.socket | None) -> bool:
    """Return whether no segment is under way (``tcpi_unacked``; see linux/tcp.h).

    A shut window leaves none under way; a peer that is gone leaves what was sent last.
    """
    if sock is None or not hasattr(socket, "TCP_INFO"):
        return True
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    except OSError:
        return True
    return info[24:28] == bytes(4)
