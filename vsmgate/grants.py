"""Who else may reach a job: rights, grants, invitations, and who is there. Values only.

They are kept with the job (`vsmgate.model.Job`), so they change with its revision, and every
process that follows the jobs knows of them as soon as of any other change.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from msgspec import Struct

__all__ = ["Grant", "Invitation", "Right", "Visitor"]


class Right(StrEnum):
    """What somebody may do with a job, each right with those before it.

    ``view``: see the job, and relays that only look. ``control``: relays in both directions,
    and logs. ``owner``: stop, extend and share it.
    """

    VIEW = "view"
    CONTROL = "control"
    OWNER = "owner"

    def includes(self, needed: Right) -> bool:
        """Whether this right is enough where ``needed`` is."""
        order = list(Right)
        return order.index(self) >= order.index(needed)


class Grant(Struct, frozen=True, omit_defaults=True):
    """A right of one subject, or of all members of one group, until ``expires_at``.

    ``invitation``: the id of the one that it was made by.
    """

    id: str
    right: Right
    created_at: float
    subject: str | None = None
    group: str | None = None
    expires_at: float | None = None
    invitation: str | None = None

    def current(self, now: float) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or now < self.expires_at

    def covers(self, subject: str, groups: Collection[str]) -> bool:
        """Whether it is for ``subject``, or for one of its ``groups``."""
        if self.subject is not None:
            return self.subject == subject
        return self.group in groups


class Invitation(Struct, frozen=True, omit_defaults=True):
    """Lets the first ``uses`` subjects that know its secret have a grant.

    ``digest``: the SHA-256 of the secret. ``redeemed``: who had theirs already, and
    ``barred``: whose grant was revoked since; they cannot take another.
    """

    id: str
    digest: str
    right: Right
    created_at: float
    expires_at: float
    uses: int
    redeemed: tuple[str, ...] = ()
    barred: tuple[str, ...] = ()

    def current(self, now: float) -> bool:
        """Whether it has not expired."""
        return now < self.expires_at


class Visitor(Struct, frozen=True):
    """Somebody whose relay to a service of a job is open, ``since`` when."""

    subject: str
    service: str
    right: Right
    since: float
