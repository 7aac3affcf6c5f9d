"""Subjects whose earlier tokens are not good any more, kept in the store for all processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime

from vsmgate.errors import NoSuchRevocation, Unauthenticated
from vsmgate.interfaces import IJobStore
from vsmgate.jobs.ticker import Ticker
from vsmgate.model import Identity

__all__ = ["Revocations"]

#: Seconds between two looks at what other processes revoked.
REFRESH = 10.0


class Revocations:
    """A mirror of what was revoked; ``ticker`` is the service that keeps it."""

    def __init__(self, store: IJobStore, clock: IReactorTime, wall: Callable[[], float]) -> None:
        self._store = store
        self._wall = wall
        self._until: Mapping[str, float] = {}
        self.ticker = Ticker("revocations", self._tick, clock)

    async def load(self) -> None:
        """Read them from the store."""
        before = self._until
        found = dict(await self._store.revocations())
        # What was revoked or lifted here while the store was read may be missing in its answer.
        for who in before.keys() - self._until.keys():
            found.pop(who, None)
        later = {who: at for who, at in self._until.items() if before.get(who) != at}
        self._until = {**found, **later}

    async def revoke(self, subject: str) -> float:
        """Revoke what ``subject`` was given until now; return that moment."""
        now = max(self._wall(), self._until.get(subject, 0.0))  # a clock may have been set back
        await self._store.revoke(subject, now)
        self._until = {**self._until, subject: now}
        return now

    async def lift(self, subject: str) -> None:
        """Take a revocation back: what ``subject`` was given before is good again, if it was.

        Fails with `NoSuchRevocation`.
        """
        lifted = await self._store.lift(subject)
        self._until = {who: at for who, at in self._until.items() if who != subject}
        if not lifted:
            raise NoSuchRevocation("Nothing that this subject was given is revoked.")

    def all(self) -> Mapping[str, float]:
        """Return subject -> until when what it was given is not good."""
        return self._until

    def check(self, identity: Identity) -> None:
        """Fail with `Unauthenticated` where the identity's token was given out before.

        Of one that does not tell when it was given out that is assumed.
        """
        until = self._until.get(identity.subject)
        if until is not None and (identity.issued_at is None or identity.issued_at <= until):
            raise Unauthenticated("The token was revoked; log in again.")

    async def _tick(self) -> float:
        await self.load()
        return REFRESH
