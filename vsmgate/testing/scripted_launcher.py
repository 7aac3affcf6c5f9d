"""A launcher whose engine a test scripts: the shipped fake, for tests of what uses a launcher."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from zope.interface import implementer

from vsmgate.errors import EngineRefused, EngineUnreachable, GatewayError
from vsmgate.interfaces import Context, IExtendable, ILauncher, ILauncherFactory
from vsmgate.model import (
    Endpoint,
    Launch,
    LogStream,
    Observation,
    Phase,
    Reason,
    Usecase,
    tag_of,
)

__all__ = ["ScriptedJob", "ScriptedLauncher", "ScriptedLauncherFactory"]


class ScriptedJob:
    """A job of a scripted engine; a test may change all of it."""

    def __init__(self, ref: str, launch: Launch, seen: Observation) -> None:
        self.ref = ref
        self.launch = launch
        self.seen = seen
        self.cancels = 0
        self.logs: dict[tuple[str, LogStream], bytes] = {}


@implementer(ILauncher, IExtendable)
class ScriptedLauncher:
    """An engine in memory that does what a test says.

    ``jobs``: job id -> `ScriptedJob`; hand it to another launcher to play a restart of
    the gateway. ``calls``: (verb, arguments...) in their order. While ``fault`` is set
    every verb fails with it. With ``lose_answers`` a submit is taken, and then fails as
    if the answer was lost. With ``obedient`` (the default) a cancelled job ends at once.
    Between `hold` and `release` every verb waits, or those that are named. ``broken``: verbs
    that alone fail with ``fault``. ``first``: what a new job looks like.
    """

    def __init__(
        self,
        jobs: dict[str, ScriptedJob] | None = None,
        *,
        nudge: Callable[[], None] = lambda: None,
    ) -> None:
        self.jobs: dict[str, ScriptedJob] = {} if jobs is None else jobs
        self.calls: list[tuple[Any, ...]] = []
        self.fault: GatewayError | None = None
        self.broken: Collection[str] = ()
        self.lose_answers = False
        self.obedient = True
        self.extendable = True
        self.closed = False
        self.first = Observation(Phase.STARTING)
        self._nudge = nudge
        self._held: list[Deferred[None]] | None = None
        self._holding: Collection[str] = ()

    # -- the script ----------------------------------------------------------------------

    def tell(self, job_id: str, seen: Observation) -> None:
        """Let the next polls say ``seen`` of a job."""
        self.jobs[job_id].seen = seen
        self._nudge()

    def run(self, job_id: str, **ports: int) -> None:
        """Let a job run, its services at 127.0.0.1 and those ports (else their own)."""
        launch = self.jobs[job_id].launch
        endpoints = {
            name: Endpoint("127.0.0.1", ports.get(name) or service.port or 9)
            for name, service in launch.usecase.services.items()
        }
        self.tell(job_id, Observation(Phase.RUNNING, endpoints=endpoints))

    def end(self, job_id: str, code: str = "exited", message: str = "It ended.") -> None:
        """Let a job end for a reason."""
        self.tell(job_id, Observation(Phase.ENDED, reason=Reason(code, message)))

    def hold(self, *verbs: str) -> None:
        """Let these verbs wait from now on; without any, all."""
        self._held, self._holding = [], verbs

    def release(self) -> None:
        """Let what waits go on."""
        held, self._held = self._held or [], None
        for waiting in held:
            if not waiting.called:
                waiting.callback(None)

    # -- ILauncher and IExtendable -------------------------------------------------------

    async def submit(self, launch: Launch) -> str:
        await self._call("submit", launch)
        job = ScriptedJob(f"scripted-{launch.job_id}", launch, self.first)
        self.jobs[launch.job_id] = job
        if self.lose_answers:
            raise EngineUnreachable("The answer was lost.")
        return job.ref

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        await self._call("find", tuple(tags))
        known = {tag_of(job_id): job.ref for job_id, job in self.jobs.items()}
        return {tag: known[tag] for tag in tags if tag in known}

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        await self._call("poll", tuple(refs))
        unknown = Observation(Phase.UNKNOWN)
        found = {ref: self._job(ref) for ref in refs}
        return {ref: job.seen if job else unknown for ref, job in found.items()}

    async def cancel(self, ref: str) -> None:
        await self._call("cancel", ref)
        job = self._job(ref)
        if job is None or job.seen.phase is Phase.ENDED:
            return
        job.cancels += 1
        if self.obedient:
            self.end(job.launch.job_id, "cancelled_by_administrator", "It was cancelled.")

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        await self._call("logs", ref, service, stream, tail)
        job = self._job(ref)
        written = job.logs.get((service, stream), b"") if job else b""
        return written[-tail:] if tail > 0 else b""

    async def forget(self, ref: str) -> None:
        await self._call("forget", ref)
        job = self._job(ref)
        if job is not None and job.seen.phase is Phase.ENDED:
            del self.jobs[job.launch.job_id]

    async def extend(self, ref: str, lifetime: float) -> None:
        await self._call("extend", ref, lifetime)
        job = self._job(ref)
        if job is None or job.seen.phase is Phase.ENDED or not self.extendable:
            raise EngineRefused("It cannot be extended.", code="not_extendable")
        if job.seen.end_time is not None:
            later = job.seen.end_time + lifetime - job.launch.lifetime
            job.seen = replace(job.seen, end_time=later)
            job.launch = replace(job.launch, lifetime=lifetime)

    async def close(self) -> None:
        self.closed = True

    async def _call(self, *call: Any) -> None:
        self.calls.append(call)
        if self._held is not None and call[0] in (self._holding or call):
            waiting: Deferred[None] = Deferred(lambda _: None)
            self._held.append(waiting)
            await waiting
        if self.fault is not None and call[0] in (self.broken or call):
            raise self.fault

    def _job(self, ref: str) -> ScriptedJob | None:
        return next((job for job in self.jobs.values() if job.ref == ref), None)


class NoSettings(Struct, frozen=True):
    """There is nothing to set."""


@implementer(ILauncherFactory)
class ScriptedLauncherFactory:
    """Makes scripted launchers, and keeps them in ``made`` for the test."""

    kind = "scripted"
    help = "jobs that a test makes up"
    settings = NoSettings
    plan = NoSettings

    def __init__(self) -> None:
        self.made: list[ScriptedLauncher] = []

    def make(self, settings: NoSettings, context: Context) -> ScriptedLauncher:
        self.made.append(ScriptedLauncher(nudge=context.nudge))
        return self.made[-1]

    def check(self, usecase: Usecase, plan: NoSettings) -> Sequence[str]:
        return []
