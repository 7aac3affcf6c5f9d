"""``/v1/admin``: everybody's jobs and the engines, for administrators.

Others get 403. That these addresses exist is no secret: ``/openapi.json`` lists them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta, Struct

from vsmgate.api.call import Call
from vsmgate.api.desk import Desk, Engine
from vsmgate.api.reply import Reply, json_reply
from vsmgate.api.route import Route
from vsmgate.api.v1_bodies import JobList
from vsmgate.api.views import JobView, Moment, Views, moment
from vsmgate.errors import (
    AuthenticatorUnavailable,
    BadCursor,
    BadParameters,
    BadRequest,
    Forbidden,
    GatewayError,
    NoSuchJob,
    NoSuchRevocation,
    StoreUnavailable,
    TooLarge,
    TooManyFailures,
    Unauthenticated,
    UnsupportedMediaType,
)
from vsmgate.lifecycle import State

__all__ = ["Admin"]

_AUTH = (Unauthenticated, TooManyFailures, AuthenticatorUnavailable, StoreUnavailable, Forbidden)
_UNFIT: dict[type[GatewayError], int] = {BadParameters: 422}

Subject = Annotated[str, Meta(min_length=1, max_length=256)]


class AllJobsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs: of this owner, in one of these states, of this use case and launcher."""

    owner: str | None = None
    state: tuple[State, ...] = ()
    usecase: str | None = None
    launcher: str | None = None
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    cursor: str | None = None


class EngineView(Struct, frozen=True):
    """How a launcher gets on with its engine.

    ``state``: ``unreachable`` engines are tried again in ``next_try`` seconds, later after
    each of the ``failures`` in a row. ``trouble``: what the last one said. ``jobs``: live ones
    by state.
    """

    name: str
    state: str
    stale_since: Moment | None
    failures: int
    trouble: str
    next_try: float | None
    jobs: dict[str, int]


class EngineList(Struct, frozen=True):
    """All engines."""

    items: list[EngineView]


class Revocation(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose tokens, tickets and sessions of until now are refused from now on."""

    subject: Subject


class RevokedQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose revocation is taken back."""

    subject: Subject


class RevocationView(Struct, frozen=True):
    """What the subject was given until then is refused."""

    subject: str
    revoked_at: Moment


class RevocationList(Struct, frozen=True):
    """All revocations, the latest first."""

    items: list[RevocationView]


class Admin:
    """The resources of administrators."""

    def __init__(self, desk: Desk, views: Views) -> None:
        self._desk = desk
        self._views = views

    def routes(self) -> list[Route]:
        """Return the routes."""
        job = "/v1/admin/jobs/{job_id}"
        return [
            Route(
                "GET", "/v1/admin/jobs", self.jobs, "Everybody's jobs",
                {200: JobList}, (*_AUTH, BadParameters, BadCursor), _UNFIT,
                query=AllJobsQuery, action="admin_list_jobs", administrator=True,
            ),
            Route(
                "GET", job, self.job, "Anybody's job",
                {200: JobView}, (*_AUTH, NoSuchJob),
                action="admin_show_job", administrator=True,
            ),
            Route(
                "DELETE", job, self.stop, "End anybody's job; 204: it was over",
                {202: JobView, 204: None}, (*_AUTH, NoSuchJob),
                action="admin_stop", administrator=True,
            ),
            Route(
                "GET", "/v1/admin/engines", self.engines, "The engines",
                {200: EngineList}, _AUTH,
                action="admin_list_engines", administrator=True,
            ),
            Route(
                "GET", "/v1/admin/revocations", self.revocations, "What was revoked",
                {200: RevocationList}, _AUTH,
                action="admin_list_revocations", administrator=True,
            ),
            Route(
                "POST", "/v1/admin/revocations", self.revoke, "Revoke a user's tokens",
                {200: RevocationView},
                (*_AUTH, BadRequest, BadParameters, TooLarge, UnsupportedMediaType),
                _UNFIT, body=Revocation, action="admin_revoke", administrator=True,
            ),
            Route(
                "DELETE", "/v1/admin/revocations", self.lift, "Take a revocation back",
                {204: None}, (*_AUTH, BadParameters, NoSuchRevocation),
                _UNFIT, query=RevokedQuery, action="admin_lift_revocation", administrator=True,
            ),
        ]  # fmt: skip

    async def jobs(self, call: Call) -> Reply:
        """List everybody's jobs."""
        asked = call.asked(AllJobsQuery)
        call.details["owner"] = asked.owner
        page = await self._desk.administration.page(
            asked.owner,
            frozenset(asked.state),
            asked.usecase,
            asked.launcher,
            asked.limit,
            asked.cursor,
        )
        items = [self._views.job(job) for job in page.items]
        return json_reply(200, JobList(items, page.next_cursor))

    async def job(self, call: Call) -> Reply:
        """Show anybody's job."""
        job = await self._desk.administration.get(call.job_id())
        call.details["owner"] = job.owner
        return json_reply(200, self._views.job(job))

    async def stop(self, call: Call) -> Reply:
        """Ask for the end of anybody's job."""
        job = await self._desk.administration.get(call.job_id())
        call.details["owner"] = job.owner
        if job.ended:
            return Reply(204)
        job = await self._desk.administration.stop(call.identity, job.id)
        return json_reply(202, self._views.job(job))

    async def engines(self, call: Call) -> Reply:
        """Show the engines."""
        found = self._desk.administration.engines()
        return json_reply(200, EngineList([_engine(engine) for engine in found]))

    async def revocations(self, call: Call) -> Reply:
        """List what was revoked, the latest first."""
        found = self._desk.administration.revocations()
        items = [_revocation(s, found[s]) for s in sorted(found, key=lambda s: -found[s])]
        return json_reply(200, RevocationList(items))

    async def revoke(self, call: Call) -> Reply:
        """Refuse what a user was given until now."""
        subject = call.read(Revocation).subject
        call.details["owner"] = subject
        at = await self._desk.administration.revoke(subject)
        return json_reply(200, _revocation(subject, at))

    async def lift(self, call: Call) -> Reply:
        """Take a revocation back."""
        subject = call.details["owner"] = call.asked(RevokedQuery).subject
        await self._desk.administration.lift(subject)
        return Reply(204)


def _revocation(subject: str, at: float) -> RevocationView:
    return RevocationView(subject, datetime.fromtimestamp(round(at, 3), UTC))


def _engine(engine: Engine) -> EngineView:
    return EngineView(
        engine.name,
        "ok" if engine.reachable else "unreachable",
        moment(engine.stale_since),
        engine.failures,
        engine.trouble,
        engine.next_try,
        engine.jobs,
    )
