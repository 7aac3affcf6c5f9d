"""Answers that go on: octets as they come, in chunks (RFC 9112 section 7.1), one at a time.

The next piece is made when the connection has taken the last one, so nothing is queued for
a slow reader. Who takes nothing at all for `STALLED` seconds is cut off.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IPushProducer, IReactorTime
from zope.interface import implementer

from vsmgate.api.reply import Header

__all__ = ["PIECE", "STALLED", "Outlet", "Stream", "chunk"]

#: Seconds in which a reader must take what was sent.
STALLED = 60.0

#: Octets of an answer that are written at a time, about what a transport takes.
PIECE = 2**16


@dataclass(frozen=True)
class Stream:
    """An answer with status 200 whose body ``pieces`` make.

    They are closed whatever happens; a cancel of what they wait for ends them.
    """

    pieces: AsyncGenerator[bytes, None]
    content_type: bytes
    headers: tuple[Header, ...] = ()


def chunk(piece: bytes) -> bytes:
    """Return ``piece``, which is not empty, as a chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@implementer(IPushProducer)
class Outlet:
    """Tells whether the connection takes more, now ``full`` or not; ``abort`` cuts it off."""

    def __init__(self, clock: IReactorTime, abort: Any, full: bool) -> None:
        self._clock = clock
        self._abort = abort
        self._paused = full
        self._room: Deferred[None] | None = None

    async def send(self, write: Callable[[bytes], object], rest: bytes) -> None:
        """Write ``rest`` in pieces and return once the last is taken; a cancel writes all."""
        sent = 0
        try:
            await self.room()
            while sent < len(rest):
                write(rest[sent : sent + PIECE])
                sent += PIECE
                await self.room()
        except CancelledError:
            write(rest[sent:])

    async def room(self) -> None:
        """Return once the connection takes more."""
        if not self._paused:
            return
        room = self._room = Deferred()
        await room.addTimeout(STALLED, self._clock, lambda _, __: self._abort())

    def pauseProducing(self) -> None:
        """The connection is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """The connection is empty again."""
        self._paused = False
        if self._room is not None:
            room, self._room = self._room, None
            if not room.called:
                room.callback(None)

    def stopProducing(self) -> None:
        """The connection ends; its request is told and cancels what waits."""
