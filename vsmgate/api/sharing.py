"""REST v1: sharing a job, redeeming an invitation, and who is connected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

from msgspec import UNSET, Meta, Struct, UnsetType

from vsmgate.api.call import Call
from vsmgate.api.reply import Reply, json_reply
from vsmgate.api.route import Route
from vsmgate.api.views import Moment, moment
from vsmgate.errors import (
    AuthenticatorUnavailable,
    BadParameters,
    BadRequest,
    Forbidden,
    GatewayError,
    JobConflict,
    JobEnded,
    NoSuchGrant,
    NoSuchInvitation,
    NoSuchJob,
    Problem,
    StoreUnavailable,
    TooLarge,
    Unauthenticated,
    UnsupportedMediaType,
    ViewUnsupported,
)
from vsmgate.grants import Grant, Invitation, Right, Visitor
from vsmgate.model import Identity, Job, Secret

__all__ = ["Sharing", "SharingDesk"]

#: A subject or a group: no control characters, which no identity has.
Who = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Given = Literal["view", "control"]
#: Ten years: nothing lives longer, and the sum with the present time stays a time.
Seconds = Annotated[float, Meta(gt=0, le=315_360_000)]


class GrantRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who gets which right: ``subject`` or ``group``, for ``expires_in`` seconds or for good."""

    right: Given
    subject: Who | None = None
    group: Who | None = None
    expires_in: Seconds | None = None


class InvitationRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A right for the first ``uses`` users who redeem it within ``expires_in`` seconds."""

    right: Given
    expires_in: Annotated[float, Meta(gt=0, le=2_592_000)] = 86400.0
    uses: Annotated[int, Meta(ge=1, le=100)] = 1


class Redemption(Struct, frozen=True, forbid_unknown_fields=True):
    """An invitation, as its maker was told it."""

    invitation: Annotated[str, Meta(max_length=200)]


class GrantView(Struct, frozen=True):
    """A grant; ``invitation``: the id of the one that it came by."""

    id: str
    right: Right
    subject: str | None
    group: str | None
    created_at: Moment | None
    expires_at: Moment | None
    invitation: str | None


class GrantList(Struct, frozen=True):
    """A job's grants, oldest first."""

    items: list[GrantView]


class InvitationView(Struct, frozen=True):
    """An invitation. ``invitation``, its secret, is there once: in the answer that makes it."""

    id: str
    right: Right
    created_at: Moment | None
    expires_at: Moment | None
    uses: int
    redeemed: tuple[str, ...]
    invitation: str | UnsetType = UNSET


class InvitationList(Struct, frozen=True):
    """A job's invitations, oldest first."""

    items: list[InvitationView]


class Redeemed(Struct, frozen=True):
    """The job that one has a right on now."""

    job_id: str
    right: Right


class VisitorView(Struct, frozen=True):
    """Somebody with an open WebSocket to a service."""

    subject: str
    service: str
    right: Right
    since: Moment | None


class Presence(Struct, frozen=True):
    """Who is connected, longest first; as of a few seconds ago."""

    items: list[VisitorView]


class SharingDesk(Protocol):
    """What these routes ask of the house (`vsmgate.jobs.share_desk.ShareDesk` does it)."""

    async def grants(self, identity: Identity, job_id: str) -> Sequence[Grant]:
        """Return a job's grants."""

    async def grant(
        self,
        identity: Identity,
        job_id: str,
        right: Right,
        *,
        subject: str | None = None,
        group: str | None = None,
        expires_in: float | None = None,
    ) -> Grant:
        """Give a right."""

    async def revoke(self, identity: Identity, job_id: str, grant_id: str) -> None:
        """Take a grant back."""

    async def invitations(self, identity: Identity, job_id: str) -> Sequence[Invitation]:
        """Return a job's invitations."""

    async def invite(
        self, identity: Identity, job_id: str, right: Right, expires_in: float, uses: int
    ) -> tuple[Secret, Invitation]:
        """Make an invitation; return its secret too."""

    async def withdraw(self, identity: Identity, job_id: str, invitation_id: str) -> None:
        """Take an invitation back."""

    async def redeem(self, identity: Identity, secret: Secret) -> tuple[Job, Right]:
        """Take what an invitation gives."""

    async def presence(self, identity: Identity, job_id: str) -> Sequence[Visitor]:
        """Return who is connected."""


