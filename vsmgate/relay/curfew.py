"""What has opened with a token that ends is closed when it has ended."""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from vsmgate.errors import Unauthenticated
from vsmgate.relay.desk import Desk
from vsmgate.relay.journal import Passage

__all__ = ["Curfew"]

#: Seconds after which the clock on the wall is looked at again at the latest: it may be
#: set, and the reactor's clock does not follow.
_LOOK = 600.0


class Curfew:
    """Closes relays with 4401, ``grace`` seconds after their identity's end; None: never."""

    def __init__(self, clock: IReactorTime, desk: Desk, grace: float | None) -> None:
        self._clock = clock
        self._desk = desk
        self._grace = grace
        self._calls: dict[int, IDelayedCall] = {}

    def begin(self, passage: Passage) -> None:
        """``passage`` has opened, or has been renewed."""
        left = self._left(passage)
        if left is not None:
            wait = min(max(left, 0.0), _LOOK)
            self._calls[id(passage)] = self._clock.callLater(wait, self._look, passage)

    def end(self, passage: Passage) -> None:
        """``passage`` is over."""
        call = self._calls.pop(id(passage), None)
        if call is not None:
            call.cancel()

    def _left(self, passage: Passage) -> float | None:
        if self._grace is None or passage.identity is None:
            return None
        left = self._desk.expires_in(passage.identity)
        return None if left is None else left + self._grace

    def _look(self, passage: Passage) -> None:
        del self._calls[id(passage)]
        left = self._left(passage)
        if left is None or left > 0.0:
            self.begin(passage)
        elif passage.tunnel is not None:
            passage.tunnel.close(Unauthenticated.close, "The token has expired.")
