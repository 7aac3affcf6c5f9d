"""Who we are, and whom we trust, when we ask a server over TLS."""

from __future__ import annotations

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

__all__ = ["TlsIdentity", "parse_identity"]


@implementer(IPolicyForHTTPS)
class TlsIdentity:
    """Who is trusted, and who we are, in TLS.

    ``authorities``: the only ones; empty for the system's. ``own``: our certificate and its
    key. ``server_name``: what the server's certificate must be for; empty for its host.
    """

    def __init__(
        self,
        authorities: list[Certificate],
        own: PrivateCertificate | None = None,
        server_name: str = "",
    ) -> None:
        self._trust = trustRootFromCertificates(authorities) if authorities else None
        self._own = own
        self._server_name = server_name

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        name = self._server_name or hostname.decode("ascii")
        return optionsForClientTLS(name, trustRoot=self._trust, clientCertificate=self._own)


def parse_identity(pem: bytes) -> PrivateCertificate:
    """Return a certificate with its key, out of PEM; raises `ValueError`."""
    try:
        identity: PrivateCertificate = PrivateCertificate.loadPEM(pem)
    except (SSL.Error, crypto.Error, ValueError, TypeError) as error:
        raise ValueError("holds no certificate with its unencrypted key in PEM form") from error
    return identity
