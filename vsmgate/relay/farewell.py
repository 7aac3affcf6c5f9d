"""The last octets to a client, and an end of its connection that lets them arrive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorTime,
    ISSLTransport,
    IWriteDescriptor,
)
from twisted.python.failure import Failure

from vsmgate.relay.leg import Leg

__all__ = ["FAREWELL", "Farewell"]

#: Seconds that a client has for reading its answer.
FAREWELL = 2.0


class Farewell:
    """Reads a leg from now on, into nothing, until it is gone.

    Closing a socket with unread input makes the kernel reset it, and the reset may
    overtake the answer. So only our half is closed, and the client's is read for a moment.
    """

    def __init__(
        self, leg: Leg, clock: IReactorTime, octets: bytes, on_gone: Callable[[], None]
    ) -> None:
        """Write ``octets`` and begin; ``on_gone`` is called once, at the end."""
        # Any: ITransport lacks what every stream transport can do (pausing, aborting).
        self._transport = cast(Any, leg.transport)
        self._on_gone = on_gone
        leg.receiver = self
        self._timer: IDelayedCall | None = clock.callLater(FAREWELL, self._abort)
        self._transport.write(octets)
        self._transport.resumeProducing()
        if hasattr(self._transport, "loseWriteConnection") and not ISSLTransport.providedBy(
            self._transport
        ):
            self._transport.loseWriteConnection()
            # Now; what it fails with is told by the next event. Where the end was asked for
            # already, only the reactor may write: what doWrite returns is then that end.
            if not self._transport.disconnecting and IWriteDescriptor.providedBy(self._transport):
                self._transport.doWrite()
        else:
            self._transport.loseConnection()

    def received(self, data: bytes) -> None:
        """Drop it."""

    def lost(self, reason: Failure) -> None:
        """Be done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        on_gone = self._on_gone
        del self._on_gone  # else it and this would keep each other
        on_gone()

    def _abort(self) -> None:
        self._timer = None
        self._transport.abortConnection()
