"""Asking a provider about tokens: answers are kept, and questions are limited.

Without limits every bad token that a stranger sends would be a request to the provider.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.auth.flights import Flights
from vsmgate.errors import AuthenticatorUnavailable, Unauthenticated
from vsmgate.model import Identity, Secret

__all__ = ["Bounds", "Lookup"]

V = TypeVar("V")

#: Seconds between two lines in the log about the same trouble.
_QUIET = 10.0


class Bounds(Struct, frozen=True):
    """How long answers are kept (seconds), how many of each kind, and how much is asked.

    ``concurrency``: questions at a time; ``queue``: how many more may wait for that.
    ``per_second``: questions that are begun in a second.
    """

    positive_ttl: float
    negative_ttl: float
    entries: int
    concurrency: int
    queue: int
    per_second: int


class Lookup:
    """Finds identities by asking, once per token at a time.

    ``ask`` bounds itself, and fails with `Unauthenticated` or `AuthenticatorUnavailable`.
    Tokens are remembered by their SHA-256.
    """

    _log = Logger()

    def __init__(
        self,
        what: str,
        ask: Callable[[Secret], Coroutine[Deferred[Any], Any, Identity]],
        bounds: Bounds,
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._what = what
        self._ask = ask
        self._bounds = bounds
        self._clock = clock
        self._wall = wall
        self._good: Recent[Identity] = Recent(bounds.entries, clock)
        # By themselves, so that a flood of bad tokens does not push the good ones out.
        self._bad: Recent[str] = Recent(bounds.entries, clock)
        self._flights: Flights[str, Identity] = Flights()
        self._room = DeferredSemaphore(bounds.concurrency)
        self._second = float("-inf")
        self._begun = 0
        self._told_at = float("-inf")
        self._troubles = 0

    async def identity(self, credential: Secret) -> Identity:
        """Return whom ``credential`` stands for; fails as ``ask`` does."""
        digest = credential.digest()
        refusal = self._bad.get(digest)
        if refusal is not None:
            raise Unauthenticated(refusal)
        known = self._good.get(digest)
        if known is not None and (known.expires_at is None or self._wall() < known.expires_at):
            return known
        return await self._flights.join(digest, lambda: self._found(credential, digest))

    async def ask_again(self, credential: Secret) -> Identity:
        """Return whom ``credential`` stands for now, whatever was answered before."""
        digest = credential.digest()
        return await self._flights.join(digest, lambda: self._found(credential, digest))

    async def _found(self, credential: Secret, digest: str) -> Identity:
        self._admit()
        await self._room.acquire()
        try:
            identity = replace(await self._ask(credential), handle=digest)
        except Unauthenticated as error:
            self._good.drop(digest)
            self._bad.put(digest, error.detail, self._bounds.negative_ttl)
            raise
        except AuthenticatorUnavailable as error:
            self._tell(str(error.__cause__ or error))
            raise
        finally:
            self._room.release()
        self._good.put(digest, identity, self._bounds.positive_ttl)
        return identity

    def _admit(self) -> None:
        """Count one more question; fails when there are too many."""
        now = self._clock.seconds()
        if now - self._second >= 1.0:
            self._second, self._begun = now, 0
        bounds, waiting = self._bounds, len(self._room.waiting)
        if self._begun >= bounds.per_second or waiting >= bounds.queue:
            self._tell("more tokens are to be checked than the configuration allows")
            raise AuthenticatorUnavailable(
                "More tokens are to be checked than can be now.", retry_after=1
            )
        self._begun += 1

    def _tell(self, why: str) -> None:
        """Log a trouble, seldom; the count says how often there was one since the last line."""
        self._troubles += 1
        now = self._clock.seconds()
        if now - self._told_at < _QUIET:
            return
        self._log.warn(
            "{what} was not asked, or did not answer, {count} times: {why}",
            what=self._what,
            count=self._troubles,
            why=why,
        )
        self._told_at, self._troubles = now, 0


class Recent(Generic[V]):
    """Remembers at most ``most`` values, each for its time; the oldest goes first."""

    def __init__(self, most: int, clock: IReactorTime) -> None:
        self._most = most
        self._clock = clock
        self._kept: dict[str, tuple[float, V]] = {}

    def put(self, key: str, value: V, seconds: float) -> None:
        """Remember ``value``."""
        now = self._clock.seconds()
        self._kept.pop(key, None)
        while self._kept:
            oldest = next(iter(self._kept))
            if len(self._kept) < self._most and now < self._kept[oldest][0]:
                break
            del self._kept[oldest]
        self._kept[key] = now + seconds, value

    def drop(self, key: str) -> None:
        """Forget a value."""
        self._kept.pop(key, None)

    def get(self, key: str) -> V | None:
        """Return the value; None when it is not remembered (any more)."""
        until, value = self._kept.get(key, (0.0, None))
        if value is not None and self._clock.seconds() >= until:
            del self._kept[key]
            return None
        return value
