"""Many descriptors behind one: an epoll object of our own inside the reactor's.

The reactor sees one reader. Its one event, with all that an event costs there, then
serves every member that is ready (epoll(7) allows epoll objects in epoll objects).

Nobody holds the reactor for more than a share of a turn: a call of `EpollSet.doRead`
serves so many events and no more, a member once per event, and the kernel puts a member
that was served behind the others that are ready.
"""

from __future__ import annotations

import select
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

__all__ = ["HAVE_EPOLL", "EpollSet", "Member"]

HAVE_EPOLL = hasattr(select, "epoll")

#: Events that are served in a turn. What others do in between is spread the finer, the fewer
#: there are; a turn of the reactor costs as much as three.
EVENTS = 128

#: Looks in a turn: a single stream that is always ready moves so many buffers and no more.
LOOKS = 16


class Member(Protocol):
    """Whoever has a descriptor in the set."""

    def ready(self, events: int) -> None:
        """Do a share of work; ``events`` as in epoll_wait(2), EPOLLERR and EPOLLHUP unasked."""

    def fail(self) -> None:
        """Be gone: `ready` raised, which was logged."""


@implementer(IReadDescriptor)
class EpollSet:
    """Watches descriptors, level-triggered. It has one itself only while it has members.

    ``reactor`` provides time and `twisted.internet.interfaces.IReactorFDSet`.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._members: dict[int, Member] = {}
        self._epoll: select.epoll | None = None

    def add(self, fd: int, events: int, member: Member) -> None:
        """Watch ``fd`` for ``events``."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        self._epoll.register(fd, events)
        self._members[fd] = member

    def change(self, fd: int, events: int) -> None:
        """Watch ``fd`` for other events."""
        assert self._epoll is not None
        self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Watch ``fd`` no more; it must still be open."""
        assert self._epoll is not None
        del self._members[fd]
        self._epoll.unregister(fd)
        if not self._members:
            # Not at once: this may be inside doRead, and the reactor looks at fileno then.
            self._reactor.callLater(0, self._rest)

    def doRead(self) -> None:
        """Serve members that are ready."""
        left = EVENTS
        for _ in range(LOOKS):
            served = self._serve(left)
            left -= served
            if not served or not left:
                return

    def give_way(self) -> None:
        """Serve each member that is ready once, between two pieces of somebody else's work."""
        if self._epoll is not None:
            self._serve(EVENTS)

    def _serve(self, most: int) -> int:
        """Look once for members that are ready, and serve them; return how many events."""
        assert self._epoll is not None
        members = self._members
        happened = self._epoll.poll(0, most)
        for fd, events in happened:
            member = members.get(fd)
            if member is None:  # removed since the poll
                continue
            try:
                member.ready(events)
            except Exception:
                self._log.failure("an event of a relay's socket failed")
                member.fail()
        return len(happened)

    def fileno(self) -> int:
        return -1 if self._epoll is None else self._epoll.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """Nothing: an epoll object is nobody's connection."""

    def logPrefix(self) -> str:
        return "relay"

    def _rest(self) -> None:
        if self._epoll is not None and not self._members:
            self._reactor.removeReader(self)
            self._epoll.close()
            self._epoll = None
