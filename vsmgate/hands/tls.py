"""TLS over connections, and to services; nothing below version 1.2."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLClientConnectionCreator,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, ServerFactory
from twisted.internet.ssl import (
    Certificate,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from vsmgate.errors import ServiceTlsFailed
from vsmgate.hands.certificates import Certificates
from vsmgate.model import ServiceTls

__all__ = ["Shaking", "TlsLayer", "options_for_service", "tls_layer"]

_PEM = b"-----BEGIN CERTIFICATE-----"

#: What ended a handshake: the alert that we sent (RFC 8446 section 6.2) tells why OpenSSL did
#: not take the certificate, which its error alone does not.
_CERTIFICATE_EXPIRED = 45
#: What OpenSSL says of octets that are no TLS record.
_NO_TLS = ("wrong version number", "record layer failure", "packet length too long", "http request")


def options_for_service(tls: ServiceTls, host: str) -> IOpenSSLClientConnectionCreator:
    """Return how to speak TLS with a service at ``host``; its certificate is verified always.

    Fails with `ServiceTlsFailed` when the authority's certificates cannot be read.
    """
    stamp = 0
    try:
        if tls.ca is not None:
            stamp = os.stat(tls.ca).st_mtime_ns
        return _options(tls.ca, stamp, tls.server_name or host)
    except (OSError, ValueError, SSL.Error):
        raise ServiceTlsFailed(
            "The certificates of the service's authority cannot be read.", finding="tls_authority"
        ) from None


@lru_cache(maxsize=256)
def _options(ca: str | None, stamp: int, name: str) -> IOpenSSLClientConnectionCreator:
    """``stamp``: when the file changed, so that a new one is read."""
    trust: Any = None
    if ca is not None:
        parts = Path(ca).read_bytes().split(_PEM)[1:]
        if not parts:
            raise ValueError("no certificate in it")
        trust = trustRootFromCertificates([Certificate.loadPEM(_PEM + part) for part in parts])
    # No ALPN: a server of Twisted's that expects none would hang up.
    minimum = {"raiseMinimumTo": TLSVersion.TLSv1_2}
    return _Alerted(optionsForClientTLS(name, trustRoot=trust, extraCertificateOptions=minimum))


@implementer(IOpenSSLClientConnectionCreator)
class _Alerted:
    """Makes the connections of ``creator``, and lets a `_Shaker` see the alert that it sends."""

    def __init__(self, creator: IOpenSSLClientConnectionCreator) -> None:
        self._creator = creator

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        connection = self._creator.clientConnectionForTLS(tlsProtocol)
        alerts: list[int] = []

        def told(_: SSL.Connection, where: int, code: int) -> None:
            if where == SSL.SSL_CB_WRITE_ALERT:
                alerts.append(code & 0xFF)  # the level is in the octet above

        connection.set_info_callback(told)
        if isinstance(tlsProtocol.wrappedProtocol, _Shaker):
            tlsProtocol.wrappedProtocol.alerts = alerts
        return connection


class TlsTransport(BufferingTLSTransport):
    """Twisted's, which cannot be aborted once it is lost; TCP's can."""

    def abortConnection(self) -> None:
        """Drop the connection, if it is still there."""
        if self.connected:
            super().abortConnection()


class TlsLayer(TLSMemoryBIOFactory):
    """Speaks TLS for the protocols of a factory."""

    protocol = TlsTransport
    noisy = False


def tls_layer(
    factory: ServerFactory, certificates: Certificates | None, clock: IReactorTime
) -> ServerFactory:
    """Return ``factory`` for a listener with TLS, or itself where there is no certificate.

    Who connects and does not finish the handshake is the factory's to time out: its
    protocols are made at once.
    """
    if certificates is None:
        return factory
    layer: Any = TlsLayer(certificates, False, factory, clock)  # a ServerFactory but in name
    return layer  # type: ignore[no-any-return]


class Shaking(Factory):
    """Makes the protocols of ``factory`` once the TLS handshake is over.

    ``done`` fires with the protocol, or fails with `ServiceTlsFailed`; its cancel drops
    the connection.
    """

    noisy = False

    def __init__(self, factory: IProtocolFactory) -> None:
        self._factory = factory
        self.done: Deferred[Any] = Deferred(self._cancel)
        self._drop: Callable[[], None] | None = None

    def buildProtocol(self, addr: Any) -> _Shaker:
        return _Shaker(self, addr)

    def began(self, drop: Callable[[], None]) -> None:
        """A connection was made; ``drop`` cuts it."""
        self._drop = drop

    def shaken(self, addr: Any, transport: Any) -> None:
        """Let the real protocol take over the connection."""
        protocol = self._factory.buildProtocol(addr)
        assert protocol is not None, "factories here refuse nobody"
        transport.wrappedProtocol = protocol
        protocol.makeConnection(transport)
        self._drop = None
        self.done.callback(protocol)

    def failed(self, reason: Failure, alerts: Sequence[int]) -> None:
        """The connection is gone; ``alerts`` were sent before."""
        self._drop = None
        if not self.done.called:
            finding, words = _found(reason, alerts)
            error = ServiceTlsFailed(f"The TLS handshake failed: {words}.", finding=finding)
            self.done.errback(error)

    def _cancel(self, _: Deferred[Any]) -> None:
        if self._drop is not None:
            self._drop()


@implementer(IHandshakeListener)
class _Shaker(Protocol):
    """Sits inside of TLS until that is there."""

    def __init__(self, shaking: Shaking, addr: Any) -> None:
        self._shaking = shaking
        self._addr = addr
        self.alerts: Sequence[int] = ()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._shaking.began(transport.abortConnection)

    def handshakeCompleted(self) -> None:
        """The peer is who it should be."""
        if not self._shaking.done.called:
            self._shaking.shaken(self._addr, self.transport)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        self._shaking.failed(reason, self.alerts)


def _found(reason: Failure, alerts: Sequence[int]) -> tuple[str, str]:
    """Return a failed handshake's finding, and its cause in words that hold nothing inner."""
    error = reason.value
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        words = str(error.args[0][-1][-1]).lower() or "no reason was given"
        if words == "certificate verify failed":
            if _CERTIFICATE_EXPIRED in alerts:
                return "tls_expired", f"{words}: it has expired"
            return "tls_untrusted", f"{words}: no trusted authority"
        return "tls_missing" if words in _NO_TLS else "tls_failed", words
    if type(error).__name__ == "VerificationError":
        return "tls_name", "the certificate is for another name"
    return "tls_failed", "the service hung up"
