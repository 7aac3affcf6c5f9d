"""TLS over connections, and to services; nothing below version 1.2."""

from __future__ import annotations

import os
from collections.abc import Callable
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
            "The certificates of the service's authority cannot be read."
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
    return optionsForClientTLS(name, trustRoot=trust, extraCertificateOptions=minimum)


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

    def failed(self, reason: Failure) -> None:
        """The connection is gone."""
        self._drop = None
        if not self.done.called:
            self.done.errback(ServiceTlsFailed(f"The TLS handshake failed: {_words(reason)}."))

    def _cancel(self, _: Deferred[Any]) -> None:
        if self._drop is not None:
            self._drop()


@implementer(IHandshakeListener)
class _Shaker(Protocol):
    """Sits inside of TLS until that is there."""

    def __init__(self, shaking: Shaking, addr: Any) -> None:
        self._shaking = shaking
        self._addr = addr

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self._shaking.began(transport.abortConnection)

    def handshakeCompleted(self) -> None:
        """The peer is who it should be."""
        if not self._shaking.done.called:
            self._shaking.shaken(self._addr, self.transport)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        self._shaking.failed(reason)


def _words(reason: Failure) -> str:
    """Return a failed handshake's cause in words that hold nothing of the inside."""
    error = reason.value
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return str(error.args[0][-1][-1]).lower() or "no reason was given"
    if type(error).__name__ == "VerificationError":
        return "the certificate is for another name"
    return "the service hung up"
