"""The clocks of a relay.

* *silent*: no octets either way;
* *stalled*: a peer takes none of the octets that wait for it;
* *dead*: the same, and not even its kernel acknowledges them;
* *overdue*: the end takes longer than it may.

They are coarse: one timer compares counters every quarter of the shortest time. So a
time may be exceeded by half of it, and a chunk that passes costs nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from vsmgate.relay.way import Way

__all__ = ["TunnelLimits", "Watch", "Watched"]


class TunnelLimits(Struct, frozen=True):
    """Limits of time (seconds), as in `vsmgate.config.RelayConfig`."""

    stall_timeout: float = 120.0
    dead_peer_timeout: float = 60.0
    linger: float = 10.0


class Watched(Protocol):
    """Who is told (`vsmgate.relay.tunnel.Tunnel`)."""

    def moved(self) -> None:
        """Octets passed since the last look."""

    def silent(self) -> None:
        """Nobody sent anything for as long as was allowed."""

    def stalled(self) -> None:
        """A peer is there and reads nothing."""

    def overdue(self) -> None:
        """The end takes too long."""


class Watch:
    """Looks at two ways now and then; runs from `look_for_silence` to `stop`."""

    __slots__ = (
        "_allowed",
        "_clock",
        "_limits",
        "_octets",
        "_octets_at",
        "_timer",
        "_watched",
        "_ways",
    )

    def __init__(
        self, ways: Sequence[Way], limits: TunnelLimits, clock: IReactorTime, watched: Watched
    ) -> None:
        self._ways = ways
        self._limits = limits
        self._clock = clock
        self._watched: Watched | None = watched
        self._timer: IDelayedCall | None = None
        self._allowed = 0.0
        self._octets = 0
        self._octets_at = clock.seconds()

    def look_for_silence(self, allowed: float) -> None:
        """Look regularly; nobody may be silent for longer than ``allowed`` seconds."""
        self._allowed = allowed
        limits = self._limits
        shortest = min(allowed, limits.stall_timeout, limits.dead_peer_timeout)
        self._set(shortest / 4)

    def end_in(self, seconds: float) -> None:
        """Look no more; be overdue after ``seconds``."""
        self._allowed = 0.0
        self._set(seconds)

    def stop(self) -> None:
        """Let go of everything."""
        self._watched = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.callLater(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        watched = self._watched
        if watched is None:
            return
        if self._allowed:
            self._look(watched)
            if self._timer is None and self._watched is not None:
                self.look_for_silence(self._allowed)
        else:
            watched.overdue()

    def _look(self, watched: Watched) -> None:
        now = self._clock.seconds()
        octets = sum(way.octets for way in self._ways)
        if octets != self._octets:
            self._octets = octets
            self._octets_at = now
            watched.moved()
        for way in self._ways:
            stuck = way.stuck_for(now)
            if stuck >= self._limits.dead_peer_timeout and not way.sink.acknowledged():
                way.sink.abort()
            elif stuck >= self._limits.stall_timeout:
                watched.stalled()
        if now - self._octets_at >= self._allowed:
            watched.silent()
