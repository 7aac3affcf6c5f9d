"""How many lines strangers may make a log have. Pure."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["LINES_PER_SECOND", "LineLimit"]

#: The others are only counted: strangers must not fill a disk.
LINES_PER_SECOND = 10


class LineLimit:
    """Lets so many lines a second be written; ``tell`` is called with the number of the others.

    ``seconds`` is a clock that never goes back.
    """

    def __init__(self, seconds: Callable[[], float], tell: Callable[[int], None]) -> None:
        self._seconds = seconds
        self._tell = tell
        self._second = 0.0
        self._lines = 0
        self._unwritten = 0

    def allows(self) -> bool:
        """Count one more line; tells whether it may be written."""
        now = self._seconds()
        if now - self._second >= 1.0:
            self.finish()
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > LINES_PER_SECOND:
            self._unwritten += 1
        return self._lines <= LINES_PER_SECOND

    def finish(self) -> None:
        """Tell of what was not written so far, if anything was not."""
        if self._unwritten:
            unwritten, self._unwritten = self._unwritten, 0
            self._tell(unwritten)
