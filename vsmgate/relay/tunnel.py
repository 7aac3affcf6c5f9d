"""A relay after both opening handshakes: two ways between two wires, and their end.

What arrives goes on octet by octet; `vsmgate.frames` only watches where frames begin
and end, so that the gateway's own frames can be put between them. How a relay ends is
in `vsmgate.relay.rules`, its clocks are in `vsmgate.relay.watch`; the octets are moved by
`vsmgate.relay.wire`. This module performs the rules.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from vsmgate.frames import (
    CLOSE,
    PONG,
    FrameTracker,
    Violation,
    close_answer,
    close_code,
    close_payload,
    close_reason,
    control_frame,
)
from vsmgate.model import Service
from vsmgate.relay.ending import Ending, Initiator
from vsmgate.relay.leg import Leg
from vsmgate.relay.rules import TABLE, Act, Event, Phase
from vsmgate.relay.watch import TunnelLimits, Watch
from vsmgate.relay.way import Way
from vsmgate.relay.wire import MakeWire, TransportWire
from vsmgate.rewriter import client_tracker
from vsmgate.viewing import REFUSED, view_tracker

__all__ = ["Ending", "Initiator", "Tunnel", "TunnelLimits"]

LOST, OVERLOAD, IDLE = 1011, 1013, 4408  #: the close codes that the tunnel itself sends

#: Seconds between two notices of activity.
ACTIVITY_INTERVAL = 1.0


class Tunnel:
    """Relays octets between two connections until both are gone.

    ``extensions``: whether permessage-deflate was negotiated. ``on_activity`` is called
    when the client sends data frames, at most once a second. ``on_end`` is called once,
    after both connections are gone; nothing of the tunnel is left then. ``view_only``: the
    client sends what ``spec`` allows those who only look; that is no activity.
    """

    __slots__ = (
        "_active_at", "_client", "_clock", "_down", "_gone", "_idle_timeout", "_limits",
        "_on_activity", "_on_end", "_own_close", "_phase", "_pong", "_seen", "_service",
        "_up", "_view_only", "_watch",
    )  # fmt: skip

    def __init__(
        self,
        client: Leg,
        service: Leg,
        *,
        spec: Service,
        extensions: bool,
        limits: TunnelLimits,
        clock: IReactorTime,
        on_activity: Callable[[], None],
        on_end: Callable[[Ending], None],
        make_wire: MakeWire = TransportWire,
        view_only: bool = False,
    ) -> None:
        self._limits = limits
        self._idle_timeout = spec.idle_timeout
        self._clock = clock
        self._on_activity = on_activity
        self._on_end = on_end
        self._client = make_wire(client, limits.dead_peer_timeout, True)
        self._service = make_wire(service, limits.dead_peer_timeout, False)
        self._view_only = view_only
        tracker = (view_tracker if view_only else client_tracker)(spec, extensions)
        self._up = Way(self._client, self._service, tracker, self, self._carried)
        self._down = Way(
            self._service,
            self._client,
            FrameTracker(masked=False, compressed=extensions, max_frame=spec.max_message),
            self,
        )
        self._phase = Phase.OPEN
        self._seen: tuple[Initiator, int | None, str] | None = None
        self._own_close = b""  # the payload of the gateway's own Close
        self._pong: bytes | None = None  # the latest that is due to the client
        self._gone = 0
        self._active_at = clock.seconds()
        self._watch = Watch((self._up, self._down), limits, clock, self)

    def start(self, early_client: bytes = b"", early_service: bytes = b"") -> None:
        """Begin; the early octets came with the handshakes and go first."""
        self._watch.look_for_silence(self._idle_timeout)
        self._up.start()
        self._down.start()
        if early_client:
            self._up.received(early_client)
        if early_service:
            self._down.received(early_service)

    def close(self, code: int, reason: str) -> None:
        """End it by the gateway: a Close frame both ways, each at the next boundary.

        What does not get through within the linger time is aborted. Only the first
        call counts, and none after either side's connection ended.
        """
        if self._phase is Phase.ENDING:
            return
        self._own_close = close_payload(code, reason)
        self._see("gateway", code, reason)
        self._happen(Event.GATEWAY_CLOSE)

    def abort(self) -> None:
        """Drop both connections at once."""
        if self._gone < 2:
            self._see("gateway", None, "aborted")
            self._enter(Phase.ENDING)
            self.overdue()

    # -- what happens (`vsmgate.relay.way.Owner`) -----------------------------------------

    def noticed(self, way: Way) -> None:
        """Look at what a tracker found."""
        tracker = way.tracker
        tracker.notable = False
        if tracker.close is not None and self._phase is not Phase.ENDING:
            by_client = way is self._up
            self._see(
                "client" if by_client else "service",
                close_code(tracker.close),
                close_reason(tracker.close),
            )
            self._happen(Event.CLIENT_CLOSE if by_client else Event.SERVICE_CLOSE)
        if tracker.violation is not None:
            self._broken(way, tracker.violation)
        if tracker.ping is not None:
            self._pong, tracker.ping = tracker.ping, None
        if self._pong is not None:
            self._answer_ping()

    def _broken(self, way: Way, violation: Violation) -> None:
        if way is not self._up or violation.code == REFUSED:
            self.close(violation.code, violation.reason)
        elif self._phase is Phase.OPEN or self._phase is Phase.SERVICE_CLOSED:
            self._own_close = close_payload(violation.code, violation.reason)
            self._see("gateway", violation.code, violation.reason)
            self._happen(Event.CLIENT_BREAK)

    def finished(self, way: Way) -> None:
        """See a FIN."""
        if way is self._up:
            self._see("client", None, "the client ended its connection")
            self._happen(Event.CLIENT_FIN)
        else:
            self._service_gone("the service ended its connection")

    def lost(self, way: Way, reason: Failure) -> None:
        """See the end of a connection."""
        if way is self._up:
            self._down.stop()
            self._see("client", None, reason.getErrorMessage())
            self._happen(Event.CLIENT_GONE)
        else:
            self._service_gone(reason.getErrorMessage())
        self._gone += 1
        if self._gone == 2:
            self._finish()

    def room(self, way: Way) -> None:
        """Send what waited for the client to read."""
        if way is self._up and self._pong is not None:
            self._answer_ping()

    def _service_gone(self, reason: str) -> None:
        if self._phase is Phase.OPEN:
            self._see("service", LOST if self._down.at_boundary else None, reason)
        self._happen(Event.SERVICE_GONE)
        self._up.leave()

    def _see(self, initiator: Initiator, code: int | None, reason: str) -> None:
        """Remember who began the end; only the first counts."""
        if self._seen is None:
            self._seen = (initiator, code, reason)

    # -- what is done -------------------------------------------------------------------

    def _happen(self, event: Event) -> None:
        phase, acts = TABLE[self._phase][event]
        self._enter(phase)
        for act in acts:
            self._perform(act)

    def _enter(self, phase: Phase) -> None:
        if phase is self._phase:
            return
        self._phase = phase
        if phase is Phase.ENDING or phase is Phase.CLIENT_BROKE:
            self._watch.end_in(self._limits.linger)
        else:  # a Close frame passed, which must be answered
            self._watch.look_for_silence(self._limits.linger)

    def _perform(self, act: Act) -> None:
        match act:
            case Act.TELL_CLIENT:
                self._down.end(control_frame(CLOSE, self._own_close))
            case Act.TELL_SERVICE:
                self._up.end(control_frame(CLOSE, self._own_close, os.urandom(4)))
            case Act.TELL_LOST:
                self._down.end(control_frame(CLOSE, close_payload(LOST, "backend lost")))
            case Act.ANSWER_CLIENT:
                self._down.end(control_frame(CLOSE, close_answer(self._up.tracker.close or b"")))
            case Act.WARN_SERVICE:
                self._service.write(control_frame(CLOSE, self._own_close, os.urandom(4)))
            case Act.END_CLIENT:
                self._down.end()
            case Act.END_SERVICE:
                self._up.end()
            case Act.LEAVE_SERVICE:
                self._up.leave()

    def _answer_ping(self) -> None:
        """Send the Pong that is due, when the client reads and between two frames."""
        down = self._down
        if down.ending or down.tracker.close is not None:
            self._pong = None
        elif down.at_boundary and not self._client.full:
            assert self._pong is not None
            self._client.write(control_frame(PONG, self._pong))
            self._pong = None
        else:
            down.tracker.notable = True  # look again after the service's next octets

    def _carried(self) -> None:
        """Tell of the client's data frames."""
        now = self._clock.seconds()
        if now >= self._active_at and not self._view_only:
            self._active_at = now + ACTIVITY_INTERVAL
            self._on_activity()

    # -- the clocks (`vsmgate.relay.watch.Watched`) -----------------------------------------

    def moved(self) -> None:
        """Tell of a data frame that takes long."""
        if self._up.tracker.in_data:
            self._carried()

    def silent(self) -> None:
        """Close an idle relay, or one whose peer does not answer a Close frame."""
        if self._phase is Phase.OPEN:
            self._see("gateway", IDLE, "idle")
            self._own_close = close_payload(IDLE, "idle")
        self._happen(Event.SILENCE)

    def stalled(self) -> None:
        """Close a relay in which one side does not read."""
        self.close(OVERLOAD, "too slow a reader")

    def overdue(self) -> None:
        """Drop what is left of both connections, unless the service only failed to answer."""
        if self._phase is Phase.CLIENT_BROKE:
            self._happen(Event.SILENCE)
            return
        self._client.abort()
        self._service.abort()

    # -- the end ------------------------------------------------------------------------

    def _finish(self) -> None:
        """Let go of everything, and tell."""
        self._watch.stop()
        up, down = self._up, self._down
        initiator, code, reason = self._seen or ("gateway", None, "")
        up.release()
        down.release()
        on_end = self._on_end
        del self._on_end, self._on_activity
        on_end(
            Ending(
                initiator=initiator,
                code=code,
                reason=reason,
                client_octets=up.octets,
                service_octets=down.octets,
                client_frames=up.tracker.frames,
                service_frames=down.tracker.frames,
            )
        )
