"""Who has which right on a job, and how its owner changes that. Pure.

As in `vsmgate.jobs.changes`: functions from a job to a job, which a store applies in one
transaction. So of two that redeem the last use of an invitation one succeeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from vsmgate.errors import (
    JobConflict,
    JobEnded,
    NoSuchGrant,
    NoSuchInvitation,
    ViewUnsupported,
)
from vsmgate.grants import Grant, Invitation, Right
from vsmgate.model import Identity, Job, Service, View, replace

__all__ = [
    "MOST_GRANTS",
    "MOST_INVITATIONS",
    "check_view",
    "granted",
    "invited",
    "redeemed",
    "revoked",
    "right_of",
    "uninvited",
]

#: Of one job at a time; every process keeps them in memory.
MOST_GRANTS, MOST_INVITATIONS = 100, 20


def right_of(job: Job, identity: Identity, now: float) -> Right | None:
    """Return the greatest right of ``identity`` on ``job``; None: it is a stranger."""
    if job.owner == identity.subject:
        return Right.OWNER
    given = {
        grant.right
        for grant in job.grants
        if grant.current(now) and grant.covers(identity.subject, identity.groups)
    }
    return next((right for right in (Right.CONTROL, Right.VIEW) if right in given), None)


def check_view(job: Job, spec: Service | None = None) -> None:
    """Fail with `ViewUnsupported` where a right to view could not be kept to that.

    ``spec``: of the service that is to be viewed; without it, the job is.
    """
    if job.usecase.tokenless:
        raise ViewUnsupported(
            "Whoever knows this job's id may control it, so it cannot be shared for viewing."
        )
    if spec is not None and (spec.view is View.NONE or spec.http):
        raise ViewUnsupported(
            "This service cannot be opened with the right to view: what its clients send"
            " cannot be told apart. Ask the job's owner for control."
        )


def granted(job: Job, grant: Grant, now: float) -> Job:
    """The owner gives a right; an earlier grant to the same subject or group is replaced.

    Fails with `JobEnded`, `JobConflict` or `ViewUnsupported`.
    """
    _check(job, grant.right)
    if grant.subject == job.owner:
        raise JobConflict("The job is its owner's already.")
    others = [
        other
        for other in job.grants
        if other.current(now) and (other.subject, other.group) != (grant.subject, grant.group)
    ]
    if len(others) >= MOST_GRANTS:
        raise JobConflict(f"A job has at most {MOST_GRANTS} grants: revoke one first.")
    return replace(job, grants=(*others, grant))


def revoked(job: Job, grant_id: str) -> Job:
    """The owner takes a grant back; fails with `NoSuchGrant`.

    Whose it was cannot come back by an invitation that there is now.
    """
    gone = next((grant for grant in job.grants if grant.id == grant_id), None)
    if gone is None:
        raise NoSuchGrant("The job has no grant of this id.")
    left = tuple(grant for grant in job.grants if grant is not gone)
    invitations = tuple(_barred(one, gone.subject) for one in job.invitations)
    return replace(job, grants=left, invitations=invitations)


def invited(job: Job, invitation: Invitation, now: float) -> Job:
    """The owner makes an invitation; fails as `granted`."""
    _check(job, invitation.right)
    others = _current(job, now)
    if len(others) >= MOST_INVITATIONS:
        raise JobConflict(f"A job has at most {MOST_INVITATIONS} invitations: withdraw one first.")
    return replace(job, invitations=(*others, invitation))


def uninvited(job: Job, invitation_id: str) -> Job:
    """The owner withdraws an invitation; the grants that it made stay. Fails as `revoked`."""
    left = tuple(one for one in job.invitations if one.id != invitation_id)
    if len(left) == len(job.invitations):
        raise NoSuchGrant("The job has no invitation of this id.")
    return replace(job, invitations=left)


def redeemed(job: Job, digest: str, subject: str, grant_id: str, now: float) -> Job:
    """``subject`` shows the secret of an invitation, and has its grant then.

    Nothing changes for one that has a right as great already, so that a link may be
    followed twice. Fails with `NoSuchInvitation` or `JobConflict`.
    """
    found = next((one for one in job.invitations if one.digest == digest), None)
    if found is None or job.ended or not found.current(now):
        raise NoSuchInvitation
    has = right_of(job, Identity(subject), now)
    if has is not None and has.includes(found.right):
        return job
    if subject in (*found.redeemed, *found.barred) or len(found.redeemed) >= found.uses:
        raise NoSuchInvitation
    grant = Grant(grant_id, found.right, now, subject=subject, invitation=found.id)
    used = msgspec.structs.replace(found, redeemed=(*found.redeemed, subject))
    job = granted(job, grant, now)
    # One that is used up stays until it expires: its owner sees who came by it.
    return replace(job, invitations=tuple(used if i is found else i for i in job.invitations))


def _check(job: Job, right: Right) -> None:
    if job.ended:
        raise JobEnded("The job has ended; there is nothing left to share.")
    if right is Right.VIEW:
        check_view(job)


def _barred(invitation: Invitation, subject: str | None) -> Invitation:
    if subject is None or subject in (*invitation.redeemed, *invitation.barred):
        return invitation
    barred = (*invitation.barred, subject)[-MOST_GRANTS:]
    return msgspec.structs.replace(invitation, barred=barred)


def _current(job: Job, now: float) -> Sequence[Invitation]:
    return [one for one in job.invitations if one.current(now)]
