"""Who gets the free places of a quota: pure arithmetic over what jobs count against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from vsmgate.errors import QuotaExceeded
from vsmgate.model import Job, Quota

__all__ = ["Claim", "Taken", "check", "check_held", "fitting"]

#: Seconds after which a refused start is worth another try.
RETRY_AFTER = 30


class Claim(NamedTuple):
    """What a job counts against."""

    owner: str
    usecase: str = ""
    groups: tuple[str, ...] = ()

    @classmethod
    def of(cls, job: Job) -> Claim:
        """Return the claim of ``job``."""
        return cls(job.owner, job.usecase.name, job.groups)


class Taken:
    """The places that are taken."""

    def __init__(self, claims: Iterable[tuple[Claim, int]] = ()) -> None:
        """``claims``: each with how many live, not held jobs have it."""
        self.total = 0
        self.owners: Counter[str] = Counter()
        self.usecases: Counter[str] = Counter()
        self.groups: Counter[str] = Counter()
        for claim, count in claims:
            self.take(claim, count)

    def take(self, claim: Claim, count: int = 1) -> None:
        """Take places."""
        self.total += count
        self.owners[claim.owner] += count
        self.usecases[claim.usecase] += count
        for group in claim.groups:
            self.groups[group] += count

    def full(self, quota: Quota) -> bool:
        """Whether there is no place for anybody."""
        return quota.total is not None and self.total >= quota.total

    def refusal(self, claim: Claim, quota: Quota) -> str:
        """Return why there is no place for ``claim``; empty when there is one."""
        mine = self.owners[claim.owner]
        if quota.per_user is not None and mine >= quota.per_user:
            return (
                f"You have {_jobs(mine)}, and {quota.per_user} at a time are allowed:"
                " stop one, or wait until one ends."
            )
        for group in claim.groups:
            limit = quota.per_group.get(group)
            if limit is not None and self.groups[group] >= limit:
                return f"The group {group} has as many jobs as it may ({limit}): try again later."
        limit = quota.per_usecase.get(claim.usecase)
        if limit is not None and self.usecases[claim.usecase] >= limit:
            return (
                f"There are as many jobs of {claim.usecase} as there may be ({limit}):"
                " try again later."
            )
        if self.full(quota):
            return f"The gateway runs as many jobs as it may ({quota.total}): try again later."
        return ""


def fitting(waiting: Iterable[tuple[str, Claim]], taken: Taken, quota: Quota) -> list[str]:
    """Return the ids of the waiting jobs for which there is room, in their order.

    ``waiting``: (id, claim), oldest first. ``taken`` has their places then. Who is over a
    limit of their own does not hold up those behind.
    """
    fits = []
    for job_id, claim in waiting:
        if taken.full(quota):
            break
        if not taken.refusal(claim, quota):
            taken.take(claim)
            fits.append(job_id)
    return fits


def check(claim: Claim, taken: Taken, quota: Quota) -> None:
    """Raise `QuotaExceeded` when there is no room for one more job of ``claim``."""
    if refusal := taken.refusal(claim, quota):
        raise QuotaExceeded(refusal, retry_after=RETRY_AFTER)


def check_held(owner: str, waiting: Iterable[tuple[str, Claim]], quota: Quota) -> None:
    """Raise `QuotaExceeded` when ``owner`` has as many held jobs as may wait.

    ``waiting``: (id, claim) of those that wait already.
    """
    mine = sum(1 for _, claim in waiting if claim.owner == owner)
    if quota.held_per_user is not None and mine >= quota.held_per_user:
        raise QuotaExceeded(
            f"{mine} of your jobs wait for room already, as many as may:"
            " stop one, or wait until one begins.",
            retry_after=RETRY_AFTER,
        )


def _jobs(count: int) -> str:
    return "1 live job" if count == 1 else f"{count} live jobs"
