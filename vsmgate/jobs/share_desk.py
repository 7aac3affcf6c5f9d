"""Where an owner shares a job, and who is invited comes in."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from twisted.logger import Logger

from vsmgate.errors import NoSuchInvitation, NoSuchJob
from vsmgate.grants import Grant, Invitation, Right, Visitor
from vsmgate.jobs import sharing
from vsmgate.jobs.access import Access
from vsmgate.jobs.book import JobBook
from vsmgate.model import JOB_ID, Identity, Job, Secret

__all__ = ["ShareDesk"]


class ShareDesk:
    """Grants, invitations and presence; all but the last two are for a job's owner."""

    _log = Logger()

    def __init__(self, book: JobBook, access: Access, wall: Callable[[], float]) -> None:
        self._book = book
        self._access = access
        self._wall = wall

    async def grants(self, identity: Identity, job_id: str) -> Sequence[Grant]:
        """Return a job's grants that have not expired, oldest first."""
        job = await self._access.permitted(identity, job_id, Right.OWNER)
        return [grant for grant in job.grants if grant.current(self._wall())]

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
        """Give a right to a subject or to a group, instead of the one that it has."""
        await self._access.permitted(identity, job_id, Right.OWNER)
        now = self._wall()
        until = None if expires_in is None else now + expires_in
        grant = Grant(_new_id(), right, now, subject, group, until)
        await self._book.update(job_id, lambda job: sharing.granted(job, grant, now))
        self._log.info(
            "{owner} shares {job}: {right}", owner=identity.subject, job=job_id, right=right
        )
        return grant

    async def revoke(self, identity: Identity, job_id: str, grant_id: str) -> None:
        """Take a grant back; the relays that are open by it are closed."""
        await self._access.permitted(identity, job_id, Right.OWNER)
        await self._book.update(job_id, lambda job: sharing.revoked(job, grant_id))

    async def invitations(self, identity: Identity, job_id: str) -> Sequence[Invitation]:
        """Return a job's invitations that have not expired, oldest first."""
        job = await self._access.permitted(identity, job_id, Right.OWNER)
        return [one for one in job.invitations if one.current(self._wall())]

    async def invite(
        self, identity: Identity, job_id: str, right: Right, expires_in: float, uses: int
    ) -> tuple[Secret, Invitation]:
        """Make an invitation; its secret is shown this once, and tells which job it is of."""
        await self._access.permitted(identity, job_id, Right.OWNER)
        now = self._wall()
        secret = Secret(f"{job_id}.{secrets.token_urlsafe(24)}")
        invitation = Invitation(_new_id(), secret.digest(), right, now, now + expires_in, uses)
        await self._book.update(job_id, lambda job: sharing.invited(job, invitation, now))
        return secret, invitation

    async def withdraw(self, identity: Identity, job_id: str, invitation_id: str) -> None:
        """Let nobody else come by an invitation."""
        await self._access.permitted(identity, job_id, Right.OWNER)
        await self._book.update(job_id, lambda job: sharing.uninvited(job, invitation_id))

    async def redeem(self, identity: Identity, secret: Secret) -> tuple[Job, Right]:
        """Take the right that an invitation gives; return the job and the right on it now."""
        job_id = secret.reveal().partition(".")[0]
        if JOB_ID.fullmatch(job_id) is None:
            raise NoSuchInvitation
        digest, now, grant_id = secret.digest(), self._wall(), _new_id()
        subject = identity.subject
        try:
            job = await self._book.update(
                job_id, lambda job: sharing.redeemed(job, digest, subject, grant_id, now)
            )
        except NoSuchJob:
            raise NoSuchInvitation from None
        right = self._access.right(identity, job)
        assert right is not None
        return job, right

    async def presence(self, identity: Identity, job_id: str) -> Sequence[Visitor]:
        """Return who is connected to a job, longest first."""
        await self._access.permitted(identity, job_id, Right.VIEW)
        return await self._access.visits.at(job_id)


def _new_id() -> str:
    return secrets.token_hex(8)
