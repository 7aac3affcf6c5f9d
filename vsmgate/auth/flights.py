"""Asking once for all who want to know the same at the same time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from vsmgate.errors import AuthenticatorUnavailable, GatewayError

__all__ = ["Flights", "Kept"]

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Seconds before a failed fetch is tried again; doubled each time it fails again.
_FIRST_PAUSE = 5.0


class Flights(Generic[K, V]):
    """What is under way: key -> those who wait for it.

    A flight goes on when those who wait for it are cancelled: what it finds is for the
    next one. Whoever starts one bounds it.
    """

    _log = Logger()

    def __init__(self) -> None:
        self._waiting: dict[K, list[Deferred[V]]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._waiting

    def join(self, key: K, start: Callable[[], Coroutine[Deferred[Any], Any, V]]) -> Deferred[V]:
        """Wait for the flight of ``key``; ``start`` it when there is none."""
        waiting = self._waiting.get(key)
        first = waiting is None
        if waiting is None:
            waiting = self._waiting[key] = []
        mine: Deferred[V] = Deferred(waiting.remove)
        waiting.append(mine)
        if first:
            landed = Deferred.fromCoroutine(start()).addBoth(self._land, key)
            landed.addErrback(lambda failure: self._log.failure("a flight broke", failure))
        return mine

    def _land(self, result: V | Failure, key: K) -> None:
        waiting = self._waiting.pop(key)
        if isinstance(result, Failure) and not waiting and not result.check(GatewayError):
            self._log.failure("a question that nobody waits for any more failed", result)
        while waiting:
            waiter = waiting.pop(0)
            if isinstance(result, Failure):
                waiter.errback(result)
            else:
                waiter.callback(result)


class Kept(Generic[V]):
    """A value of somebody else's: fetched when it is needed, and kept for a while.

    ``fetch`` bounds itself and fails with `AuthenticatorUnavailable`. There is one fetch
    at a time, at most one in ``interval`` seconds as long as they succeed, and after
    failures pauses that grow up to ``interval``. A value older than ``fresh`` is fetched
    again; when that fails the old one serves for up to ``stale`` seconds.
    """

    _log = Logger()

    def __init__(
        self,
        what: str,
        fetch: Callable[[], Coroutine[Deferred[Any], Any, V]],
        clock: IReactorTime,
        *,
        fresh: float,
        interval: float,
        stale: float,
    ) -> None:
        self._what = what
        self._fetch = fetch
        self._clock = clock
        self._fresh = fresh
        self._interval = interval
        self._stale = stale
        self._value: V | None = None
        self._fetched_at = 0.0
        self._tried_at = 0.0
        self._failures = 0
        self._flights: Flights[None, V] = Flights()

    async def current(self) -> V:
        """Return the value; it is never older than ``fresh`` unless fetching fails."""
        age = self._clock.seconds() - self._fetched_at
        value = self._value
        if value is not None and age < self._fresh:
            return value
        if value is None or age >= self._stale:
            self._value = None
            return await self._fetched()
        if self._failures:
            # Its owner is away: nobody waits for that, and it is asked now and then.
            if self._may_try():
                self._join().addErrback(lambda failure: failure.trap(AuthenticatorUnavailable))
            return value
        try:
            return await self._join()
        except AuthenticatorUnavailable:
            return value

    async def newer(self) -> V:
        """Return the value after another fetch, if there may be one now; else as it is.

        Fails with `AuthenticatorUnavailable` while its owner is away: then nobody knows
        whether there is a newer one.
        """
        recent = self._clock.seconds() - self._fetched_at < self._interval
        if self._value is not None and recent and not self._failures:
            return self._value
        return await self._fetched()

    async def _fetched(self) -> V:
        if not self._may_try():
            raise AuthenticatorUnavailable("The identity provider cannot be asked now.")
        return await self._join()

    def _may_try(self) -> bool:
        if not self._failures or None in self._flights:
            return True
        pause = min(self._interval, _FIRST_PAUSE * 2.0 ** min(self._failures - 1, 16))
        return self._clock.seconds() - self._tried_at >= pause

    def _join(self) -> Deferred[V]:
        return self._flights.join(None, self._refresh)

    async def _refresh(self) -> V:
        self._tried_at = self._clock.seconds()
        try:
            value = await self._fetch()
        except AuthenticatorUnavailable as error:
            self._tried_at = self._clock.seconds()
            self._failures += 1
            self._log.warn(
                "{what} cannot be fetched ({failures} in a row): {error}",
                what=self._what,
                failures=self._failures,
                error=str(error.__cause__ or error),
            )
            raise
        if self._failures:
            self._log.info("{what} can be fetched again", what=self._what)
        self._value, self._fetched_at, self._failures = value, self._clock.seconds(), 0
        return value
