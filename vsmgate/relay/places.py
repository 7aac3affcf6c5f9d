"""How many relays there may be at a time: per user, and per service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from vsmgate.errors import QuotaExceeded, ServiceBusy
from vsmgate.grants import Right
from vsmgate.relay.desk import Target

__all__ = ["Places"]

RETRY_AFTER = 5


class Places:
    """Counts relays from the moment of admission, so that two openings cannot share one place."""

    def __init__(self, max_per_user: int) -> None:
        self._max_per_user = max_per_user
        self._taken: Counter[tuple[str, ...]] = Counter()

    def take(self, target: Target, *, relay: bool = True) -> Callable[[], None]:
        """Take a place at ``target``; returns what gives it back (once).

        A plain request (not ``relay``) takes none of the service's places. With whom the
        job is shared leaves one of them, so that its owner can always come back.
        Fails with `QuotaExceeded` (the user's relays) or `ServiceBusy` (the service's).
        """
        user = ("user", target.identity.subject)
        service = ("service", target.job.id, target.service)
        if self._taken[user] >= self._max_per_user:
            raise QuotaExceeded(
                f"You have {self._max_per_user} connections open, as many as are allowed.",
                retry_after=RETRY_AFTER,
            )
        most = target.spec.max_clients
        if most is not None and most > 1 and target.right is not Right.OWNER:
            most -= 1
        if relay and most is not None and self._taken[service] >= most:
            raise ServiceBusy(
                f"The service already serves {self._taken[service]} clients; no place is left.",
                retry_after=RETRY_AFTER,
            )
        keys: list[tuple[str, ...]] = [user, service] if relay else [user]
        self._taken.update(keys)
        return partial(self._give_back, keys)

    def _give_back(self, keys: list[tuple[str, ...]]) -> None:
        while keys:
            key = keys.pop()
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]
