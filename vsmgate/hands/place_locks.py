"""Places that several processes of one machine share, without talking to each other.

A place is a lock on one byte of a file (POSIX ``fcntl`` record locks; the file stays empty).
The kernel gives back what a process held when it ends, however it ends. Each name has bytes of
its own, ``SPAN`` of them, from where a hash puts it.
"""

from __future__ import annotations

import fcntl
import os
from hashlib import blake2b
from pathlib import Path

__all__ = ["PlaceLocks"]

#: Bytes of each name, and how many names find room before the offsets end (2^63).
SPAN, NAMES = 1 << 20, 1 << 43


class PlaceLocks:
    """Takes places in the file ``path``, which nothing else in this process may open."""

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        self._mine: set[int] = set()

    def take(self, name: str, most: int) -> int | None:
        """Take one of ``most`` places of ``name``; None when other processes have the rest."""
        digest = blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        start = int.from_bytes(digest) % NAMES * SPAN
        for place in range(start, start + min(most, SPAN)):
            if place in self._mine:
                continue
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):  # either, says POSIX
                continue
            self._mine.add(place)
            return place
        return None

    def give_back(self, place: int) -> None:
        """Give back what `take` returned."""
        self._mine.discard(place)
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)
