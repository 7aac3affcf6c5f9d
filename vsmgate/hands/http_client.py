"""Asking other programs over HTTP, with a bound on everything.

One answer is a status and a body of limited size within a limited time. Redirects are
not followed (a credential would go where nobody meant it to), cookies are not kept (one
user's would be sent with another's question), and certificates are always verified.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, NoReturn

from msgspec import Struct
from OpenSSL import SSL
from treq.client import HTTPClient
from treq.cookies import IndexableCookieJar
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    HostnameCachingHTTPSPolicy,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.iweb import IPolicyForHTTPS

__all__ = ["HttpAnswer", "HttpClient", "HttpFailed", "http_client"]
__all__ += ["parse_authorities", "read_authorities", "wrong_with_authorities"]

#: Seconds that an idle connection is kept for the next question.
_KEEP = 30


class HttpFailed(Exception):
    """There is no answer, or none that is taken; says why, without any credential."""


class HttpAnswer(Struct, frozen=True):
    """Any answer, also an error's; ``body`` is complete. Header names in lower case."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class HttpClient:
    """Asks through ``treq``: a `treq.client.HTTPClient`, or `treq.testing.StubTreq`.

    ``timeout``: seconds from the question to the answer's last octet. ``max_body``:
    octets of an answer. ``once``: another, for what must not be sent twice.
    """

    _log = Logger()

    def __init__(
        self,
        treq: Any,
        clock: IReactorTime,
        *,
        timeout: float = 3.0,
        max_body: int = 262144,
        pool: HTTPConnectionPool | None = None,
        once: Any = None,
    ) -> None:
        self._treq = treq
        self._once = once or treq
        self._pool = pool
        self._clock = clock
        self._timeout = timeout
        self._max_body = max_body

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> HttpAnswer:
        """GET ``url``; fails with `HttpFailed`."""
        return await self.request("GET", url, headers or {})

    async def post(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> HttpAnswer:
        """POST ``form`` to ``url``; fails with `HttpFailed`."""
        return await self._within(self._ask(self._treq, "POST", url, headers or {}, dict(form)))

    async def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        *,
        again: bool | None = None,
    ) -> HttpAnswer:
        """Ask with any method and body; fails with `HttpFailed`.

        ``again``: the question may be sent twice, and so over a kept connection, which may turn
        out to be gone; without it, only if it is a GET.
        """
        treq = self._treq if (method == "GET" if again is None else again) else self._once
        return await self._within(self._ask(treq, method, url, headers, body))

    async def follow(
        self, url: str, headers: Mapping[str, str], receive: Callable[[bytes], None]
    ) -> int:
        """GET ``url``; hand over what comes, for as long as it comes; return the status.

        Only the answer's head must come within the timeout: to end it earlier, cancel. Fails
        with `HttpFailed`.
        """
        response = await self._bounded(self._open(self._treq, "GET", url, headers, None))
        body = _Body(0, receive)
        response.deliverBody(body)
        await body.whole
        return int(response.code)

    async def close(self) -> None:
        """Close the connections that are kept for the next question."""
        if self._pool is not None:
            await self._pool.closeCachedConnections()

    async def _within(self, asking: Any) -> HttpAnswer:
        answer: HttpAnswer = await self._bounded(asking)
        return answer

    async def _bounded(self, asking: Any) -> Any:
        def late(_: object, seconds: float) -> NoReturn:
            raise HttpFailed(f"no complete answer within {seconds:g} s")

        answer: Deferred[Any] = Deferred.fromCoroutine(asking)
        try:
            return await answer.addTimeout(self._timeout, self._clock, late)
        except (ResponseFailed, RequestTransmissionFailed) as error:
            raise HttpFailed(_said(error)) from None
        except (ConnectError, ConnectTimeout, ConnectionClosed, DNSLookupError) as error:
            raise HttpFailed(_said(error)) from None
        except (HttpFailed, CancelledError):
            raise
        except Exception as error:  # an edge: three libraries below have errors of their own
            self._log.failure("a question failed in an unknown way")
            raise HttpFailed(type(error).__name__) from None

    async def _open(
        self,
        treq: Any,
        method: str,
        url: str,
        headers: Mapping[str, str],
        data: dict[str, str] | bytes | None,
    ) -> Any:
        return await treq.request(
            method,
            url,
            headers={"Accept": "application/json", **headers},
            data=data,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,
        )

    async def _ask(self, *question: Any) -> HttpAnswer:
        response = await self._open(*question)
        body = _Body(self._max_body)
        response.deliverBody(body)
        named = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in response.headers.getAllRawHeaders()
        }
        return HttpAnswer(response.code, await body.whole, named)


