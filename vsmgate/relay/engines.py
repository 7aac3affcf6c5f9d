"""Which engine moves a leg's octets: decided here, and nowhere else."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorFDSet, ISSLTransport
from twisted.internet.tcp import Connection

from vsmgate.config import EngineName
from vsmgate.errors import ConfigError, Problem
from vsmgate.hands.epoll_set import HAVE_EPOLL, EpollSet
from vsmgate.hands.tcp import take_socket, tune
from vsmgate.relay.leg import Leg
from vsmgate.relay.socket_wire import SocketWire
from vsmgate.relay.wire import NOBODY, MakeWire, TransportWire, Wire

__all__ = ["CHUNK", "SocketEngine", "wire_maker"]

#: The most that is received at once, and so the most that is kept of one chunk.
CHUNK = 256 * 1024


class SocketEngine:
    """The direct-socket engine of one reactor: what its wires share, and how they begin."""

    def __init__(self, reactor: Any, epoll: EpollSet) -> None:
        self.reactor = reactor
        self.epoll = epoll
        self.buffer = memoryview(bytearray(CHUNK))

    def wire(self, leg: Leg, dead_peer_timeout: float, to_client: bool) -> Wire:
        """Return a wire for a leg: over its own socket if it has one to give away.

        TLS legs, and transports that wrap others, have none and stay as they are.
        """
        transport: Any = leg.transport
        plain = isinstance(transport, Connection) and not ISSLTransport.providedBy(transport)
        if not plain or transport.disconnecting or transport.disconnected:
            return TransportWire(leg, dead_peer_timeout, to_client)
        leg.receiver = NOBODY
        sock, queued = take_socket(transport)
        tune(sock, dead_peer_timeout, to_client)
        return SocketWire(self, sock, queued, to_client)


def wire_maker(name: EngineName, reactor: Any, epoll: EpollSet | None = None) -> MakeWire:
    """Return what makes the wires of the engine that the configuration names.

    ``epoll``: where that engine's sockets shall be. Fails with `ConfigError` where ``sockets``
    was asked for and does not work.
    """
    if name == "transports":
        return TransportWire
    if HAVE_EPOLL and IReactorFDSet.providedBy(reactor):
        return SocketEngine(reactor, epoll or EpollSet(reactor)).wire
    if name == "sockets":
        detail = "this platform, or its reactor, has no epoll; use 'auto' or 'transports'"
        raise ConfigError("the relay", [Problem("relay.engine", detail)])
    return TransportWire
