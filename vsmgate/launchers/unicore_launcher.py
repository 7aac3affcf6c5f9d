"""Runs jobs at a UNICORE site, through its REST API.

A job is a script (`vsmgate.launchers.job_script`) that UNICORE writes in the job's working
directory and gives to the site's batch system; our tag is one of the job's tags, and its name.
What the script reports (node, ports, outputs, how it ended) is read from files in that
directory, which goes with the job.

The ref is ``ID`` or, where jobs run as their owners, ``ID:USER``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.errors import BadParameters, EngineError, EngineRefused
from vsmgate.interfaces import Context, IEngineCheck, ILauncher
from vsmgate.launchers.job_report import SERVICE, ending_in, places_on, ports_in
from vsmgate.launchers.job_script import Place, names_for, render_script
from vsmgate.launchers.slurm_answers import SlurmJob
from vsmgate.launchers.slurm_ref import USER
from vsmgate.launchers.unicore_answers import UnicoreJob
from vsmgate.launchers.unicore_check import check_unicore
from vsmgate.launchers.unicore_client import LONGEST_TAIL, UnicoreClient
from vsmgate.launchers.unicore_plan import OWNER_TAG, TAKE_SECRET, description
from vsmgate.launchers.unicore_reasons import observation, phase_of
from vsmgate.launchers.unicore_ref import UnicoreRef, account_of
from vsmgate.launchers.unicore_settings import UnicoreSettings
from vsmgate.model import JOB_ID, Endpoint, Launch, LogStream, Observation, Phase, tag_of

__all__ = ["UnicoreLauncher"]

#: Questions at a time: a server has few threads, and every file costs it a remote command.
_AT_ONCE = 4
#: Seconds between two looks at the batch system's details of one job.
_DETAILS_EVERY = 30.0
#: Between two looks at a job lies at least so many times what a look at all of them takes.
_SPARE = 5.0
_LONGEST_ROUND = 12.0
_SMALL = 16 * 1024
_WORDS = 2048


@dataclass
class _Known:
    """What need not be asked again of one job, or not yet."""

    seen: Observation | None = None
    seen_until: float = 0.0
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    batch: SlurmJob | None = None
    batch_phase: Phase | None = None
    batch_until: float = 0.0


@implementer(ILauncher, IEngineCheck)
class UnicoreLauncher:
    """Jobs at one site."""

    _log = Logger()

    def __init__(self, settings: UnicoreSettings, context: Context, site: UnicoreClient) -> None:
        self._settings = settings
        self._site = site
        self._clock = IReactorTime(context.reactor)
        self._place = Place(
            None, settings.bind, settings.ports, settings.python, shared=False, secret=TAKE_SECRET
        )
        self._node = re.compile(settings.nodes, re.ASCII)
        self._known: dict[str, _Known] = {}
        self._asked, self._round = 0, 0.0

    # -- ILauncher ---------------------------------------------------------------------

    async def submit(self, launch: Launch) -> str:
        user = account_of(launch.owner) if self._settings.per_owner else ""
        try:
            names = next(iter(names_for(launch, self._place).values()))
            script = render_script(launch, self._place)
            wanted = description(launch, script, names, user)
        except BadParameters as error:
            raise EngineRefused(error.detail, code=error.code) from None
        return str(UnicoreRef(await self._site.submit(wanted, user), user))

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        found = {}
        for tag in tags:
            if JOB_ID.fullmatch(tag.removeprefix(tag_of(""))):
                jobs = [
                    (job, seen)
                    for job in await self._site.find(tag)
                    if (seen := await self._site.job(job)) is not None and tag in seen.tags
                ]
                if jobs:
                    found[tag] = await self._only(tag, jobs)
        return found

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        seen = {}
        known = {ref: parsed for ref in refs if (parsed := UnicoreRef.parse(ref)) is not None}

        async def work(todo: Iterator[tuple[str, UnicoreRef]]) -> None:
            for text, ref in todo:
                seen[text] = await self._look(text, ref)

        self._asked, began = 0, self._clock.seconds()
        todo = iter(known.items())
        workers = [Deferred.fromCoroutine(work(todo)) for _ in range(min(_AT_ONCE, len(known)))]
        try:
            await gatherResults(workers, consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        finally:
            for worker in workers:
                worker.cancel()
            if self._asked:
                took = self._clock.seconds() - began
                self._round = min(took / self._asked * len(known), _LONGEST_ROUND)
        return {ref: seen.get(ref, Observation(Phase.UNKNOWN)) for ref in refs}

    async def cancel(self, ref: str) -> None:
        if parsed := UnicoreRef.parse(ref):
            self._known.pop(ref, None)
            await self._site.abort(*parsed)

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        parsed = UnicoreRef.parse(ref)
        if parsed is None or tail <= 0 or not SERVICE.fullmatch(service):
            return b""
        return await self._file(parsed, f"{service}.{stream.value}", min(tail, LONGEST_TAIL))

    async def forget(self, ref: str) -> None:
        parsed = UnicoreRef.parse(ref)
        if parsed is None:
            return
        job = await self._site.job(parsed.job)
        if job is None or job.ended:
            self._known.pop(ref, None)
        if job is not None and job.ended:
            await self._site.delete(*parsed)

    async def close(self) -> None:
        await self._site.close()

    # -- IEngineCheck ------------------------------------------------------------------

    async def check_engine(self) -> Sequence[str]:
        return await check_unicore(self._site)

    # -- parts -------------------------------------------------------------------------

    async def _only(self, tag: str, jobs: list[tuple[str, UnicoreJob]]) -> str:
        """Return the ref of the first of the jobs of one tag; end the others.

        There can be others: a server may take a job after the gateway gave up waiting for it
        to say so, and looked for it in vain.
        """

        def ref(job: str, seen: UnicoreJob) -> UnicoreRef:
            users = [text[len(OWNER_TAG) :] for text in seen.tags if text.startswith(OWNER_TAG)]
            return UnicoreRef(job, users[0] if users and USER.fullmatch(users[0]) else "")

        jobs.sort(key=lambda one: (one[1].submission_time, one[0]))
        first, *rest = (ref(*one) for one in jobs)
        for other in rest:
            self._log.warn("{tag} was started twice: {job} ends", tag=tag, job=other.job)
            await self._site.abort(*other)
        return str(first)

    async def _look(self, text: str, ref: UnicoreRef) -> Observation:
        """Return what is seen of one job; a recent answer will do."""
        known, now = self._known.get(text), self._clock.seconds()
        if known is not None and known.seen is not None and now < known.seen_until:
            return known.seen
        self._asked += 1
        job = await self._site.job(ref.job)
        if job is None:
            self._known.pop(text, None)
            return Observation(Phase.UNKNOWN)
        known = self._known.setdefault(text, _Known())
        await self._ask_batch(known, ref, job)
        phase = phase_of(job)
        if phase is Phase.ENDED:
            ending = ending_in((await self._file(ref, "exit", _SMALL)).decode("utf-8", "replace"))
            words = await self._last_words(ref, ending.service if ending else "")
            seen = observation(job, known.batch, ending=ending, words=words)
        else:
            if phase is Phase.RUNNING and not known.endpoints:
                known.endpoints = await self._endpoints(ref)
            seen = observation(job, known.batch, endpoints=known.endpoints)
        known.seen = seen
        # A job that runs and said where its services are has little to tell until it ends.
        pause = self._settings.poll_every * (5 if seen.endpoints else 1)
        known.seen_until = now + max(pause, _SPARE * self._round)
        return seen

    async def _ask_batch(self, known: _Known, ref: UnicoreRef, job: UnicoreJob) -> None:
        """Ask what the batch system says: in every new phase, and now and then while it waits."""
        phase, now = phase_of(job), self._clock.seconds()
        if job.status != "QUEUED" and phase is Phase.QUEUED:
            return  # it is not there yet
        settled = phase is not Phase.QUEUED or now < known.batch_until
        if phase is known.batch_phase and settled:
            return
        known.batch = await self._site.details(ref.job, job.submission_time)
        known.batch_phase, known.batch_until = phase, now + _DETAILS_EVERY

    async def _endpoints(self, ref: UnicoreRef) -> dict[str, Endpoint]:
        """Return where the services of a running job are, as far as its script said."""
        ports = ports_in((await self._file(ref, "ports", _SMALL)).decode("ascii", "replace"))
        if not ports:
            return {}
        node = (await self._file(ref, "node", _SMALL)).decode("ascii", "replace").strip()
        found = places_on(node, ports, self._node, self._settings.address)
        if found is None:
            self._log.warn("job {ref} is on {node!r}: not allowed", ref=str(ref), node=node[:253])
        return found or {}

    async def _last_words(self, ref: UnicoreRef, service: str) -> str:
        """Return the last lines of a service, or of the script itself; nothing where that fails.

        One job's huge file must not keep the others from being seen.
        """
        data = b""
        try:
            for name in (f"{service}.stderr", f"{service}.stdout") if service else ():
                data = data or await self._file(ref, name, _WORDS)
            data = data or await self._site.file(ref.job, "stderr", ref.user, _WORDS)
        except EngineError as error:
            self._log.warn("no last words of {ref}: {why}", ref=str(ref), why=error.detail)
        return data.decode("utf-8", "replace").strip()

    async def _file(self, ref: UnicoreRef, name: str, most: int) -> bytes:
        return await self._site.file(ref.job, f"vsmgate/{name}", ref.user, most)
