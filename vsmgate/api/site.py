"""The REST face over HTTP: what all its connections and requests share.

Built on `twisted.web.http` and not on its resources: every address is in one table, and
every answer, the errors too, is made in one place.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import NamedTuple

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import ServerFactory
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure
from twisted.web.http import Request, datetimeToString

from vsmgate.api.channel import ApiChannel
from vsmgate.api.cors import Cors
from vsmgate.api.desk import Desk
from vsmgate.api.metrics import Metrics
from vsmgate.api.problem import problem_reply
from vsmgate.api.reply import Header, octets
from vsmgate.api.request import ApiRequest
from vsmgate.api.route import Routes
from vsmgate.door import Door
from vsmgate.doorstep import Doorstep
from vsmgate.errors import GatewayError, QuotaExceeded
from vsmgate.forwarding import Networks, client_of
from vsmgate.line_limit import LineLimit

__all__ = ["AccessLine", "ApiSite"]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}", re.ASCII)

#: Routes whose good answers are no lines of the log (at debug they are).
PROBES = {"/healthz", "/readyz", "/metrics"}


class AccessLine(NamedTuple):
    """What is logged of one request: the event's ``access``, and so a line of the log.

    ``route``: the pattern that the path fits. ``octets``: of the body that was sent.
    """

    method: str
    path: str
    route: str
    status: int
    octets: int
    seconds: float
    subject: str
    request_id: str

    def __format__(self, spec: str) -> str:
        """Return the line; the logger's own formatting of eight fields costs a status call."""
        return (
            f"{self.method} {self.path} {self.status} {self.octets} B {self.seconds:.4f} s"
            f" {self.subject or '-'} {self.request_id}"
        )


class ApiSite(ServerFactory[ApiChannel]):
    """Makes the connections of the REST face, and holds what they share.

    ``head_timeout``: seconds from the connection, or a later request's first octet, to the
    end of the head. ``timeout``: seconds for the body then, and for which a connection
    without a request is kept. ``doorstep``: counts those who have not shown a token.
    ``max_calls``: of one user at a time.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        desk: Desk,
        routes: Routes,
        cors: Cors,
        metrics: Metrics,
        *,
        doorstep: Doorstep,
        max_calls: int,
        max_body: int,
        head_timeout: float,
        timeout: int = 60,
        door: Door | None = None,
        trusted: Networks = (),
    ) -> None:
        self.clock = clock
        self.desk = desk
        self.routes = routes
        self.cors = cors
        self.doorstep = doorstep
        self._max_calls = max_calls
        self._calls: dict[str, int] = {}
        self.max_body = max_body
        self.door = door or Door()
        self._trusted = trusted
        self.head_timeout = head_timeout
        self.closing = False
        self.channels: set[ApiChannel] = set()
        self._metrics = metrics
        self.timeout = timeout
        self._date = (-1, b"")
        self.strangers = LineLimit(clock.seconds, self._tell_unwritten)
        self._request_ids = map(f"{os.urandom(6).hex()}-{{:x}}".format, itertools.count(1))

    def buildProtocol(self, addr: IAddress | None) -> ApiChannel:
        """Make a connection that keeps time by our clock."""
        channel = ApiChannel()
        channel.factory = self
        channel.timeOut = self.timeout
        return channel

    def enter(self, subject: str) -> None:
        """Count a call until it `left`; fails with `QuotaExceeded` where there are too many."""
        calls = self._calls.get(subject, 0)
        if calls >= self._max_calls:
            raise QuotaExceeded(
                f"{self._max_calls} calls of yours wait for their answers, as many as are allowed."
            )
        self._calls[subject] = calls + 1

    def left(self, subject: str) -> None:
        """A call that was counted is over."""
        calls = self._calls.pop(subject) - 1
        if calls:
            self._calls[subject] = calls

    def date(self) -> bytes:
        """Return the value of ``Date``, made once a second."""
        now = int(self.clock.seconds())
        if now != self._date[0]:
            self._date = (now, datetimeToString())
        return self._date[1]

    def peer_of(self, request: Request) -> str:
        """Return the client's address."""
        peer = getattr(request.getClientAddress(), "host", "-")
        return client_of(_Head(request), peer, self._trusted)[0]

    def request_id(self, request: Request | None) -> str:
        """Return the client's ``X-Request-Id`` if it is one, else a new one."""
        if request is not None:
            shown = request.requestHeaders.getRawHeaders(b"X-Request-Id")
            if shown is not None and len(shown) == 1 and _REQUEST_ID.fullmatch(shown[0]):
                return shown[0].decode("ascii")
        return next(self._request_ids)

    def shared_headers(self, origin: bytes | None, request_id: str) -> tuple[Header, ...]:
        """Return the headers that every answer has."""
        return (*self.cors.headers(origin), (b"X-Request-Id", request_id.encode("ascii")))

    def refusal(self, error: GatewayError, request: Request | None, request_line: bytes) -> bytes:
        """Return the octets that refuse a request which has not arrived whole."""
        request_id = self.request_id(request)
        reply = problem_reply(error, request_id)
        origin = None if request is None else request.getHeader(b"Origin")
        method, target, _ = (*request_line.split(b" "), b"", b"")[:3]
        self._line(
            AccessLine(
                _shown(method),
                _shown(target),
                "",
                reply.status,
                len(reply.body),
                0.0,
                "",
                request_id,
            )
        )
        shared = self.shared_headers(origin, request_id)
        return octets(reply, shared, date=self.date(), close=True, bodyless=False)

    def log(self, request: Request) -> None:
        """Write the access line of an answered request (twisted.web calls this)."""
        assert isinstance(request, ApiRequest)
        self._line(
            AccessLine(
                request.method.decode("ascii"),
                _shown(request.path),
                "" if request.route is None else request.route.path,
                request.code,
                request.sentLength,
                self.clock.seconds() - request.began,
                request.subject,
                request.request_id,
            )
        )

    def _line(self, line: AccessLine) -> None:
        self._metrics.request(line.route, line.method, line.status, line.seconds)
        # What machines ask every few seconds would bury the rest.
        quiet = line.route in PROBES and line.status < 400
        level = LogLevel.debug if quiet else LogLevel.info
        if line.subject or quiet or self.strangers.allows():
            self._log.emit(level, "{access}", access=line)

    def _tell_unwritten(self, count: int) -> None:
        self._log.info("{count} more requests without an identity were not written", count=count)

    def trouble(self, error: GatewayError, request_id: str) -> None:
        """Log what an operator must see to: the store, or what checks credentials, is away."""
        self._log.warn("request {request_id}: {error}", request_id=request_id, error=error.detail)

    def fault(self, failure: Failure, request_id: str) -> None:
        """Log a fault of the gateway's own."""
        self._log.failure("request {request_id} failed", failure=failure, request_id=request_id)


class _Head:
    """A request's headers as `client_of` reads them."""

    def __init__(self, request: Request) -> None:
        self._headers = request.requestHeaders

    def all(self, name: str) -> tuple[str, ...]:
        values = self._headers.getRawHeaders(name.encode("ascii"), ())
        return tuple(value.decode("latin-1") for value in values)


def _shown(octets: bytes) -> str:
    """Return a part of a request line for the log: no query, nothing unprintable, not long."""
    return ascii(octets.partition(b"?")[0][:200].decode("latin-1"))[1:-1]
