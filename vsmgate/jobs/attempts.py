"""What this process knows of the submissions of one launcher's jobs; in memory only.

After a restart nothing is known, so every job without an engine ref is in doubt.

An engine may take a job late: after the gateway gave up waiting for its word, or was killed,
and after the engine was asked for the job and did not know it. So a job stays in doubt for a
while after every attempt whose outcome is not known, even when a later one succeeded.
"""

from __future__ import annotations

from collections.abc import Collection, Container

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from vsmgate.jobs.line import backoff

__all__ = ["Attempts"]


class Attempts:
    """``shortest``: seconds between two attempts at one job; `backoff` makes them more.

    ``late``: seconds for which a job stays in doubt.
    """

    def __init__(self, shortest: float, late: float, clock: IReactorTime) -> None:
        self._shortest = shortest
        self._late = late
        self._clock = clock
        self._untried: set[str] = set()
        self._settling: dict[str, list[Deferred[None]]] = {}
        self._retries: dict[str, tuple[int, float]] = {}
        self._doubts: dict[str, float] = {}

    def new(self, job_id: str) -> None:
        """Note a job that the engine was never asked to take."""
        self._untried.add(job_id)
        self._settling.setdefault(job_id, [])

    def untried(self, job_id: str) -> bool:
        """Return whether the engine cannot have the job, for certain."""
        return job_id in self._untried

    def begin(self, job_id: str) -> None:
        """Note that the engine is asked now: from here on it may have the job."""
        self._untried.discard(job_id)

    def failed(self, job_id: str) -> None:
        """Note that it is not known whether the engine took the job."""
        failures = self._retries.get(job_id, (0, 0.0))[0] + 1
        at = self._clock.seconds() + backoff(self._shortest, failures)
        self._retries[job_id] = failures, at
        self.doubt(job_id)

    def doubt(self, job_id: str) -> None:
        """Note that the engine may yet take a job that it was asked to take before."""
        self._doubts[job_id] = self._clock.seconds() + self._late

    def prolong(self, seconds: float) -> None:
        """Go on doubting what is in doubt: the engine cannot be asked for so long."""
        until = self._clock.seconds() + seconds + self._late
        self._doubts = dict.fromkeys(self.doubts(), until)

    def doubts(self) -> Collection[str]:
        """Return the jobs that the engine may yet take, or take once more; ended ones too."""
        now = self._clock.seconds()
        self._doubts = {job_id: until for job_id, until in self._doubts.items() if until > now}
        return self._doubts.keys()

    def due(self, job_id: str) -> bool:
        """Return whether it is time to try."""
        return self._clock.seconds() >= self._retries.get(job_id, (0, 0.0))[1]

    def told(self, job_id: str) -> None:
        """Tell those who wait that there was a first word."""
        for waiting in self._settling.pop(job_id, []):
            waiting.callback(None)

    def over(self, job_id: str) -> None:
        """Make no more attempts at a job, which the engine has or never will."""
        self._untried.discard(job_id)
        self._retries.pop(job_id, None)
        self.told(job_id)

    def keep(self, live: Container[str]) -> None:
        """Forget the jobs that are not among ``live``: others ended them."""
        for job_id in [i for i in self._retries.keys() | self._untried if i not in live]:
            self.over(job_id)

    async def settled(self, job_id: str, seconds: float) -> None:
        """Wait for the first word on a job, at most ``seconds``."""
        if job_id not in self._settling:
            return
        tried: Deferred[None] = Deferred()  # once it timed out, it ignores what comes
        self._settling[job_id].append(tried)
        await tried.addTimeout(seconds, self._clock, lambda _, __: None)
