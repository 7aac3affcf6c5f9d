"""Who gets the free places of a quota: pure arithmetic over owners."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from vsmgate.errors import QuotaExceeded
from vsmgate.model import Quota

__all__ = ["check", "check_held", "fitting"]

#: Seconds after which a refused start is worth another try.
RETRY_AFTER = 30


def fitting(waiting: Iterable[tuple[str, str]], used: Mapping[str, int], quota: Quota) -> list[str]:
    """Return the ids of the waiting jobs for which there is room, in their order.

    ``waiting``: (id, owner), oldest first. ``used``: owner -> places taken. An owner at
    the limit does not hold up those behind.
    """
    taken = Counter(used)
    total = taken.total()
    fits = []
    for job_id, owner in waiting:
        if quota.total is not None and total >= quota.total:
            break
        if quota.per_user is not None and taken[owner] >= quota.per_user:
            continue
        taken[owner] += 1
        total += 1
        fits.append(job_id)
    return fits


def check(owner: str, used: Mapping[str, int], quota: Quota) -> None:
    """Raise `QuotaExceeded` when there is no room for one more job of ``owner``."""
    mine = used.get(owner, 0)
    if quota.per_user is not None and mine >= quota.per_user:
        raise QuotaExceeded(
            f"You have {_jobs(mine)}, and {quota.per_user} at a time are allowed:"
            " stop one, or wait until one ends.",
            retry_after=RETRY_AFTER,
        )
    if quota.total is not None and sum(used.values()) >= quota.total:
        raise QuotaExceeded(
            f"The gateway runs as many jobs as it may ({quota.total}): try again later.",
            retry_after=RETRY_AFTER,
        )


def check_held(owner: str, waiting: Iterable[tuple[str, str]], quota: Quota) -> None:
    """Raise `QuotaExceeded` when ``owner`` has as many held jobs as may wait.

    ``waiting``: (id, owner) of those that wait already.
    """
    mine = sum(1 for _, waits in waiting if waits == owner)
    if quota.held_per_user is not None and mine >= quota.held_per_user:
        raise QuotaExceeded(
            f"{mine} of your jobs wait for room already, as many as may:"
            " stop one, or wait until one begins.",
            retry_after=RETRY_AFTER,
        )


def _jobs(count: int) -> str:
    return "1 live job" if count == 1 else f"{count} live jobs"
