"""Plain requests to a service with pages of its own (``http = true``).

They come the way that `vsmgate.relay.opening` describes, as far as the dial. The first
request of a browser shows a token or a ticket; it gets a session instead
(`vsmgate.sessions`), as a cookie for the service's own path, so that the page's further
requests and WebSockets show that, and nothing that is worth more stays in a browser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vsmgate.bodies import Body, Sized
from vsmgate.config import RelayConfig
from vsmgate.credentials import Claim
from vsmgate.errors import BadRequest, MethodNotAllowed, OriginRefused
from vsmgate.heads import RequestHead, ResponseHead
from vsmgate.model import Prefix
from vsmgate.relay.crossing import gateway_headers, service_target
from vsmgate.relay.desk import Desk, Target
from vsmgate.relay.ending import Ending
from vsmgate.relay.exchange import Exchange
from vsmgate.relay.http_heads import (
    answer_head,
    navigates,
    redirect_head,
    request_head,
    session_cookie,
)
from vsmgate.relay.journal import Passage
from vsmgate.relay.leg import Leg
from vsmgate.relay.route import Route
from vsmgate.relay.watch import TunnelLimits

__all__ = ["HttpPassage", "check_question", "check_session"]

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

#: They are about the way: a tunnel, and an echo of the head, with the job's secret in it.
_FOR_PROXIES = frozenset({"CONNECT", "TRACE", "TRACK"})


def check_question(head: RequestHead, body: Body) -> None:
    """Fail unless ``head`` may ask a service without pages whether all is well: by a GET."""
    if head.method != "GET":
        raise MethodNotAllowed(["GET"])
    if not (isinstance(body, Sized) and body.done):
        raise BadRequest("A request without an upgrade has no body here.")


def check_session(head: RequestHead, claim: Claim, upgrade: bool) -> None:
    """Fail with `OriginRefused` where a session needs an Origin, and none is sent.

    Browsers send cookies by themselves, also for pages of others. With a WebSocket, or
    with whatever changes something, they name the page's origin, which was checked.
    """
    if claim.credential is None or claim.credential.kind != "session":
        return
    if (upgrade or head.method not in _SAFE) and head.one("Origin") is None:
        raise OriginRefused("With a page's session an Origin header is required.")


class HttpPassage:
    """One admitted plain request; fails with `MethodNotAllowed` for one that is not for a page."""

    def __init__(
        self,
        config: RelayConfig,
        desk: Desk,
        passage: Passage,
        head: RequestHead,
        claim: Claim,
        route: Route,
        target: Target,
    ) -> None:
        if head.method in _FOR_PROXIES:
            raise MethodNotAllowed(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
        self._config = config
        self._desk = desk
        self._passage = passage
        self._head = head
        self._claim = claim
        self._route = route
        self._target = target
        host, port = target.endpoint.host, target.endpoint.port
        self._host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def redirect(self) -> bytes:
        """Return an answer that sends a browser elsewhere, or nothing.

        A page's address ends with a slash, so that its relative addresses lead below it,
        and it shows no credential.
        """
        route, query = self._route, self._claim.query
        if not navigates(self._head) or (route.inner and query == self._head.query):
            return b""
        location = f"{route.public}{route.inner or '/'}{'?' if query else ''}{query}"
        return redirect_head(location, self._cookie()).render()

    def exchange(
        self,
        client: Leg,
        service: Leg,
        body: Body,
        limits: TunnelLimits,
        clock: Any,
        on_end: Callable[[Ending], None],
    ) -> Exchange:
        """Return the exchange between the two legs; the request counts as activity."""
        target, route = self._target, self._route
        self._desk.active(target.job.id)
        added = gateway_headers(
            self._config, self._passage, self._head, target, public=route.public
        )
        return Exchange(
            client,
            service,
            head=request_head(
                self._head,
                target=service_target(route.path_in(target.spec), self._claim.query),
                host=self._host,
                cookies=self._claim.cookies,
                added=added,
            ),
            body=body,
            answer=self._answer,
            idle_timeout=target.spec.idle_timeout,
            limits=limits,
            clock=clock,
            request_id=self._passage.request_id,
            on_end=on_end,
        )

    def _answer(self, head: ResponseHead) -> ResponseHead:
        return answer_head(
            head,
            host=self._host,
            public=self._route.public,
            strip=self._target.spec.prefix is Prefix.STRIP,
            cookie=self._cookie(),
        )

    def _cookie(self) -> str:
        credential = self._claim.credential
        if credential is None or credential.kind == "session":
            return ""
        session = self._desk.session(self._target)
        return session_cookie(session, self._route.public, self._config.tls_public)
