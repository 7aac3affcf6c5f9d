"""A bounded share of the reactor's threads, for blocking calls that may hang.

Reading a shared file system is such a call: without a bound a file server that does not
answer would take all the threads, and name lookups with them. What has calls all the time has
threads of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

__all__ = ["OwnThreads", "Threads"]

T = TypeVar("T")


class Threads:
    """At most ``most`` calls at a time; one more is refused, not queued behind those that hang."""

    def __init__(self, reactor: IReactorThreads, most: int = 4) -> None:
        self._reactor = reactor
        self._most = most
        self._busy = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns; `BlockingIOError` when all threads are busy."""
        if self._busy >= self._most:
            raise BlockingIOError("all threads wait for an answer")
        self._busy += 1
        answer: Deferred[T] = Deferred()
        pool = self._reactor.getThreadPool()
        deferToThreadPool(self._reactor, pool, work).addBoth(self._done, answer)
        return await answer

    def _done(self, result: Any, answer: Deferred[Any]) -> None:
        self._busy -= 1
        answer.callback(result)  # swallowed when whoever asked has given up


class OwnThreads(ThreadPool):
    """At most ``most`` threads, made when they are needed; further calls wait in their order.

    They are daemons: a call that hangs does not keep the process from ending.
    """

    threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]  # it is only called

    def __init__(self, name: str, most: int = 1) -> None:
        super().__init__(0, most, name)
