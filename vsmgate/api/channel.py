"""One connection of the REST face: twisted.web's HTTP/1.1, with limits, and never in HTML.

What is refused here is refused while the request still arrives: heads over 16 KiB or 64
headers, targets over 4 KiB, heads that two parsers could read differently (RFC 9112
sections 5.2, 6.1, 11.2), bodies over the cap, requests that take too long. The answer is
a problem document, and then the connection ends: what follows cannot be trusted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from vsmgate.api.request import ApiRequest
from vsmgate.api.stream import STALLED
from vsmgate.errors import (
    BadRequest,
    ClientError,
    GatewayError,
    HeadTimeout,
    HeadTooLarge,
    TooLarge,
    UriTooLong,
)

if TYPE_CHECKING:
    from vsmgate.api.site import ApiSite

__all__ = ["ApiChannel"]

_MAX_HEAD = 16384
_MAX_TARGET = 4096
_MAX_HEADERS = 64
#: Python refuses to read a number of thousands of digits, and twisted.web does not expect it.
_LONGEST_LENGTH = 100

#: After a refusal the peer may still be sending. Closing at once would reset the
#: connection and take our answer with it (RFC 9112 section 9.6): so much, and so long,
#: is read and thrown away.
_LINGER_SECONDS = 2.0
_LINGER_OCTETS = 1 << 20


class ApiChannel(HTTPChannel):
    """Reads requests one after the other from one connection."""

    MAX_LENGTH = _MAX_HEAD
    totalHeadersSize = _MAX_HEAD
    maxHeaders = _MAX_HEADERS

    requestFactory = ApiRequest
    transport: Any
    factory: ApiSite
    refused = False
    full = False  #: whether the transport takes no more for now
    known: Callable[[], None] = staticmethod(lambda: None)  #: the client has shown who it is

    _later = False
    _head_octets = 0
    _header_lines = 0
    _request_line = b""
    _arriving = False
    _linger_left = _LINGER_OCTETS
    _linger_end: IDelayedCall | None = None

    def callLater(self, period: float, func: Callable[[], object]) -> IDelayedCall:
        """Keep time by the site's clock."""
        return self.factory.clock.callLater(period, func)

    def connectionMade(self) -> None:
        """Become one of the site's connections, or be refused."""
        self.factory.channels.add(self)
        super().connectionMade()
        self.setTimeout(self.factory.head_timeout)
        try:
            self.known = self.factory.doorstep.enter(getattr(self.transport.getPeer(), "host", "-"))
        except GatewayError as error:
            self.refuse(error)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        """Leave the site."""
        self.factory.channels.discard(self)
        self.known()
        if self._linger_end is not None and self._linger_end.active():
            self._linger_end.cancel()
        super().connectionLost(reason)

    @property
    def idle(self) -> bool:
        """Whether no request is being served."""
        return not self.requests or self._arriving

    @property
    def streams(self) -> bool:
        """Whether an answer is under way that does not come to an end by itself."""
        return any(request.streams for request in self.requests)

    def cancel(self) -> None:
        """Give the running request up, if there is one."""
        for request in list(self.requests):
            request.cancel()

    def dataReceived(self, data: bytes) -> None:
        """Read; the clock runs for a whole head, so that drops of it do not stop it."""
        if self.refused:
            self._linger_left -= len(data)
            if self._linger_left < 0:
                self.transport.abortConnection()
            return
        if not self._arriving and not self.requests:
            self._arriving = True
            if self._later:
                self.setTimeout(self.factory.head_timeout)
        LineReceiver.dataReceived(self, data)

    def lineReceived(self, line: bytes) -> None:
        """Take one line of a head."""
        if self.refused:
            return
        self._head_octets += len(line) + 2
        if self._head_octets > _MAX_HEAD:
            self.refuse(HeadTooLarge(f"Send at most {_MAX_HEAD} octets of head."))
        elif not self._request_line:
            self._request_line = line
            super().lineReceived(line)
        elif line[:1] in (b" ", b"\t"):
            self.refuse(BadRequest("Header lines must not be folded."))
        else:
            self._header_lines += 1
            if line and self._header_lines > _MAX_HEADERS:
                self.refuse(HeadTooLarge(f"Send at most {_MAX_HEADERS} headers."))
            elif len(line) > _LONGEST_LENGTH and line[:15].lower() == b"content-length:":
                self.refuse(BadRequest("That is no Content-Length."))
            else:
                super().lineReceived(line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line without an end."""
        if self._request_line:
            self.refuse(HeadTooLarge(f"Send at most {_MAX_HEAD} octets of head."))
        else:
            self.refuse(UriTooLong(f"An address has at most {_MAX_TARGET} octets."))

    def allHeadersReceived(self) -> None:
        """Judge the whole head."""
        if self.refused:
            return
        error = self._judge(self.requests[-1])
        if error is not None:
            self.refuse(error)
            return
        self.setTimeout(self.factory.timeout)
        super().allHeadersReceived()

    def _judge(self, request: Request) -> ClientError | None:
        """Return what is wrong with a head that twisted.web takes."""
        _, target, version = self._request_line.split(b" ")
        if len(target) > _MAX_TARGET:
            return UriTooLong(f"An address has at most {_MAX_TARGET} octets.")
        if not target.startswith(b"/") or not target.isascii():
            return BadRequest("The request's target must be a path.")
        get = request.requestHeaders.getRawHeaders
        hosts = get(b"Host", ())
        if len(hosts) > 1 or (version == b"HTTP/1.1" and not hosts):
            return BadRequest("Send exactly one Host header.")
        codings = get(b"Transfer-Encoding")
        if codings is not None and (
            version != b"HTTP/1.1" or [c.lower() for c in codings] != [b"chunked"]
        ):
            return BadRequest("The only transfer coding here is chunked, in HTTP/1.1.")
        if self.length is not None and self.length > self.factory.max_body:
            return TooLarge(f"A body has at most {self.factory.max_body} octets.")
        return None

    def rawDataReceived(self, data: bytes) -> None:
        """Take octets of a body (or keep those of the next request)."""
        if self.refused:
            return
        super().rawDataReceived(data)
        if self.full:  # twisted.web would go on to keep what such a client sends
            self.transport.pauseProducing()

    def allContentReceived(self) -> None:
        """Hand the whole request over."""
        if self.refused:
            return
        self._head_octets = self._header_lines = 0
        self._request_line = b""
        self._arriving, self._later = False, True
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """Go on with the next request, or stop when the site is closing."""
        if self.factory.closing:
            self.persistent = 0
        super().requestDone(request)

    def pauseProducing(self) -> None:
        """Know that the transport has enough for now."""
        self.full = True
        super().pauseProducing()

    def resumeProducing(self) -> None:
        """Know that the transport takes more."""
        self.full = False
        super().resumeProducing()

    def loseConnection(self) -> None:
        """End the connection once all is sent, or cut it off when nobody takes that."""
        if self._linger_end is None and self in self.factory.channels:
            self._linger_end = self.callLater(STALLED, self.transport.abortConnection)
        super().loseConnection()

    def cut(self) -> None:
        """End the connection of a client that does not read; its further requests too."""
        self.persistent = 0
        self.transport.abortConnection()

    def timeoutConnection(self) -> None:
        """End an idle connection, or one whose request does not come to its end."""
        if self._arriving and not self.refused:
            self.refuse(HeadTimeout("Send the whole request sooner."))
        else:
            self.loseConnection()

    def refuse(self, error: GatewayError) -> None:
        """Answer with ``error`` in the middle of a request, and end the connection."""
        if self.refused:
            return
        self.refused = True
        self.setTimeout(None)
        request: Any = self.requests[-1] if self.requests else None
        self.transport.write(self.factory.refusal(error, request, self._request_line))
        transport = self.transport
        if not hasattr(transport, "loseWriteConnection"):  # TLS, and perhaps before its handshake
            self._linger_end = self.callLater(_LINGER_SECONDS, transport.abortConnection)
            self.loseConnection()
            return
        transport.unregisterProducer()
        transport.resumeProducing()
        transport.loseWriteConnection()
        self._linger_end = self.callLater(_LINGER_SECONDS, transport.abortConnection)

    def _respondToBadRequestAndDisconnect(self) -> None:
        """Refuse what twisted.web itself cannot read: upstream's own answer has no body."""
        self.refuse(BadRequest("This is not an HTTP/1.1 request as it is understood here."))
