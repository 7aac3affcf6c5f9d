"""One client's way from its first octet to a running tunnel, or to an HTTP refusal.

::

    head -> origin -> credential -> admit -> place -> dial -> service's 101 -> our 101 -> tunnel

Only the last step tells the client that it is connected, so every failure is an HTTP
status. A plain GET goes the same way and, where all is well, ends with 426: browsers hide
why a handshake failed, so the same address must tell it otherwise. At a service with pages
of its own a plain request goes as far as the dial, and then to an exchange
(`vsmgate.relay.http_passage`).

What the client sends early waits here and reaches the service after its 101, or never.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.bodies import request_body
from vsmgate.credentials import OWN_PROTOCOL, claim_of
from vsmgate.errors import (
    GatewayError,
    HeadTimeout,
    JobEnded,
    Unavailable,
    UpgradeRequired,
)
from vsmgate.forwarding import client_of
from vsmgate.hands.autobahn_handshake import Answer, ClientHandshake
from vsmgate.heads import HeadReader, RequestHead, request_reader
from vsmgate.model import Job
from vsmgate.refusals import render_health, render_refusal
from vsmgate.relay.crossing import offered_extensions, service_handshake
from vsmgate.relay.dialling import dial
from vsmgate.relay.exchange import Exchange
from vsmgate.relay.farewell import Farewell
from vsmgate.relay.hall import Hall
from vsmgate.relay.http_passage import HttpPassage, check_question, check_session
from vsmgate.relay.journal import Passage
from vsmgate.relay.leg import Leg
from vsmgate.relay.route import check_origin, route_of
from vsmgate.relay.tunnel import Ending, Tunnel
from vsmgate.upgrades import upgrade_of

__all__ = ["EARLY", "Opening"]

#: Early octets of a client after which nothing more is read of it.
EARLY = 16384


class Opening:
    """Reads the client's leg until the tunnel does."""

    # It lives as long as its relay, since it is told of the job's end.
    __slots__ = (
        "_early", "_hall", "_held", "_leg", "_over", "_passage", "_reader", "_task",
        "_timer", "_verdict",
    )  # fmt: skip

    _log = Logger()

    def __init__(self, hall: Hall, leg: Leg, passage: Passage) -> None:
        self._hall = hall
        self._leg = leg
        self._passage = passage
        self._reader: HeadReader[RequestHead] | None = request_reader()
        self._early = bytearray()
        self._task: Deferred[None] | None = None
        self._verdict: GatewayError | None = None
        self._over = False
        self._timer: IDelayedCall | None = None

    @property
    def _transport(self) -> Any:
        # Any: ITransport lacks what every stream transport can do (pausing, aborting).
        return self._leg.transport

    # -- the leg's events -----------------------------------------------------------

    def begin(self) -> None:
        """Start to wait for the head; the time is for the whole of it."""
        self._timer = self._hall.reactor.callLater(self._hall.config.head_timeout, self._late)

    def received(self, data: bytes) -> None:
        """Read the head, or keep what comes early."""
        if self._reader is None:
            self._early += data
            if len(self._early) > EARLY:
                self._transport.pauseProducing()
            return
        try:
            head = self._reader.feed(data)
        except GatewayError as error:
            self._refuse(error)
            return
        if head is None:
            return
        self._early += self._reader.rest
        self._reader = None
        self._stop_timer()
        hall = self._hall
        self._timer = hall.reactor.callLater(hall.config.handshake_timeout, self._unanswered)
        self._task = Deferred.fromCoroutine(self._open(head)).addErrback(self._failed)
        hall.epoll.give_way()  # many heads may have come at once

    def lost(self, reason: Failure) -> None:
        """The client is gone: stop whatever was done for it."""
        self._over = True
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()
        self._hall.left(self)

    def refuse(self, error: GatewayError) -> None:
        """End the opening with ``error``, wherever it is."""
        if self._over:
            return
        if self._task is None:
            self._refuse(error)
        else:
            self._verdict = error
            self._task.cancel()

    # -- the way ----------------------------------------------------------------------

    async def _open(self, head: RequestHead) -> None:
        hall, passage, clock = self._hall, self._passage, self._hall.reactor
        passage.path = head.path
        passage.peer, passage.tls = client_of(head, passage.peer, hall.trusted)
        upgrade = upgrade_of(head)
        check_origin(head.one("Origin"), hall.origins)
        if upgrade is None and head.path == "/healthz":
            self._say(render_health())
            return
        route = route_of(head.path, hall.config)
        job_id = passage.job = route.job_id
        passage.service = route.service
        body = request_body(head)
        protocols = upgrade.protocols if upgrade else ()
        claim = claim_of(head, protocols)
        check_session(head, claim, upgrade is not None)
        if hall.draining:
            raise Unavailable("The gateway is about to restart.")
        # Not through a Deferred of its own: its failure and our frames would hold each other, and
        # a flood of strangers would be a hundred objects of garbage each.
        target = await hall.admit(passage, claim.credential)
        self._stop_timer()
        hall.known(self)
        passage.admitted(target)
        # Only now: it costs as much as all before, and strangers shall cost little.
        offered = (*claim.protocols, OWN_PROTOCOL) if claim.own_protocol else claim.protocols
        ours = ClientHandshake(head, offered) if upgrade else None
        path = route.path_in(target.spec)
        plain: HttpPassage | None = None
        if ours is None and target.spec.http:
            plain = HttpPassage(hall.config, hall.desk, passage, head, claim, route, target)
            if elsewhere := plain.redirect():
                self._say(elsewhere)
                return
        elif ours is None:
            check_question(head, body)
        with ExitStack() as held:
            leave_place = hall.places.take(target, relay=plain is None)
            held.callback(leave_place)
            stop_hearing = hall.desk.on_end(job_id, self._hear_end)
            held.callback(stop_hearing)
            self._held = (leave_place, stop_hearing)
            leg = await dial(hall.dialler, target, hall.config.dial_timeout)
            if plain is not None:
                exchange = plain.exchange(self._leg, leg, body, hall.limits, clock, self._ended)
                held.pop_all()
                self._hand_over(exchange)
                exchange.start(self._taken_early())
                return
            with ExitStack() as undo:
                undo.callback(leg.abort)
                extensions = offered_extensions(upgrade, target)
                handshake = service_handshake(
                    hall.config, passage, head, claim, target, path, extensions, route.public
                )
                reply, rest = await leg.ask(handshake.request, hall.config.handshake_timeout, clock)
                answer = handshake.check(reply)
                if ours is None:
                    raise UpgradeRequired("All is well; open this address as a WebSocket.")
                if not answer.protocol and claim.own_protocol:
                    answer = Answer(OWN_PROTOCOL, answer.extensions)
                self._transport.write(ours.accept(answer))
                undo.pop_all()
            tunnel = Tunnel(
                self._leg,
                leg,
                spec=target.spec,
                extensions=bool(answer.extensions),
                view_only=target.view_only,
                limits=hall.limits,
                clock=clock,
                on_activity=self._active,
                on_end=self._ended,
                make_wire=hall.make_wire,
            )
            held.pop_all()
        self._hand_over(tunnel)
        tunnel.start(self._taken_early(), rest)

    def _hand_over(self, tunnel: Tunnel | Exchange) -> None:
        self._over = True
        self._passage.tunnel = tunnel
        self._hall.opened(self, self._passage)
        self._transport.bufferSize = FileDescriptor.bufferSize
        # Whoever tells of the job's end keeps the opening, but not what it opened with.
        del self._leg
        self._task = None

    def _taken_early(self) -> bytes:
        early, self._early = bytes(self._early), bytearray()
        return early

    # What is told to an opening after its way: methods of it cost a relay least to keep.

    def _active(self) -> None:
        self._hall.desk.active(self._passage.job)

    def _ended(self, ending: Ending) -> None:
        """Give back what was held for a tunnel, or an exchange, that is over."""
        for give_back in self._held:
            give_back()
        del self._held  # what is kept there keeps this
        self._hall.ended(self._passage, ending)

    def _hear_end(self, job: Job) -> None:
        # A turn later: the desk may tell of the end while it is being asked.
        self._hall.reactor.callLater(0, self._job_ended, job)

    def _job_ended(self, job: Job) -> None:
        reason = job.reason.message if job.reason else "The job has ended."
        if self._passage.tunnel is not None:
            self._passage.tunnel.close(JobEnded.close, reason)
        else:
            self.refuse(JobEnded(reason))

    # -- refusals -----------------------------------------------------------------------

    def _late(self) -> None:
        self._timer = None
        if self._reader is not None and self._reader.empty:
            self._transport.abortConnection()  # a port scan, or a balancer's probe
        else:
            self._refuse(HeadTimeout("The request head must be complete sooner."))

    def _unanswered(self) -> None:
        self._timer = None
        self.refuse(Unavailable("The gateway could not look the job up in time."))

    def _failed(self, failure: Failure) -> None:
        if self._over:  # the client is gone, and the task was cancelled for that
            if not failure.check(CancelledError, ConnectingCancelledError, GatewayError):
                self._log.failure(
                    "opening {request_id} failed late", failure, request_id=self._passage.request_id
                )
                if self._passage.tunnel is not None:
                    self._passage.tunnel.abort()
                else:
                    self._transport.abortConnection()
            return
        error = failure.value
        if self._verdict is not None:
            error = self._verdict
        elif not isinstance(error, GatewayError):
            said = "opening {request_id} failed"
            self._log.failure(said, failure, request_id=self._passage.request_id)
            error = GatewayError("The gateway failed; the request id tells where to look.")
        self._refuse(error)

    def _refuse(self, error: GatewayError) -> None:
        try:
            self._hall.refused(self._passage, error)
        finally:  # whatever becomes of the records, the client is not left waiting
            self._say(render_refusal(error, self._passage.request_id))

    def _say(self, octets: bytes) -> None:
        self._over = True
        self._stop_timer()
        self._early.clear()
        self._task = None
        Farewell(self._leg, self._hall.reactor, octets, partial(self._hall.left, self))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
