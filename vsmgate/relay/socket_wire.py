"""The direct-socket engine: a leg's socket, taken out of Twisted's transport.

`twisted.internet.tcp` queues what is written and sends it in a later turn. This engine
receives into one buffer for all relays and sends from there at once; only what the
kernel refuses is copied and kept, and the other side's reading pauses until it is gone.
So a relay at rest has no buffers, and a stalled one has one.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from vsmgate.frames import Octets
from vsmgate.hands.epoll_set import HAVE_EPOLL
from vsmgate.hands.tcp import acknowledged, unsent
from vsmgate.relay.wire import NOBODY, Reader, Wire

if TYPE_CHECKING:
    from vsmgate.relay.engines import SocketEngine

__all__ = ["SocketWire"]

if HAVE_EPOLL:
    _IN, _OUT, _GONE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLHUP | select.EPOLLERR


class SocketWire:
    """A wire over a socket of its own."""

    __slots__ = (
        "_broken",
        "_engine",
        "_fd",
        "_finished",
        "_kept",
        "_leaving",
        "_read_all",
        "_reader",
        "_reading",
        "_receive",
        "_send",
        "_sock",
        "_source",
        "_to_client",
        "_watched",
        "full",
    )

    def __init__(
        self, engine: SocketEngine, sock: socket.socket, queued: bytes, to_client: bool
    ) -> None:
        self._engine = engine
        self._sock: socket.socket | None = sock
        self._fd = sock.fileno()
        self._receive = sock.recv_into
        self._send = sock.send
        self._to_client = to_client
        self._reader: Reader = NOBODY
        self._source: Wire | None = None
        self._kept: memoryview | None = None  # what the kernel did not take yet
        self._watched: int | None = None  # the events that are asked for; None: not in the set
        self._reading = False
        self._finished = False  # our FIN is sent, or will be
        self._leaving = False  # the connection is closed when nothing is kept any more
        self._read_all = False  # the peer's FIN has come
        self._broken = False  # a reset was seen
        self.full = False
        if queued:
            self.write(queued)

    def start(self, reader: Reader) -> None:
        self._reader = reader

    def throttle(self, source: Wire) -> None:
        self._source = source

    def unthrottle(self) -> None:
        source, self._source = self._source, None
        self.full = False
        if source is not None:
            source.resume()

    def pause(self) -> None:
        self._reading = False
        self._watch()

    def resume(self) -> None:
        self._reading = not (self._read_all or self._leaving)
        self._watch()

    # -- octets -------------------------------------------------------------------------

    def ready(self, events: int) -> None:
        """Do what the kernel is ready for; at most one chunk is read."""
        if events & _IN and self._reading:
            buffer = self._engine.buffer
            try:
                size = self._receive(buffer)
            except BlockingIOError:
                pass
            except OSError:
                self._close(ConnectionLost())
            else:
                if size:
                    self._reader.received(buffer[:size])
                else:
                    self._finish_read()
        elif events & _GONE and not self._reading:  # else it is news from before a resume
            self._see_gone()
        if events & _OUT and self._kept is not None:
            self._send_kept(self._kept)

    def write(self, data: Octets) -> None:
        if self._kept is not None:
            self._kept = memoryview(bytes(self._kept) + data)
            self._hold()
            return
        try:
            sent = self._send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            if not self._finished:
                self._see_broken()
            return
        if sent != len(data):
            self._kept = memoryview(bytes(data[sent:]))
            self._hold()

    def _hold(self) -> None:
        """Wait for the peer."""
        self.full = True
        self._watch()
        if self._source is not None:
            self._source.pause()

    def _send_kept(self, kept: memoryview) -> None:
        try:
            sent = self._send(kept)
        except BlockingIOError:
            return
        except OSError:
            self._see_broken()
            return
        if sent < len(kept):
            self._kept = kept[sent:]
            return
        self._kept = None
        self._watch()
        if self._leaving:
            self._close(ConnectionDone())
            return
        if self._finished:
            self._send_fin()
        if self.full:
            self.full = False
            if self._source is not None:
                self._source.resume()
                self._reader.room()

    # -- the end --------------------------------------------------------------------------

    def finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        if self._read_all:
            self.leave()
        elif self._kept is None:
            self._send_fin()

    def leave(self) -> None:
        self._finished = self._leaving = True
        self._reading = False
        if self._kept is None:
            self._close(ConnectionDone())
        else:
            self._watch()

    def abort(self) -> None:
        self._close(ConnectionAborted())

    def fail(self) -> None:
        """Drop the connection, whose events can not be handled."""
        self.abort()

    def release(self) -> None:
        self._source = None
        self._reader = NOBODY

    def waiting(self) -> int:
        kept = 0 if self._kept is None else len(self._kept)
        return kept + unsent(self._sock)

    def acknowledged(self) -> bool:
        return acknowledged(self._sock)

    def _finish_read(self) -> None:
        """See the peer's FIN."""
        if self._broken:
            self._close(ConnectionLost())
            return
        self._read_all = True
        self._reading = False
        self._watch()
        self._reader.finished()
        if self._finished:
            self.leave()

    def _send_fin(self) -> None:
        if self._sock is None:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._see_broken()

    def _see_broken(self) -> None:
        """See that sending failed; reading, or the next event, tells the rest."""
        self._broken = True
        self._kept = None
        self._watch()

    def _see_gone(self) -> None:
        """See the end of both directions while nothing is read.

        A client that resets is gone at once. What a service said before its end is
        still in the kernel, and waits there until the client reads on; the epoll set
        would tell of the end again and again.
        """
        assert self._sock is not None
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._see_broken()
        if self._read_all or self._leaving or (self._to_client and self._broken):
            self._close(ConnectionLost())
        else:
            self._unwatch()

    def _close(self, why: Exception) -> None:
        """Close the socket, with a reset if ``why`` says so; tell in the next turn."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._unwatch()
        self._reading = False
        self._kept = None
        if isinstance(why, ConnectionAborted):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        self._engine.reactor.callLater(0, self._tell, why)

    def _tell(self, why: Exception) -> None:
        self._reader.lost(Failure(why))

    def _watch(self) -> None:
        """Ask for the events that matter now."""
        wanted = (_IN if self._reading else 0) | (0 if self._kept is None else _OUT)
        if wanted == self._watched or self._sock is None:
            return
        if self._watched is None:
            self._engine.epoll.add(self._fd, wanted, self)
        else:
            self._engine.epoll.change(self._fd, wanted)
        self._watched = wanted

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._engine.epoll.remove(self._fd)
            self._watched = None
