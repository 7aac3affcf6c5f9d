"""Connecting to services: names resolved once, addresses judged, and those dialled."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, NoReturn

from twisted.internet.address import IPv4Address as TCP4
from twisted.internet.address import IPv6Address as TCP6
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
)
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.errors import TargetDenied
from vsmgate.hands.tls import Shaking, TlsLayer, options_for_service
from vsmgate.model import Endpoint, ServiceTls
from vsmgate.targets import Address, TargetRule, read_host

__all__ = ["Dialler"]


#: Denied endpoints of which the log tells once.
REMEMBERED = 256


class Dialler:
    """Connects where a rule allows it.

    ``listening``: where this gateway itself listens (address, port); nobody is sent there.
    """

    _log = Logger()

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.listening: set[tuple[str, int]] = set()
        self._denied: set[Endpoint] = set()

    async def connect(
        self,
        factory: IProtocolFactory,
        endpoint: Endpoint,
        rule: TargetRule,
        seconds: float,
        tls: ServiceTls | None = None,
    ) -> Any:
        """Return the protocol of a new connection to ``endpoint``.

        With ``tls`` that is after the TLS handshake. Where a name has several addresses they
        are tried in turn. Fails with `TargetDenied`, before anything is sent to anybody, with
        `ServiceTlsFailed`, or with `DNSLookupError` or `ConnectError` of Twisted. ``seconds``
        bounds each try to connect; a cancel ends them all.
        """
        judged = self.judge(endpoint, await self.find(endpoint), rule)
        addresses = [address for address, why in judged.items() if not why]
        if not addresses:
            address, why = next(iter(judged.items()))
            self._deny(endpoint, f"{address}: {why}")
        where = self.way(addresses, endpoint.port, seconds)
        if tls is None:
            return await where.connect(factory)
        shaking = Shaking(factory)
        options = options_for_service(tls, endpoint.host)
        await where.connect(TlsLayer(options, True, shaking, self.reactor))
        return await shaking.done

    async def find(self, endpoint: Endpoint) -> Sequence[Address]:
        """Return the addresses of the endpoint's host, one at least.

        Fails with `TargetDenied` for what is no host, and with `DNSLookupError`.
        """
        host = endpoint.host
        try:
            literal = read_host(host)
        except ValueError as error:
            self._deny(endpoint, str(error))
        found = [literal] if literal is not None else await _resolve(self.reactor, host)
        if not found:
            raise DNSLookupError(f"{host} has no address")
        return found

    def judge(
        self, endpoint: Endpoint, found: Sequence[Address], rule: TargetRule
    ) -> Mapping[Address, str]:
        """Return why each of ``found`` may not be dialled, or nothing."""
        host = endpoint.host
        return {a: rule.refusal(host, a) or self._own(a, endpoint.port) for a in found}

    def _deny(self, endpoint: Endpoint, why: str) -> NoReturn:
        if endpoint not in self._denied:  # a prober asks again and again
            self._denied = (
                {*self._denied, endpoint} if len(self._denied) < REMEMBERED else {endpoint}
            )
            self._log.warn(
                "target denied: {host!r} port {port} ({why})",
                host=endpoint.host[:253],
                port=endpoint.port,
                why=why,
            )
        raise TargetDenied("The service says that it is where this gateway may not connect.")

    def _own(self, address: Address, port: int) -> str:
        """Return a reason when the gateway itself listens there."""
        for host, ours in self.listening:
            if port != ours:
                continue
            bound = read_host(host)
            # A name may be any of this machine's addresses; "::" takes IPv4 too.
            every = bound is None or (bound.is_unspecified and bound.version >= address.version)
            if bound == address or (every and _is_here(address)):
                return "the gateway itself listens there"
        return ""

    def way(self, addresses: Sequence[Address], port: int, seconds: float) -> IStreamClientEndpoint:
        """Return how to connect to ``addresses``, which were judged."""
        if len(addresses) == 1:
            (address,) = addresses
            family = TCP4ClientEndpoint if isinstance(address, IPv4Address) else TCP6ClientEndpoint
            return family(self.reactor, str(address), port, timeout=seconds)
        # Twisted's endpoint knows best how to try several (RFC 8305); the name is not asked
        # for again, as its answer might be another one by now.
        judged: Any = _Judged(self.reactor, addresses)
        return HostnameEndpoint(judged, "judged.invalid", port, timeout=seconds)


@implementer(IReactorPluggableNameResolver, IReactorTime, IHostnameResolver, IHostResolution)
class _Judged:
    """The reactor, with a resolver whose only answer is the judged addresses."""

    name = "judged.invalid"

    def __init__(self, reactor: Any, addresses: Sequence[Address]) -> None:
        self._reactor = reactor
        self._addresses = addresses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    @property
    def nameResolver(self) -> _Judged:
        return self

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> _Judged:
        resolutionReceiver.resolutionBegan(self)
        for address in self._addresses:
            kind = TCP4 if isinstance(address, IPv4Address) else TCP6
            resolutionReceiver.addressResolved(kind("TCP", str(address), portNumber))
        resolutionReceiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        """Nothing is under way."""


@implementer(IResolutionReceiver)
class _Answers:
    """Collects the addresses of a name."""

    def __init__(self) -> None:
        self.done: Deferred[list[Address]] = Deferred(self._cancel)
        self._found: list[Address] = []
        self._resolution: IHostResolution | None = None

    def _cancel(self, _: Deferred[list[Address]]) -> None:
        if self._resolution is not None:
            self._resolution.cancel()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        self._resolution = resolutionInProgress

    def addressResolved(self, address: IAddress) -> None:
        host: Any = address  # one of Twisted's TCP addresses
        found = read_host(host.host)
        if found is not None and found not in self._found:
            self._found.append(found)

    def resolutionComplete(self) -> None:
        if not self.done.called:
            self.done.callback(self._found)


async def _resolve(reactor: Any, host: str) -> list[Address]:
    answers = _Answers()
    reactor.nameResolver.resolveHostName(answers, host)
    return await answers.done


def _is_here(address: Address) -> bool:
    """Return whether ``address`` is one of this machine's: only those can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
