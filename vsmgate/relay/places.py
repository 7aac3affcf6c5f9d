"""How many relays there may be at a time: per user, and per service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Protocol

from vsmgate.errors import QuotaExceeded, ServiceBusy
from vsmgate.grants import Right
from vsmgate.relay.desk import Target

__all__ = ["Places"]

RETRY_AFTER = 5


class Shared(Protocol):
    """Places that several processes share (`vsmgate.hands.place_locks.PlaceLocks`)."""

    def take(self, name: str, most: int) -> int | None:
        """Take one of ``most`` places of ``name``; None when there is none."""

    def give_back(self, place: int) -> None:
        """Give back what `take` returned."""


class Places:
    """Counts relays from the moment of admission, so that two openings cannot share one place.

    ``others``: where the relays of this gateway's other workers count too.
    """

    def __init__(self, max_per_user: int, others: Shared | None = None) -> None:
        self._max_per_user = max_per_user
        self._others = others
        self._taken: Counter[tuple[str, ...]] = Counter()

    def take(self, target: Target, *, relay: bool = True) -> Callable[[], None]:
        """Take a place at ``target``; returns what gives it back (once).

        A plain request (not ``relay``) takes none of the service's places. With whom the
        job is shared leaves one of them, so that its owner can always come back.
        Fails with `QuotaExceeded` (the user's relays) or `ServiceBusy` (the service's).
        """
        user = ("user", target.identity.subject)
        service = ("service", target.job.id, target.service)
        too_many = QuotaExceeded(
            f"You have {self._max_per_user} connections open, as many as are allowed.",
            retry_after=RETRY_AFTER,
        )
        if self._taken[user] >= self._max_per_user:
            raise too_many
        most = target.spec.max_clients
        if most is not None and most > 1 and target.right is not Right.OWNER:
            most -= 1
        if relay and most is not None and self._taken[service] >= most:
            raise ServiceBusy(
                f"The service already serves {self._taken[service]} clients; no place is left.",
                retry_after=RETRY_AFTER,
            )
        shared: list[int] = []
        if self._others is not None:
            shared.append(self._place(user, self._max_per_user, too_many))
            if relay and most is not None:
                busy = ServiceBusy(
                    "The service serves as many clients as it can; no place is left.",
                    retry_after=RETRY_AFTER,
                )
                try:
                    shared.append(self._place(service, most, busy))
                except ServiceBusy:
                    self._others.give_back(shared.pop())
                    raise
        keys: list[tuple[str, ...]] = [user, service] if relay else [user]
        self._taken.update(keys)
        return partial(self._give_back, keys, shared)

    def _place(self, key: tuple[str, ...], most: int, refusal: QuotaExceeded) -> int:
        """Take a place that no other worker has; raise ``refusal`` where there is none."""
        assert self._others is not None
        place = self._others.take("\0".join(key), most)
        if place is None:
            raise refusal
        return place

    def _give_back(self, keys: list[tuple[str, ...]], shared: list[int]) -> None:
        while shared and self._others is not None:
            self._others.give_back(shared.pop())
        while keys:
            key = keys.pop()
            self._taken[key] -= 1
            if not self._taken[key]:
                del self._taken[key]
