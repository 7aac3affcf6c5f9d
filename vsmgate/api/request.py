"""One request of the REST face: finds the route, checks the token, runs the handler, answers."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request

from vsmgate.api.call import ANYBODY, Call
from vsmgate.api.problem import problem_reply
from vsmgate.api.reply import Reply, head, octets
from vsmgate.api.route import Route
from vsmgate.api.stream import PIECE, Outlet, Stream, chunk
from vsmgate.errors import (
    AuthenticatorUnavailable,
    Forbidden,
    GatewayError,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from vsmgate.model import Identity, Secret

if TYPE_CHECKING:
    from vsmgate.api.channel import ApiChannel
    from vsmgate.api.site import ApiSite

__all__ = ["ApiRequest"]

#: RFC 6750 section 2.1.
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*) *", re.ASCII)

#: What the access line says when the client did not wait for an answer.
_HUNG_UP = 499


class ApiRequest(Request):
    """One request."""

    channel: ApiChannel

    subject = ""
    peer = ""
    route: Route | None = None
    request_id = ""
    began = 0.0
    streams = False  #: whether the answer goes on until it is cancelled

    _counted = False
    _received = 0
    _gone = False
    _work: Deferred[None] | None = None

    def __init__(
        self, channel: HTTPChannel, queued: object = False, parsePOSTFormSubmission: bool = False
    ) -> None:
        # Nobody here reads forms, and a small one can be made to take seconds.
        super().__init__(channel, queued, parsePOSTFormSubmission)

    def gotLength(self, length: int | None) -> None:
        """Make room for a body (the channel refused a too long one)."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep octets of the body, up to the cap."""
        if self.channel.refused:
            return
        site = self.channel.factory
        self._received += len(data)
        if self._received > site.max_body:
            self.channel.refuse(TooLarge(f"A body has at most {site.max_body} octets."))
        else:
            cast(BytesIO, self.content).write(data)

    def parseCookies(self) -> None:
        """Do not: nothing here trusts a cookie."""

    def process(self) -> None:
        """Answer, in this turn or later; a hang-up cancels the handler."""
        site = self.channel.factory
        self.began = site.clock.seconds()
        self.request_id = site.request_id(self)
        self._work = Deferred.fromCoroutine(self._answer(site))
        self._work.addErrback(site.fault, self.request_id)

    def cancel(self) -> None:
        """Give the handler up; a client that is still there reads 503."""
        if self._work is not None:
            self._work.cancel()

    def finish(self) -> None:
        """Be done; the next request may begin before this returns."""
        self._leave()
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        """Cancel the handler: nobody waits for its answer."""
        self._gone = True
        self._leave()
        if self._work is not None and not self.finished:
            self.code = _HUNG_UP
            self.channel.factory.log(self)
            self._work.cancel()
        super().connectionLost(reason)

    def _leave(self) -> None:
        if self._counted:  # it is one of its user's calls under way
            self._counted = False
            self.channel.factory.left(self.subject)

    async def _answer(self, site: ApiSite) -> None:
        """Find the route and run it; any failure becomes a reply."""
        reply: Reply | Stream
        try:
            reply = await self._run(site)
        except GatewayError as error:
            if type(error) is GatewayError:
                reply = self._internal(site, Failure())
            else:
                if isinstance(error, StoreUnavailable | AuthenticatorUnavailable):
                    site.trouble(error, self.request_id)
                status = error.status if self.route is None else self.route.status(error)
                reply = problem_reply(error, self.request_id, status=status)
        except CancelledError:
            if self._gone:
                return
            reply = problem_reply(Unavailable("The gateway is shutting down."), self.request_id)
        except Exception:
            reply = self._internal(site, Failure())
        if isinstance(reply, Stream):
            await self._stream(site, reply)
        else:
            await self._respond(site, reply)

    async def _run(self, site: ApiSite) -> Reply | Stream:
        path = self.path.decode("ascii")
        method = self.method.decode("ascii")
        if method == "OPTIONS":
            return self._options(site, path)
        self.route, arguments = site.routes.find(method, path)
        identity = ANYBODY if self.route.open else await self._authenticate(site)
        call = Call(identity, arguments, self.args, self._header, self._body, self.request_id)
        if not self.route.action:
            return await self._allowed(site, call)
        outcome = "cancelled"  # the client hung up, or the gateway ends
        try:
            reply = await self._allowed(site, call)
            outcome = "ok"
        except CancelledError:
            raise
        except Exception as error:
            outcome = (error if isinstance(error, GatewayError) else GatewayError).code
            raise
        finally:
            self._record(site, self.route, call, outcome)
        return reply

    async def _allowed(self, site: ApiSite, call: Call) -> Reply | Stream:
        assert self.route is not None
        if self._gone:
            raise CancelledError  # though whoever authenticates went on
        if self.subject:
            site.enter(self.subject)
            self._counted = True
        if self.route.administrator and not site.desk.administers(call.identity):
            raise Forbidden("This is for administrators of the gateway.")
        return await self.route.handler(call)

    def _record(self, site: ApiSite, route: Route, call: Call, outcome: str) -> None:
        job = call.details.pop("job", call.arguments.get("job_id", ""))
        site.door.audit.record(
            route.action,
            outcome=outcome,
            subject=call.identity.subject,
            authenticator=call.identity.authenticator,
            job=str(job).lower(),  # as `Call.job_id` reads it, so that it can be searched for
            peer=self.peer,
            request_id=self.request_id,
            **call.details,
        )

    def _options(self, site: ApiSite, path: str) -> Reply:
        """Answer a preflight, for any address: the page shall read the real call's 404."""
        if self.getHeader(b"Access-Control-Request-Method") is not None:
            return Reply(204, headers=site.cors.preflight(self.getHeader(b"Origin")))
        allowed = ", ".join(site.routes.allowed(path)).encode("ascii")
        return Reply(204, headers=((b"Allow", allowed),))

    async def _authenticate(self, site: ApiSite) -> Identity:
        shown = self.requestHeaders.getRawHeaders(b"Authorization", ())
        if not shown:
            raise Unauthenticated("Send the header Authorization: Bearer TOKEN.")
        found = _BEARER.fullmatch(shown[0].decode("latin-1"))
        if found is None or len(shown) > 1:
            raise Unauthenticated("The Authorization header must be one Bearer TOKEN.")
        credential, door = Secret(found[1]), site.door
        self.peer = site.peer_of(self)
        door.check(credential, self.peer, self.request_id, "rest")
        try:
            identity = await site.desk.authenticate(credential)
        except Unauthenticated:
            door.failed(credential, self.peer, self.request_id, "rest")
            raise
        door.passed(credential)
        self.subject = identity.subject
        self.channel.known()
        return identity

    def _body(self) -> bytes:
        return cast(BytesIO, self.content).getvalue()

    def _header(self, name: bytes) -> str | None:
        value = self.getHeader(name)
        return None if value is None else value.decode("latin-1")

    async def _respond(self, site: ApiSite, reply: Reply) -> None:
        """Write the reply, if the client is there, and finish once the connection has room.

        Only then comes the next request: answers that nobody reads must not pile up.
        """
        if self._gone or self.finished:
            return
        bodyless = self.method == b"HEAD"
        self.startedWriting = 1
        self.code = reply.status
        self.sentLength = 0 if bodyless else len(reply.body)
        answer = octets(
            reply,
            site.shared_headers(self.getHeader(b"Origin"), self.request_id),
            date=site.date(),
            close=site.closing or not self.channel.persistent,
            bodyless=bodyless,
        )
        self.channel.write(answer[:PIECE])
        if self.channel.full or len(answer) > PIECE:
            await self._outlet(site).send(self.channel.write, answer[PIECE:])
        if not self._gone:
            self.unregisterProducer()
            self.finish()

    async def _stream(self, site: ApiSite, stream: Stream) -> None:
        """Write the head, and each piece once the connection has room for it.

        Whoever speaks HTTP/1.0 reads up to the end of the connection. A cancel, as when the
        gateway stops, ends the body as if it were whole: the client comes again.
        """
        if self._gone or self.finished:
            return
        chunked = self.clientproto == b"HTTP/1.1"
        if not chunked:
            self.channel.persistent = 0
        parts = head(
            Reply(200, headers=stream.headers),
            site.shared_headers(self.getHeader(b"Origin"), self.request_id),
            date=site.date(),
            close=site.closing or not self.channel.persistent,
        )
        parts += (b"\r\nContent-Type: ", stream.content_type)
        parts.append(b"\r\nTransfer-Encoding: chunked\r\n\r\n" if chunked else b"\r\n\r\n")
        self.startedWriting, self.code, self.sentLength = 1, 200, 0
        self.channel.write(b"".join(parts))
        if self.method != b"HEAD":
            self.streams = True
            await self._pour(site, stream, chunked)
        await stream.pieces.aclose()
        if not self._gone:
            self.unregisterProducer()
            self.finish()

    async def _pour(self, site: ApiSite, stream: Stream, chunked: bool) -> None:
        self.chunked = int(chunked)  # then `finish` writes the last chunk
        outlet = self._outlet(site)
        try:
            async for piece in stream.pieces:
                self.channel.write(chunk(piece) if chunked else piece)
                self.sentLength += len(piece)
                await outlet.room()
        except CancelledError:
            pass
        except GatewayError as error:  # it comes too late for a status
            site.trouble(error, self.request_id)
        except Exception:
            site.fault(Failure(), self.request_id)

    def _outlet(self, site: ApiSite) -> Outlet:
        outlet = Outlet(site.clock, self.channel.cut, self.channel.full)
        self.registerProducer(outlet, True)
        return outlet

    def _internal(self, site: ApiSite, failure: Failure) -> Reply:
        """Log a fault of ours, and say no more than that there was one."""
        site.fault(failure, self.request_id)
        error = GatewayError("The gateway failed; its log knows more under the request id.")
        return problem_reply(error, self.request_id)