class _Body(Protocol):
    """Collects an answer's body; ``whole`` fires with it.

    ``receive``: gets the body as it comes, instead.
    """

    def __init__(self, most: int, receive: Callable[[bytes], None] | None = None) -> None:
        self._receive = receive
        self.whole: Deferred[bytes] = Deferred(lambda _: self._hang_up())
        self._most = most
        self._parts = bytearray()

    def dataReceived(self, data: bytes) -> None:
        """Keep it, up to the limit."""
        if self._receive is not None:
            self._receive(data)
            return
        self._parts += data
        if len(self._parts) > self._most and not self.whole.called:
            self._parts.clear()
            self._hang_up()
            self.whole.errback(HttpFailed(f"the answer is larger than {self._most} octets"))

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]  # has a default upstream
        """The body ended, or broke off.

        `PotentialDataLoss` is a failure here: without length nor chunks nobody knows
        whether this was all.
        """
        if self.whole.called:
            return
        if reason.check(ResponseDone):
            self.whole.callback(bytes(self._parts))
        else:
            self.whole.errback(HttpFailed("the answer broke off"))

    def _hang_up(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            getattr(transport, "abortConnection", transport.stopProducing)()


def http_client(
    reactor: Any,
    *,
    ca_file: Path | None = None,
    timeout: float = 3.0,
    max_body: int = 262144,
    persistent: bool = True,
    tls: IPolicyForHTTPS | None = None,
) -> HttpClient:
    """Return a client on the network.

    ``ca_file``: the only authorities that are trusted; without it the system's. ``tls``:
    instead of it, such as a `vsmgate.hands.tls_identity.TlsIdentity`. ``persistent``: keep
    connections for what may be sent twice. Raises what `read_authorities` does.
    """
    policy: Any = tls or BrowserLikePolicyForHTTPS()
    if ca_file is not None:
        policy = BrowserLikePolicyForHTTPS(trustRootFromCertificates(read_authorities(ca_file)))
    policy = HostnameCachingHTTPSPolicy(policy)  # to read authorities takes milliseconds
    kept, single = (HTTPConnectionPool(reactor, persistent=keep) for keep in (persistent, False))
    kept.cachedConnectionTimeout = _KEEP
    no_cookies = IndexableCookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
    usual, once = (
        HTTPClient(Agent(reactor, policy, connectTimeout=timeout, pool=pool), no_cookies)
        for pool in (kept, single)
    )
    return HttpClient(usual, reactor, timeout=timeout, max_body=max_body, pool=kept, once=once)


def read_authorities(path: Path) -> list[Certificate]:
    """Return the certificates of a PEM file; raises `OSError`, `ValueError` for none."""
    return parse_authorities(path.read_bytes())


def wrong_with_authorities(path: Path) -> str:
    """Return why `read_authorities` fails, as the end of a sentence about the file; or nothing."""
    try:
        read_authorities(path)
    except OSError as error:
        return f"cannot be read: {(error.strerror or str(error)).lower()}"
    except ValueError as error:
        return str(error)
    return ""


def parse_authorities(text: bytes) -> list[Certificate]:
    """Return the certificates in PEM; raises `ValueError` for none."""
    mark = b"-----BEGIN CERTIFICATE-----"
    blocks = [mark + rest for rest in text.split(mark)[1:]]
    if not blocks:
        raise ValueError("holds no certificate in PEM form")
    try:
        return [Certificate.loadPEM(block) for block in blocks]
    except Exception as error:  # pyOpenSSL's own, or cryptography's: both mean the same
        raise ValueError("holds a certificate that cannot be read") from error


def _said(error: BaseException) -> str:
    """Return what went wrong, as one line; of a list of reasons, the first that says it."""
    reasons = getattr(error, "reasons", None) or []
    for reason in reasons:
        value = reason.value if isinstance(reason, Failure) else reason
        if value is not None and not isinstance(value, CancelledError):
            return _said(value)
    if isinstance(error, DNSLookupError):
        return "its name is not found"  # which one, is no user's business
    if isinstance(error, SSL.Error) and error.args and error.args[0]:
        return f"TLS failed: {error.args[0][-1][-1] or 'no reason was given'}"
    if type(error).__name__ == "VerificationError":  # of service_identity, with its objects
        return "TLS failed: the certificate is for another name"
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
