"""Reaching a service: the connection, and its answer to the opening handshake."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectBindError, ConnectError, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from vsmgate.errors import BadHandshake, GatewayError, ServiceRefused, ServiceTimeout, Unavailable
from vsmgate.hands.dialling import Dialler
from vsmgate.heads import ResponseHead, response_reader
from vsmgate.relay.desk import Target
from vsmgate.relay.leg import Leg

__all__ = ["Reply", "ServiceLeg", "dial", "within"]

T = TypeVar("T")


async def within(
    waiting: Deferred[T] | Coroutine[Deferred[Any], Any, T],
    seconds: float,
    clock: IReactorTime,
    late: GatewayError,
) -> T:
    """Return what ``waiting`` comes to; after ``seconds`` cancel it and fail with ``late``."""

    def give_up(_: object, __: float) -> NoReturn:
        raise late

    deferred = waiting if isinstance(waiting, Deferred) else Deferred.fromCoroutine(waiting)
    return await deferred.addTimeout(seconds, clock, onTimeoutCancel=give_up)


class Reply:
    """Reads the service's side of the handshake: one head, then ``rest``."""

    def __init__(self) -> None:
        self.head: Deferred[ResponseHead] = Deferred()
        self._reader = response_reader()

    @property
    def rest(self) -> bytes:
        """What the service sent right after its head."""
        return self._reader.rest

    def received(self, data: bytes) -> None:
        """Read on; after the head nobody calls this, as the tunnel then reads the leg."""
        if self.head.called:
            return
        try:
            head = self._reader.feed(data)
        except GatewayError:
            self.head.errback()
            return
        if head is not None:
            self.head.callback(head)

    def lost(self, reason: Failure) -> None:
        """The service hung up instead of answering."""
        if not self.head.called:
            self.head.errback(BadHandshake("The service closed the connection instead of a reply."))


class ServiceLeg(Leg):
    """A leg to a service, which at first has its `Reply` for a reader."""

    def __init__(self) -> None:
        self.receiver = self._reply = Reply()

    async def ask(
        self, request: bytes, seconds: float, clock: IReactorTime
    ) -> tuple[ResponseHead, bytes]:
        """Send ``request``; return the head of the answer, and what came right after it.

        Fails with `ServiceTimeout` or `BadHandshake`. May be called once; whoever calls
        it sets another receiver in the same turn, or aborts.
        """
        assert self.transport is not None
        self.transport.write(request)
        reply = self._reply
        del self._reply  # its buffer does not outlive it
        late = ServiceTimeout("The service accepted the connection and then said nothing.")
        head = await within(reply.head, seconds, clock, late)
        return head, reply.rest

    def abort(self) -> None:
        """Drop the connection."""
        transport: Any = self.transport  # ITransport lacks the method
        transport.abortConnection()


class _Legs(Factory):
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> ServiceLeg:
        return ServiceLeg()


async def dial(dialler: Dialler, target: Target, seconds: float) -> ServiceLeg:
    """Return a connection to the service of ``target``.

    Fails with `TargetDenied`, `ServiceTimeout`, `ServiceRefused` or `ServiceTlsFailed`; a
    cancel ends the attempt.
    """
    late = ServiceTimeout("The service did not accept the connection in time.")
    # The same bound goes to each try: a name may have several addresses.
    connecting = dialler.connect(_Legs(), target.endpoint, target.rule, seconds, target.spec.tls)
    try:
        leg = await within(connecting, seconds, dialler.reactor, late)
    except ConnectTimeout:
        raise late from None
    except DNSLookupError:
        raise ServiceRefused("The service's host has no address.") from None
    except ConnectBindError:  # no socket could be had: too many are open
        raise Unavailable("The gateway has as many connections as it can.") from None
    except ConnectError:
        raise ServiceRefused("Nothing accepts connections where the service should be.") from None
    assert isinstance(leg, ServiceLeg)
    return leg
