"""One plain request to a service and its answer, streamed both ways.

::

    client  -- head, rewritten --> service        the body follows as it comes, octet by octet;
    client  <-- head, rewritten -- service        either side is paused while the other is full

Bodies are only watched, to know where they end (`vsmgate.bodies`): nothing after the end
of a request reaches the service, and nothing after the end of an answer the client. Each
connection carries one request. Until the answer has begun every failure is an HTTP status.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from vsmgate.bodies import Body, Endless, response_body
from vsmgate.errors import BadAnswer, Forbidden, GatewayError, JobEnded, ServiceTimeout, Unavailable
from vsmgate.frames import Octets
from vsmgate.heads import RequestHead, ResponseHead, answer_reader
from vsmgate.refusals import render_refusal
from vsmgate.relay.ending import Ending, Initiator
from vsmgate.relay.farewell import FAREWELL
from vsmgate.relay.leg import Leg
from vsmgate.relay.watch import TunnelLimits
from vsmgate.relay.wire import TransportWire

__all__ = ["Exchange"]


class Exchange:
    """Carries one request and its answer, until both connections are gone.

    ``head`` is sent to the service as it is; ``body`` is what follows it. ``answer`` makes the
    client's head of the service's. ``idle_timeout``: of an answer under way, in seconds.
    ``on_end`` is called once, when nothing of the exchange is left.
    """

    def __init__(
        self,
        client: Leg,
        service: Leg,
        *,
        head: RequestHead,
        body: Body,
        answer: Callable[[ResponseHead], ResponseHead],
        idle_timeout: float,
        limits: TunnelLimits,
        clock: IReactorTime,
        request_id: str,
        on_end: Callable[[Ending], None],
    ) -> None:
        self._client = TransportWire(client, limits.dead_peer_timeout, True)
        self._service = TransportWire(service, limits.dead_peer_timeout, False)
        self._head = head
        self._up = body
        self._down: Body | None = None  # the answer's, once its head has come
        self._reader = answer_reader()
        self._answer = answer
        self._idle_timeout = idle_timeout
        self._limits = limits
        self._clock = clock
        self._request_id = request_id
        self._on_end = on_end
        self._octets_up = self._octets_down = 0
        self._seen: tuple[Initiator, int | None, str] | None = None
        self._moved_at = clock.seconds()
        self._mark: tuple[int, ...] = ()
        self._timer: IDelayedCall | None = None
        self._over = self._client_gone = self._service_gone = False

    def start(self, early: bytes) -> None:
        """Begin; ``early`` came with the client's head."""
        self._look_again()
        self._service.throttle(self._client)
        self._client.throttle(self._service)
        self._client.start(_Side(self._uploaded, self._left, self._client_lost))
        self._service.start(_Side(self._answered, self._ended, self._service_lost))
        self._service.write(self._head.render())
        self._client.resume()
        self._service.resume()
        if early:
            self._uploaded(early)

    def close(self, code: int, reason: str) -> None:
        """End it by the gateway: with an HTTP status, or by cutting the answer."""
        known = next((kind for kind in (JobEnded, Forbidden) if kind.close == code), Unavailable)
        self._fail("gateway", known(reason))

    def abort(self) -> None:
        """Drop both connections at once."""
        self._end("gateway", None, "aborted")
        self._client.abort()

    # -- what the sides do ------------------------------------------------------------

    def _uploaded(self, data: Octets) -> None:
        """Let octets of the request on; what follows its end is dropped."""
        if self._over:
            return
        data = bytes(data)
        self._octets_up += len(data)
        try:
            taken = self._up.feed(data)
        except GatewayError as error:
            self._fail("client", error)
            return
        if taken:
            self._service.write(data[:taken])

    def _answered(self, data: Octets) -> None:
        """Let octets of the answer on."""
        if self._over:
            return
        data = bytes(data)
        self._octets_down += len(data)
        try:
            while self._down is None:
                head = self._reader.feed(data)
                if head is None:
                    return
                data = self._reader.rest
                self._read(head)
            taken = self._down.feed(data)
        except GatewayError as error:
            self._fail("service", error)
            return
        if taken:
            self._client.write(data[:taken])
        if self._down.done:
            self._finish()

    def _read(self, head: ResponseHead) -> None:
        """Take a head of the service's: an interim one, or the answer's."""
        self._reader = answer_reader()
        if head.status == 101:
            raise BadAnswer("The service changed the protocol without being asked.")
        if head.status < 200:
            self._client.write(ResponseHead(status=head.status, reason=head.reason).render())
            return
        down = response_body(head, self._head.method)
        self._client.write(self._answer(head).render())
        self._down = down
        self._seen = ("service", head.status, head.reason)

    def _left(self) -> None:
        """See that the client sends nothing more: it has gone, and awaits no answer."""
        self._end("client", None, "the client ended its connection")
        self._client.leave()

    def _client_lost(self, reason: Failure) -> None:
        self._client_gone = True
        self._end("client", None, reason.getErrorMessage())
        self._maybe_over()

    def _ended(self) -> None:
        """See the end of what the service sends."""
        if self._over:
            return
        if self._down is None:
            self._fail("service", BadAnswer("The service ended the connection without an answer."))
            return
        if not isinstance(self._down, Endless):
            # The body is shorter than its head says, by which the client can tell.
            self._seen = ("service", None, "the service ended its answer early")
        self._finish()

    def _service_lost(self, reason: Failure) -> None:
        self._service_gone = True
        self._ended()
        self._maybe_over()

    # -- the clock ----------------------------------------------------------------------

    def _look_again(self) -> None:
        shortest = FAREWELL if self._over else min(self._idle_timeout, self._limits.stall_timeout)
        self._timer = self._clock.callLater(shortest / 4, self._look)

    def _look(self) -> None:
        """End what does not move; coarse, as in `vsmgate.relay.watch`."""
        now = self._clock.seconds()
        waiting = self._client.waiting(), 0 if self._over else self._service.waiting()
        mark = (self._octets_up, self._octets_down, *waiting)
        if mark != self._mark:
            self._mark, self._moved_at = mark, now
        if any(waiting) or (self._down is None and not self._over):
            allowed = self._limits.stall_timeout
        else:
            allowed = FAREWELL if self._over else self._idle_timeout
        self._timer = None
        if now - self._moved_at < allowed:
            self._look_again()
        elif self._over:
            self._client.abort()
        else:
            self._fail("gateway", ServiceTimeout("Neither the request nor its answer moved on."))

    # -- the end ------------------------------------------------------------------------

    def _finish(self, octets: bytes = b"") -> None:
        """Let the client read to the end; what it still sends is dropped, for a moment."""
        self._end("service", None, "")
        if octets:
            self._client.write(octets)
        self._client.finish()

    def _fail(self, initiator: Initiator, error: GatewayError) -> None:
        """Answer with ``error``, or cut an answer that has begun."""
        if self._over:
            return
        if self._down is None:
            self._end(initiator, error.status, error.code)
            self._finish(render_refusal(error, self._request_id))
        else:
            self._seen = (initiator, None, error.code)
            self.abort()

    def _end(self, initiator: Initiator, code: int | None, reason: str) -> None:
        """Be done with the service; only the first end counts."""
        if self._over:
            return
        self._over = True
        self._seen = self._seen or (initiator, code, reason)
        self._client.unthrottle()
        self._service.unthrottle()
        if not self._service_gone:
            self._service.abort()
        if self._timer is not None:
            self._timer.cancel()
        self._moved_at = self._clock.seconds()
        self._look_again()

    def _maybe_over(self) -> None:
        """Let go of everything and tell, once both are gone."""
        if not (self._client_gone and self._service_gone):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._client.release()
        self._service.release()
        initiator, code, reason = self._seen or ("gateway", None, "")
        on_end = self._on_end
        del self._on_end, self._answer
        on_end(
            Ending(
                initiator=initiator,
                code=code,
                reason=reason,
                client_octets=self._octets_up,
                service_octets=self._octets_down,
                client_frames=0,
                service_frames=0,
            )
        )


class _Side:
    """What one wire tells, passed on."""

    __slots__ = ("finished", "lost", "received")

    def __init__(
        self,
        received: Callable[[Octets], None],
        finished: Callable[[], None],
        lost: Callable[[Failure], None],
    ) -> None:
        self.received = received
        self.finished = finished
        self.lost = lost

    def room(self) -> None:
        """Nothing waits for it."""