class Sharing:
    """The resources of sharing."""

    def __init__(self, desk: SharingDesk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Return the routes."""
        job = "/v1/jobs/{job_id}"
        auth = (Unauthenticated, AuthenticatorUnavailable, StoreUnavailable)
        owner = (*auth, NoSuchJob, Forbidden)
        body = (BadRequest, BadParameters, TooLarge, UnsupportedMediaType)
        give = (*owner, *body, JobEnded, JobConflict, ViewUnsupported)
        unfit: dict[type[GatewayError], int] = {BadParameters: 422}
        return [
            Route("GET", f"{job}/grants", self.grants, "Who else may reach a job",
                  {200: GrantList}, owner),
            Route("POST", f"{job}/grants", self.grant, "Share a job",
                  {201: GrantView}, give, unfit, body=GrantRequest, action="grant"),
            Route("DELETE", f"{job}/grants/{{grant_id}}", self.revoke, "Take a grant back",
                  {204: None}, (*owner, NoSuchGrant), action="revoke_grant"),
            Route("GET", f"{job}/invitations", self.invitations, "A job's invitations",
                  {200: InvitationList}, owner),
            Route("POST", f"{job}/invitations", self.invite, "Make an invitation to a job",
                  {201: InvitationView}, give, unfit, body=InvitationRequest, action="invite"),
            Route("DELETE", f"{job}/invitations/{{invitation_id}}", self.withdraw,
                  "Take an invitation back; what it gave stays",
                  {204: None}, (*owner, NoSuchGrant), action="withdraw_invitation"),
            Route("POST", "/v1/invitations/redeem", self.redeem, "Follow an invitation",
                  {200: Redeemed}, (*auth, *body, NoSuchInvitation, JobConflict),
                  unfit, body=Redemption, action="redeem"),
            Route("GET", f"{job}/presence", self.presence, "Who is connected to a job",
                  {200: Presence}, (*auth, NoSuchJob)),
        ]  # fmt: skip

    async def grants(self, call: Call) -> Reply:
        """List the grants."""
        found = await self._desk.grants(call.identity, call.job_id())
        return json_reply(200, GrantList([_grant(grant) for grant in found]))

    async def grant(self, call: Call) -> Reply:
        """Make a grant."""
        job_id, asked = call.job_id(), call.read(GrantRequest)
        if (asked.subject is None) is (asked.group is None):
            problem = Problem("/subject", "give either this or group")
            raise BadParameters("Give either subject or group.", problems=[problem])
        call.details |= {"right": asked.right, "to": asked.subject, "to_group": asked.group}
        grant = await self._desk.grant(
            call.identity,
            job_id,
            Right(asked.right),
            subject=asked.subject,
            group=asked.group,
            expires_in=asked.expires_in,
        )
        call.details["grant"] = grant.id
        return json_reply(201, _grant(grant))

    async def revoke(self, call: Call) -> Reply:
        """Take a grant back."""
        grant_id = call.details["grant"] = call.arguments["grant_id"]
        await self._desk.revoke(call.identity, call.job_id(), grant_id)
        return Reply(204)

    async def invitations(self, call: Call) -> Reply:
        """List the invitations."""
        found = await self._desk.invitations(call.identity, call.job_id())
        return json_reply(200, InvitationList([_invitation(one) for one in found]))

    async def invite(self, call: Call) -> Reply:
        """Make an invitation."""
        job_id, asked = call.job_id(), call.read(InvitationRequest)
        call.details["right"] = asked.right
        secret, invitation = await self._desk.invite(
            call.identity, job_id, Right(asked.right), asked.expires_in, asked.uses
        )
        call.details["invitation"] = invitation.id
        return json_reply(201, _invitation(invitation, secret))

    async def withdraw(self, call: Call) -> Reply:
        """Take an invitation back."""
        one = call.details["invitation"] = call.arguments["invitation_id"]
        await self._desk.withdraw(call.identity, call.job_id(), one)
        return Reply(204)

    async def redeem(self, call: Call) -> Reply:
        """Follow an invitation."""
        secret = Secret(call.read(Redemption).invitation)
        job, right = await self._desk.redeem(call.identity, secret)
        call.details |= {"job": job.id, "right": right}
        return json_reply(200, Redeemed(job.id, right))

    async def presence(self, call: Call) -> Reply:
        """Tell who is connected."""
        found = await self._desk.presence(call.identity, call.job_id())
        return json_reply(
            200,
            Presence([VisitorView(v.subject, v.service, v.right, moment(v.since)) for v in found]),
        )


def _grant(grant: Grant) -> GrantView:
    return GrantView(
        grant.id,
        grant.right,
        grant.subject,
        grant.group,
        moment(grant.created_at),
        moment(grant.expires_at),
        grant.invitation,
    )


def _invitation(one: Invitation, secret: Secret | None = None) -> InvitationView:
    return InvitationView(
        one.id,
        one.right,
        moment(one.created_at),
        moment(one.expires_at),
        one.uses,
        one.redeemed,
        UNSET if secret is None else secret.reveal(),
    )
