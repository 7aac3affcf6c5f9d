"""``GET /v1/jobs/{id}/events``: a job's life as server-sent events (the HTML standard, 9.2).

An event is the whole job as ``/v1/jobs/{id}`` shows it, with its revision as the id: what
was missed needs no telling, as the present state says it all. ``event: job`` while it
lives, ``event: end`` once, then the stream ends. Comments keep the connection alive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator

import msgspec
from twisted.internet.interfaces import IReactorTime

from vsmgate.api.call import Call
from vsmgate.api.desk import Desk
from vsmgate.api.reply import Reply
from vsmgate.api.route import Route
from vsmgate.api.stream import Stream
from vsmgate.api.views import Views
from vsmgate.errors import (
    AuthenticatorUnavailable,
    NoSuchJob,
    QuotaExceeded,
    StoreUnavailable,
    Unauthenticated,
)
from vsmgate.model import Job

__all__ = ["Events"]

#: Seconds between two signs of life. Proxies cut what is silent for 60 s (nginx, ELB).
HEARTBEAT = 15.0
#: Seconds between two questions whether the token was revoked: it counts within a minute, and a
#: job that changes often asks no provider more often.
RECHECK = 25.0
#: Streams of one user at a time.
MOST = 32
#: Milliseconds after which a client that was cut off comes again.
RETRY = 2000

_TYPE = "text/event-stream"
#: A proxy shall not collect what should arrive at once (nginx).
_UNBUFFERED = ((b"X-Accel-Buffering", b"no"),)


class Events:
    """Streams, at most `MOST` of one user."""

    def __init__(self, desk: Desk, views: Views, clock: IReactorTime) -> None:
        self._desk = desk
        self._views = views
        self._clock = clock
        self._open: Counter[str] = Counter()

    def routes(self) -> list[Route]:
        """Return the route."""
        return [
            Route(
                "GET",
                "/v1/jobs/{job_id}/events",
                self.events,
                "A job's changes as server-sent events; 204: there are no more",
                {200: _TYPE, 204: None},
                (
                    Unauthenticated, AuthenticatorUnavailable, StoreUnavailable,
                    NoSuchJob, QuotaExceeded,
                ),
            )
        ]  # fmt: skip

    async def events(self, call: Call) -> Reply | Stream:
        """Begin a stream; who has seen the end of an ended job needs none."""
        job = await self._desk.get(call.identity, call.job_id())
        seen = call.header(b"Last-Event-ID") or ""
        if job.ended and seen == _id(job):
            return Reply(204)
        if self._open[call.identity.subject] >= MOST:
            raise QuotaExceeded(f"You have {MOST} streams of events open; close one.")
        return Stream(self._pieces(call, job.id, seen), _TYPE.encode("ascii"), _UNBUFFERED)

    async def _pieces(self, call: Call, job_id: str, seen: str) -> AsyncGenerator[bytes, None]:
        subject = call.identity.subject
        self._open[subject] += 1
        asked = self._clock.seconds()
        try:
            yield b"retry: %d\n\n" % RETRY
            while True:
                if self._clock.seconds() - asked >= RECHECK:
                    await self._recheck(call)
                    asked = self._clock.seconds()
                job = await self._desk.get(call.identity, job_id)
                if (now := _id(job)) != seen:
                    seen = now
                    yield self._event(call, job)
                    continue  # it may have changed while that was taken
                if job.ended:
                    return
                left = self._desk.expires_in(call.identity)
                if left is not None and left <= 0:
                    yield b": the token has expired\n\n"
                    return
                pause = HEARTBEAT if left is None else min(HEARTBEAT, left)
                after = await self._desk.wait(call.identity, job_id, pause)
                if _id(after) == seen:
                    yield b":\n\n"
        except Unauthenticated:
            yield b": the token was revoked\n\n"
        except NoSuchJob:
            return  # it was over for long, and is forgotten; or the right to see it has ended
        finally:
            self._open[subject] -= 1
            if not self._open[subject]:
                del self._open[subject]

    async def _recheck(self, call: Call) -> None:
        """Fail with `Unauthenticated` when the token was revoked meanwhile."""
        try:
            await self._desk.recheck(call.identity)
        except (AuthenticatorUnavailable, StoreUnavailable):
            pass  # it cannot be told now, and is asked again

    def _event(self, call: Call, job: Job) -> bytes:
        name = b"end" if job.ended else b"job"
        shown = self._views.job(job, self._desk.right(call.identity, job))
        body = msgspec.json.encode(shown)  # one line: JSON escapes what breaks one
        return b"event: %b\nid: %b\ndata: %b\n\n" % (name, _id(job).encode("ascii"), body)


def _id(job: Job) -> str:
    """Return the id of an event: ``stale_since`` comes and goes within a revision."""
    return f"{job.revision}" if job.stale_since is None else f"{job.revision}-stale"
