"""TCP sockets: out of Twisted's transports, their options, and two of the kernel's counters.

What a platform does not have is left out; ``None`` stands for a transport without a
socket (one in memory), of which nothing is known.
"""

from __future__ import annotations

import socket
import sys
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

if sys.platform != "win32":
    import fcntl
    import termios

__all__ = ["NOTSENT_LOWAT", "acknowledged", "take_socket", "tune", "unsent"]

#: How much unsent data the kernel takes for a client: stale frames wait where they are
#: made, and whoever made them can drop them.
NOTSENT_LOWAT = 128 * 1024


def take_socket(transport: Any) -> tuple[socket.socket, bytes]:
    """Take a connection out of its (plain) transport; return it, and what is still to be sent.

    The transport's socket object is emptied, and then it is told that its connection is
    lost, as its protocol is. So the reactor, the connector and the endpoint let go of
    everything in their own way, and the peer notices nothing.
    """
    queued = b"".join((transport.dataBuffer[transport.offset :], *transport._tempDataBuffer))
    transport.stopReading()
    transport.stopWriting()
    old: socket.socket = transport.socket
    family, kind, protocol = old.family, old.type, old.proto
    sock = socket.socket(family, kind, protocol, fileno=old.detach())
    sock.setblocking(False)
    transport.connectionLost(Failure(ConnectionDone()))
    return sock, queued


def tune(sock: socket.socket | None, dead_peer_timeout: float, to_client: bool) -> None:
    """Set the socket's options.

    An idle connection whose peer does not answer for ``dead_peer_timeout`` seconds is
    dropped by the kernel. There is no TCP_USER_TIMEOUT, for two reasons: Linux counts the
    time of a shut receive window into it, so it would end a peer that reads slowly; and
    it takes the place of TCP_KEEPCNT, so a longer one would keep idle dead peers.
    `vsmgate.relay.watch` does its work: it ends a peer that acknowledges nothing.
    """
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


def unsent(sock: socket.socket | None) -> int:
    """Return how many octets the kernel holds that the peer has not acknowledged."""
    if sock is None or sys.platform == "win32":
        return 0
    try:
        answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)


def acknowledged(sock: socket.socket | None) -> bool:
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
