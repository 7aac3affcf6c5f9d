"""REST v1: use cases and jobs as resources."""

from __future__ import annotations

from vsmgate.api.call import Call
from vsmgate.api.desk import Desk
from vsmgate.api.reply import Reply, json_reply
from vsmgate.api.route import Route
from vsmgate.api.v1_bodies import (
    Extension,
    IssuedTicket,
    JobList,
    JobsQuery,
    LogsQuery,
    Me,
    StartJob,
    TicketRequest,
    Usage,
    UsecaseList,
    WaitQuery,
)
from vsmgate.api.views import JobView, UsecaseView, Views, moment
from vsmgate.errors import (
    AuthenticatorUnavailable,
    BadCursor,
    BadParameters,
    BadRequest,
    EngineRefused,
    EngineUnreachable,
    Forbidden,
    GatewayError,
    IdempotencyMismatch,
    JobConflict,
    JobEnded,
    NoSuchJob,
    NoSuchService,
    NoSuchUsecase,
    NotExtendable,
    QuotaExceeded,
    StoreUnavailable,
    TooLarge,
    TooManyFailures,
    Unauthenticated,
    UnsupportedMediaType,
    ViewUnsupported,
)
from vsmgate.model import Job

__all__ = ["V1"]

_TEXT = "text/plain; charset=utf-8"

_AUTH = (Unauthenticated, TooManyFailures, AuthenticatorUnavailable, StoreUnavailable)
_BODY = (BadRequest, BadParameters, TooLarge, UnsupportedMediaType)
_UNFIT: dict[type[GatewayError], int] = {BadParameters: 422, NoSuchUsecase: 422}


