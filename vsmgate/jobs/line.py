"""The line to one engine: answers in bounded time, and a breaker for when none comes.

Pauses have *full jitter* (a random share of a ceiling that doubles with each failure), so
that many gateways do not come back to one engine at the same moment.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from vsmgate.config import JobsConfig
from vsmgate.errors import EngineError, EngineUnreachable
from vsmgate.interfaces import ILauncher

__all__ = ["Line", "backoff"]

T = TypeVar("T")

#: Questions in a row without an answer, after which an engine is left alone for a while.
OPENS_AFTER = 3
LONGEST = 60.0


def backoff(shortest: float, failures: int) -> float:
    """Return how long to wait after so many failures in a row, in seconds."""
    return shortest + random.uniform(0.0, min(LONGEST, shortest * 2 ** min(failures, 16)))


class Line:
    """Asks one launcher.

    ``stale_since``: since when the engine does not answer (Unix seconds); None while it does.
    ``trouble``: what was said last. After a few failures in a row the breaker opens: nothing
    is asked until a pause is over, and then by one caller, whose answer closes it again.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        launcher: ILauncher,
        config: JobsConfig,
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self.name = name
        self.launcher = launcher
        self.stale_since: float | None = None
        self.trouble = ""
        self._config = config
        self._clock = clock
        self._wall = wall
        self._failures = 0
        self._retry_at = 0.0

    @property
    def open(self) -> bool:
        """Whether the breaker is open."""
        return self._failures >= OPENS_AFTER

    def pause(self) -> float:
        """Return the seconds until it is worth to ask again; 0 while the engine answers."""
        return max(0.0, self._retry_at - self._clock.seconds()) if self._failures else 0.0

    async def ask(self, answer: Awaitable[T]) -> T:
        """Await a launcher's answer, for a bounded time."""
        bounded = Deferred.fromCoroutine(_awaited(answer))

        def late(result: Any, seconds: float) -> Any:
            raise EngineUnreachable(f"{self.name} did not answer within {seconds:g} s.")

        return await bounded.addTimeout(self._config.engine_timeout, self._clock, late)

    async def query(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask what every healthy engine answers, and note whether it did.

        Fails with `EngineUnreachable`, without asking, while the breaker is open.
        """
        if self.open:
            if self.pause() > 0:
                raise EngineUnreachable(self.trouble)
            # One at a time: nobody else asks before this one has its answer.
            self._retry_at = self._clock.seconds() + self._config.engine_timeout
        try:
            result = await self.ask(question())
        except CancelledError:
            raise
        except EngineError as error:
            self._failed(error.detail)
            raise
        except Exception:
            self._failed(f"The launcher {self.name} failed; see the log.")
            raise
        self.reached()
        return result

    def reached(self) -> None:
        """Note that the engine answers."""
        if self.stale_since is not None:
            self._log.info("{name} can be asked again", name=self.name)
        self.stale_since, self.trouble, self._failures = None, "", 0

    def _failed(self, trouble: str) -> None:
        if self.stale_since is None:
            self.stale_since = self._wall()
            self._log.warn("{name} cannot be asked: {error}", name=self.name, error=trouble)
        self.trouble = trouble
        self._failures += 1
        self._retry_at = self._clock.seconds() + backoff(self._config.poll_fastest, self._failures)


async def _awaited(answer: Awaitable[T]) -> T:
    return await answer
