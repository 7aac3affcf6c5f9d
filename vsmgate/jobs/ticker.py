"""One thing done again and again, never twice at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from vsmgate.errors import GatewayError

__all__ = ["Ticker"]


#: Seconds between two lines about one thing that fails again and again.
REMINDER = 600.0


class Ticker(Service):
    """Runs a coroutine function, waits as long as it says, and runs it again.

    ``body`` returns the seconds until its next run; when it fails, that is logged (once,
    then every `REMINDER` seconds) and it runs again after ``after_failure`` seconds. `nudge`
    makes the next run come at once. Stopping cancels a run under way and waits for its end.
    """

    _log = Logger()

    def __init__(
        self,
        name: str,
        body: Callable[[], Coroutine[Deferred[Any], Any, float]],
        clock: IReactorTime,
        after_failure: float = 5.0,
    ) -> None:
        self.setName(name)
        self._body = body
        self._clock = clock
        self._after_failure = after_failure
        self._run: Deferred[None] | None = None
        self._call: IDelayedCall | None = None
        self._again = False
        self._failing_since: float | None = None
        self._told_at = 0.0

    def startService(self) -> None:
        """Run for the first time, in the next turn."""
        super().startService()
        self._schedule(0)

    def stopService(self) -> Deferred[None] | None:
        """Cancel what is under way."""
        super().stopService()
        if self._call is not None and self._call.active():
            self._call.cancel()
        run, self._again = self._run, False
        if run is None:
            return None
        ended: Deferred[None] = Deferred()
        run.addBoth(lambda _: ended.callback(None))
        run.cancel()
        return ended

    def nudge(self) -> None:
        """Run as soon as possible: now, or right after the run that is under way."""
        if self._run is not None:
            self._again = True
        elif self.running:
            self._schedule(0)

    def within(self, seconds: float) -> None:
        """Let the next run come in ``seconds`` at the latest."""
        call, latest = self._call, self._clock.seconds() + seconds
        if call is not None and call.active() and call.getTime() > latest:
            call.reset(seconds)

    @property
    def next_run(self) -> float | None:
        """The seconds until the next run; None while one is under way."""
        call = self._call
        if call is None or not call.active():
            return None
        return max(0.0, call.getTime() - self._clock.seconds())

    def _schedule(self, seconds: float) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = self._clock.callLater(seconds, self._start)

    def _start(self) -> None:
        self._run = Deferred.fromCoroutine(self._once())
        if self._run.called:
            self._run = None

    async def _once(self) -> None:
        delay = self._after_failure
        try:
            delay = await self._body()
            self._recovered()
        except CancelledError:
            pass
        except GatewayError as error:  # of the world, not of our code: a line is enough
            if self._news():
                said = str(error)
                self._log.warn("{name} failed, it goes on: {error}", name=self.name, error=said)
        except Exception:
            if self._news():
                self._log.failure("{name} failed; it goes on", name=self.name)
        finally:
            self._run = None
        if self.running:
            again, self._again = self._again, False
            self._schedule(0 if again else delay)

    def _news(self) -> bool:
        """Note a failure; return whether to tell of it: at first, and then now and then."""
        now = self._clock.seconds()
        first = self._failing_since is None
        if first:
            self._failing_since = now
        if first or now - self._told_at >= REMINDER:
            self._told_at = now
            return True
        return False

    def _recovered(self) -> None:
        if self._failing_since is not None:
            seconds = self._clock.seconds() - self._failing_since
            self._failing_since = None
            self._log.info("{name} works again, after {s:.0f} s", name=self.name, s=seconds)
