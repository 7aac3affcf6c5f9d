"""Whether jobs could be kept: told before somebody tries, and untold by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.errors import StoreUnavailable
from vsmgate.jobs.book import JobBook
from vsmgate.jobs.ticker import Ticker

__all__ = ["ROOM", "Fitness", "room_in"]

#: Seconds between two tries, while all is well and while it is not.
TICK, HURRY = 10.0, 2.0

#: Octets that the state directory's file system must have left.
ROOM = 16 * 1024 * 1024


def room_in(folder: Path) -> int:
    """Return how many octets may still be written there."""
    found = os.statvfs(folder)
    # What a file system holds back for root is there for root.
    return found.f_frsize * (found.f_bfree if os.geteuid() == 0 else found.f_bavail)


class Fitness:
    """Tries the store and looks at the disk; ``ticker`` is the service that does it.

    ``room``: the octets that are left where the gateway keeps its state.
    """

    _log = Logger()

    def __init__(
        self,
        book: JobBook,
        room: Callable[[], int],
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._book = book
        self._room = room
        self._wall = wall
        self._process = f"try-{os.urandom(12).hex()}"
        self._full = False
        self._told = False
        self.ticker = Ticker("fitness", self._tick, clock)

    def problems(self) -> Sequence[str]:
        """Return what keeps jobs from being started."""
        full = "The disk of the gateway's state directory is full." if self._full else ""
        return [said for said in (full, self._book.trouble) if said]

    async def _tick(self) -> float:
        try:
            self._full = self._room() < ROOM
        except OSError:  # the folder is gone, and with it the store
            self._full = False
        try:
            await self._book.try_store(self._process, self._wall())
        except StoreUnavailable:
            pass  # the book knows
        problems = self.problems()
        if bool(problems) != self._told:
            self._told = bool(problems)
            if problems:
                self._log.error("not ready: {problems}", problems=" ".join(problems))
            else:
                self._log.info("ready again: the store can be written")
        return HURRY if problems else TICK