class V1:
    """The resources of v1."""

    def __init__(self, desk: Desk, views: Views) -> None:
        self._desk = desk
        self._views = views

    def routes(self) -> list[Route]:
        """Return the routes."""
        job = "/v1/jobs/{job_id}"
        return [
            Route(
                "GET", "/v1/usecases", self.usecases, "What may be started",
                {200: UsecaseList}, _AUTH,
            ),
            Route(
                "GET", "/v1/usecases/{name}", self.usecase, "One use case",
                {200: UsecaseView}, (*_AUTH, NoSuchUsecase), {NoSuchUsecase: 404},
            ),
            Route(
                "POST", "/v1/jobs", self.start, "Start a job",
                {202: JobView},
                (
                    *_AUTH, *_BODY, NoSuchUsecase, Forbidden, IdempotencyMismatch,
                    QuotaExceeded, EngineUnreachable,
                ),
                _UNFIT, body=StartJob, action="start",
            ),
            Route(
                "GET", "/v1/jobs", self.jobs, "Your jobs, or those shared with you",
                {200: JobList}, (*_AUTH, BadParameters, BadCursor), _UNFIT, query=JobsQuery,
            ),
            Route(
                "GET", job, self.job, "One job; answers early on a change",
                {200: JobView}, (*_AUTH, NoSuchJob, BadParameters), _UNFIT, query=WaitQuery,
            ),
            Route(
                "DELETE", job, self.stop, "End a job; 204: it was over",
                {202: JobView, 204: None}, (*_AUTH, NoSuchJob, Forbidden), action="stop",
            ),
            Route(
                "POST", f"{job}/extend", self.extend, "Move a job's end",
                {200: JobView},
                (*_AUTH, *_BODY, NoSuchJob, Forbidden, JobEnded, NotExtendable, EngineRefused),
                _UNFIT, body=Extension, action="extend",
            ),
            Route(
                "GET", f"{job}/logs", self.logs, "What a service wrote",
                {200: _TEXT},
                (*_AUTH, NoSuchJob, Forbidden, NoSuchService, BadParameters, EngineUnreachable),
                _UNFIT, query=LogsQuery,
            ),
            Route(
                "POST", f"{job}/tickets", self.ticket, "A one-time credential for a WebSocket",
                {201: IssuedTicket},
                (
                    *_AUTH, *_BODY, NoSuchJob, NoSuchService, JobEnded, JobConflict,
                    ViewUnsupported,
                ),
                _UNFIT, body=TicketRequest, action="ticket",
            ),
            Route("GET", "/v1/me", self.me, "Whom the token stands for", {200: Me}, _AUTH),
        ]  # fmt: skip

    async def usecases(self, call: Call) -> Reply:
        """List the use cases that the caller may start."""
        known = self._desk.usecases(call.identity)
        return json_reply(
            200, UsecaseList([self._views.usecase(known[name]) for name in sorted(known)])
        )

    async def usecase(self, call: Call) -> Reply:
        """Show one use case."""
        known = self._desk.usecases(call.identity)
        name = call.arguments["name"]
        if name not in known:
            raise NoSuchUsecase(
                f"There is no use case of this name; known: {', '.join(sorted(known)) or 'none'}."
            )
        return json_reply(200, self._views.usecase(known[name]))

    async def start(self, call: Call) -> Reply:
        """Start a job."""
        asked = call.read(StartJob)
        call.details["usecase"] = asked.usecase
        job, new = await self._desk.start(
            call.identity,
            asked.usecase,
            asked.parameters,
            name=asked.name,
            idempotency_key=call.key(),
        )
        call.details |= {"job": job.id, "new": new}
        headers = [(b"Location", f"/v1/jobs/{job.id}".encode("ascii"))]
        if not new:
            headers.append((b"Idempotency-Replayed", b"true"))
        return json_reply(202, self._views.job(job), tuple(headers))

    async def jobs(self, call: Call) -> Reply:
        """List the caller's jobs, or those shared with them."""
        asked = call.asked(JobsQuery)
        page = await self._desk.page(
            call.identity,
            frozenset(asked.state),
            asked.usecase,
            asked.limit,
            asked.cursor,
            shared=asked.shared,
        )
        items = [self._view(call, job) for job in page.items]
        return json_reply(200, JobList(items, page.next_cursor))

    async def job(self, call: Call) -> Reply:
        """Show one job, now or at its next change."""
        job_id = call.job_id()
        wait = call.asked(WaitQuery).wait
        job = await self._desk.get(call.identity, job_id)
        if wait and not job.ended and call.header(b"If-None-Match") in (None, _tag(job)):
            job = await self._desk.wait(call.identity, job_id, wait)
        return json_reply(200, self._view(call, job), ((b"ETag", _tag(job).encode("ascii")),))

    def _view(self, call: Call, job: Job) -> JobView:
        return self._views.job(job, self._desk.right(call.identity, job))

    async def stop(self, call: Call) -> Reply:
        """Ask for a job's end."""
        job = await self._desk.get(call.identity, call.job_id())
        if job.ended:
            return Reply(204)
        job = await self._desk.stop(call.identity, job.id)
        return json_reply(202, self._views.job(job))

    async def extend(self, call: Call) -> Reply:
        """Move a job's end."""
        job_id = call.job_id()
        seconds = call.details["seconds"] = call.read(Extension).seconds
        job = await self._desk.extend(call.identity, job_id, seconds)
        return json_reply(200, self._views.job(job))

    async def logs(self, call: Call) -> Reply:
        """Show the end of what a service wrote, as UTF-8 whatever it was."""
        job_id = call.job_id()
        asked = call.asked(LogsQuery)
        job = await self._desk.get(call.identity, job_id)
        service = asked.service or next(iter(job.usecase.services))
        if service not in job.usecase.services:
            known = ", ".join(job.usecase.services)
            raise NoSuchService(f"The job has no such service; it has: {known}.")
        text = await self._desk.logs(call.identity, job_id, service, asked.stream, asked.tail)
        return Reply(200, text.decode("utf-8", "replace").encode("utf-8"), _TEXT.encode("ascii"))

    async def ticket(self, call: Call) -> Reply:
        """Issue a one-time credential."""
        job_id = call.job_id()
        service = call.details["service"] = call.read(TicketRequest).service
        secret, ticket = await self._desk.issue_ticket(call.identity, job_id, service)
        url = f"{self._views.url(ticket.job_id, ticket.service)}?ticket={secret.reveal()}"
        return json_reply(201, IssuedTicket(secret.reveal(), moment(ticket.expires_at), url))

    async def me(self, call: Call) -> Reply:
        """Show whom the token stands for."""
        identity = call.identity
        jobs, max_jobs = self._desk.usage(identity)
        return json_reply(
            200,
            Me(
                identity.subject,
                identity.groups,
                identity.authenticator,
                moment(identity.expires_at),
                Usage(jobs, max_jobs),
                self._desk.administers(identity),
            ),
        )


def _tag(job: Job) -> str:
    """Return the job's ETag: weak, since ``stale_since`` comes and goes within a revision."""
    return f'W/"{job.revision}"'
