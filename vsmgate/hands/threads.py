"""A few threads for blocking calls that may hang, such as reading a shared file system."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

__all__ = ["Threads"]

T = TypeVar("T")


class Threads:
    """At most ``most`` calls at a time; one more is refused, not queued behind those that hang."""

    def __init__(self, reactor: IReactorFromThreads, name: str, most: int = 4) -> None:
        self._reactor = reactor
        self._pool: ThreadPool | None = None
        self._name = name
        self._most = most
        self._busy = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns; `BlockingIOError` when all threads are busy."""
        if self._busy >= self._most:
            raise BlockingIOError("all threads wait for an answer")
        if self._pool is None:
            self._pool = ThreadPool(0, self._most, self._name)
            self._pool.start()
        self._busy += 1
        result: Deferred[T] = deferToThreadPool(self._reactor, self._pool, work)
        answer: Deferred[T] = Deferred()
        result.addBoth(self._done, answer)
        return await answer

    def close(self) -> None:
        """End the threads, until the next call; one that hangs is left to the process's end."""
        if self._pool is not None and not self._busy:
            self._pool.stop()
            self._pool = None

    def _done(self, result: Any, answer: Deferred[Any]) -> None:
        self._busy -= 1
        if not answer.called:  # else whoever asked has given up
            answer.callback(result)
