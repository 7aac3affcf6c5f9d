"""Runs jobs on a Slurm cluster, through its commands or through slurmrestd.

A job is a batch script (`vsmgate.launchers.job_script`) with our tag as its name. The
cluster tells where the job is; a folder that gateway and nodes share holds what the script
reports: ports, outputs, how it ended. All jobs are asked for by one ``squeue``; those that
the controller has forgotten are looked up in accounting, and failing that in their folder.

The ref is ``NUMBER:JOB`` or, where jobs run as their owners, ``NUMBER:JOB:USER``.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from twisted.internet.interfaces import IReactorProcess, IReactorThreads, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.errors import BadParameters, ConfigError, EngineRefused, EngineUnreachable
from vsmgate.hands.threads import Threads
from vsmgate.interfaces import (
    Context,
    IEngineCheck,
    IExtendable,
    ILauncher,
    ILauncherFactory,
    ISettingsChecker,
)
from vsmgate.launchers import slurm_folder
from vsmgate.launchers.job_report import places_on
from vsmgate.launchers.job_script import Place, names_for, render_script
from vsmgate.launchers.slurm_answers import SlurmJob
from vsmgate.launchers.slurm_check import check_slurm
from vsmgate.launchers.slurm_client import TAKE_SECRET, Order, SlurmClient
from vsmgate.launchers.slurm_commands import SlurmCommands
from vsmgate.launchers.slurm_plan import SlurmPlan, check_plan, minutes, sbatch_options
from vsmgate.launchers.slurm_reasons import ended_without_record, observation, phase_of
from vsmgate.launchers.slurm_ref import SlurmRef, account_of, refs_of
from vsmgate.launchers.slurm_settings import SlurmSettings, settings_problems
from vsmgate.model import JOB_ID, Endpoint, Launch, LogStream, Observation, Phase, Usecase, tag_of

__all__ = ["SlurmLauncher", "SlurmLauncherFactory"]

T = TypeVar("T")


@implementer(ILauncherFactory, ISettingsChecker)
class SlurmLauncherFactory:
    """Makes launchers of Slurm jobs."""

    kind = "slurm"
    help = "batch jobs on a Slurm cluster, through its commands or slurmrestd"
    settings = SlurmSettings
    plan = SlurmPlan

    def make(self, settings: SlurmSettings, context: Context) -> SlurmLauncher:
        self.inspect(settings, context)
        return (ExtendingSlurmLauncher if settings.extend else SlurmLauncher)(settings, context)

    def inspect(self, settings: SlurmSettings, context: Context) -> None:
        problems = settings_problems(settings, f"launchers.{context.name}", context.config_dir)
        if problems:
            raise ConfigError(context.name, problems)

    def check(self, usecase: Usecase, plan: SlurmPlan) -> Sequence[str]:
        return check_plan(usecase, plan)


@implementer(ILauncher, IEngineCheck)
class SlurmLauncher:
    """Jobs on one cluster."""

    _log = Logger()

    def __init__(self, settings: SlurmSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._own = not settings.run_as
        self._threads = Threads(IReactorThreads(context.reactor))
        self._lookups = Threads(IReactorThreads(context.reactor))
        self._commands = SlurmCommands(
            IReactorProcess(context.reactor),
            bin_dir=settings.bin_dir,
            conf=context.config_dir / settings.conf if settings.conf else None,
            prefix=settings.run_as,
            timeout=settings.timeout,
            json=settings.query == "json",
            accounting=settings.accounting,
        )
        self._slurm: SlurmClient = self._commands
        if settings.rest is not None:
            from vsmgate.launchers.slurm_rest import rest_client

            self._user = settings.rest.user
            self._slurm = rest_client(settings.rest, settings.timeout, self._threads, context)
        else:
            self._user = pwd.getpwuid(os.geteuid()).pw_name if self._own else ""
        folder = context.config_dir / settings.folder if settings.folder else None
        self._folder = str((folder or context.state_dir / context.name).absolute())
        ports = settings.ports
        self._place = Place(
            self._folder, settings.bind, ports, settings.python, not self._own, TAKE_SECRET
        )
        self._node = re.compile(settings.nodes, re.ASCII)
        self._clock = IReactorTime(context.reactor)
        self._ports: dict[str, dict[str, int]] = {}
        self._answer = _Answer()

    # -- ILauncher ---------------------------------------------------------------------

    async def submit(self, launch: Launch) -> str:
        user = "" if self._own else await self._account(launch.owner)
        if not self._settings.folder:
            self._make_folder()
        try:
            names = next(iter(names_for(launch, self._place).values()))
            options = sbatch_options(launch.plan, names, launch.lifetime)
            script = render_script(launch, self._place)
        except BadParameters as error:
            raise EngineRefused(error.detail, code=error.code) from None
        output = f"{self._folder}/{launch.job_id}.log"
        order = Order(launch.tag, options, script, output, user, launch.secret)
        number = await self._slurm.submit(order)
        return str(SlurmRef(number, launch.job_id, user))

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        ids = {tag: job_id for tag in tags if JOB_ID.fullmatch(job_id := tag[len(tag_of("")) :])}
        jobs = await self._slurm.jobs(names=ids, user=self._user)
        if left := ids.keys() - {job.name for job in jobs}:
            jobs += await self._slurm.records(names=left, user=self._user)
        found, doubles = refs_of(jobs, ids, own=self._own)
        for ref in doubles:
            self._log.warn("{tag} was started twice: {ref} ends", tag=tag_of(ref.job_id), ref=ref)
            await self._slurm.cancel(ref.number, tag_of(ref.job_id), ref.user)
        if self._own and (left := ids.keys() - found.keys()):
            numbers = await self._in_thread(
                lambda: {
                    tag: slurm_folder.read_number(self._folder, ids[tag], os.geteuid())
                    for tag in left
                }
            )
            found |= {tag: SlurmRef(n, ids[tag]) for tag, n in numbers.items() if n is not None}
        return {tag: str(ref) for tag, ref in found.items()}

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        known = {ref: parsed for ref in refs if (parsed := SlurmRef.parse(ref)) is not None}
        jobs = await self._look(known.values())
        gone = {ref.number for ref in known.values() if ref.number not in jobs}
        for record in await self._slurm.records(numbers=gone):
            if phase_of(record) is Phase.ENDED:  # else accounting missed its end
                jobs[record.number] = record
        ours: dict[str, SlurmJob | None] = {}
        for text, ref in known.items():
            job = jobs.get(ref.number)
            ours[text] = job if job is not None and job.name == tag_of(ref.job_id) else None
        seen = await self._in_thread(lambda: self._read(known, ours)) if known else {}
        return {ref: seen.get(ref, Observation(Phase.UNKNOWN)) for ref in refs}

    async def cancel(self, ref: str) -> None:
        if parsed := SlurmRef.parse(ref):
            self._answer = _Answer()
            await self._slurm.cancel(parsed.number, tag_of(parsed.job_id), parsed.user)

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        parsed = SlurmRef.parse(ref)
        if parsed is None or tail <= 0:
            return b""
        folder, job_id, uid = self._folder, parsed.job_id, self._uid

        def read() -> bytes:
            return slurm_folder.read_log(folder, job_id, uid(parsed), service, stream, tail)

        return await self._in_thread(read)

    async def forget(self, ref: str) -> None:
        parsed = SlurmRef.parse(ref)
        if parsed is None:
            return
        job = (await self._look([parsed])).get(parsed.number)
        ours = job is not None and job.name == tag_of(parsed.job_id)
        if job is not None and ours and phase_of(job) is not Phase.ENDED:
            return
        self._ports.pop(ref, None)
        path = f"{self._folder}/{parsed.job_id}"
        await self._commands.remove([path, f"{path}.log"], parsed.user)

    async def close(self) -> None:
        """Nothing is held: every command and every thread is asked for when it is needed."""

    async def check_engine(self) -> Sequence[str]:
        return await check_slurm(self._slurm, self._threads, Path(self._folder), own=self._own)

    # -- parts -------------------------------------------------------------------------

    async def _account(self, owner: str) -> str:
        try:
            return await self._lookups.run(lambda: account_of(owner))
        except BlockingIOError:
            raise EngineUnreachable("The gateway's user database does not answer.") from None

    def _uid(self, ref: SlurmRef) -> int:
        """Return whose files count; asks the system's user database, which may block."""
        try:
            return pwd.getpwnam(ref.user).pw_uid if ref.user else os.geteuid()
        except KeyError:
            return -1

    def _make_folder(self) -> None:
        try:
            Path(self._folder).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise EngineRefused(
                f"The gateway cannot write its state directory: {error.strerror}.",
                code="state_dir_unwritable",
            ) from None

    async def _look(self, refs: Iterable[SlurmRef]) -> dict[int, SlurmJob]:
        """Return number -> job for those the controller knows; a recent answer will do."""
        numbers = frozenset(ref.number for ref in refs)
        last, now = self._answer, self._clock.seconds()
        if not (numbers <= last.asked and now < last.good_until):
            jobs = {job.number: job for job in await self._slurm.jobs(numbers=numbers)}
            took = self._clock.seconds() - now
            good_until = now + took + max(self._settings.poll_every, 5.0 * took)
            last = self._answer = _Answer(numbers, jobs, good_until)
        return {number: job for number, job in last.jobs.items() if number in numbers}

    def _read(
        self, refs: Mapping[str, SlurmRef], jobs: Mapping[str, SlurmJob | None]
    ) -> dict[str, Observation]:
        """Return what is seen of each job, with what its folder says; runs in a thread."""
        seen = {}
        for text, ref in refs.items():
            job = jobs[text]
            phase = phase_of(job) if job is not None else Phase.UNKNOWN
            if phase in (Phase.ENDED, Phase.UNKNOWN):
                place = self._folder, ref.job_id, self._uid(ref)
                ending = slurm_folder.read_ending(*place)
                words = slurm_folder.last_words(*place, ending.service if ending else "")
                if job is not None:
                    seen[text] = observation(job, ending, words)
                elif ending is not None:
                    seen[text] = ended_without_record(ending, words)
            elif job is not None:
                found = observation(job)
                if phase is Phase.RUNNING:
                    found = Observation(phase, self._endpoints(text, ref, job), end_time=job.end)
                seen[text] = found
        return seen

    def _endpoints(self, text: str, ref: SlurmRef, job: SlurmJob) -> dict[str, Endpoint]:
        """Return where the services of a running job are, as far as its script said."""
        ports = self._ports.get(text)
        if not ports:
            ports = slurm_folder.read_ports(self._folder, ref.job_id, self._uid(ref))
            self._ports[text] = ports
        found = places_on(job.node, ports, self._node, self._settings.address) if ports else {}
        if found is None:
            self._log.warn("job {ref} is on {node!r}: not allowed", ref=text, node=job.node[:253])
        return found or {}

    async def _in_thread(self, work: Callable[[], T]) -> T:
        try:
            return await self._threads.run(work)
        except OSError as error:
            why = error.strerror or str(error)
            detail = f"The folder of the jobs, {self._folder}, cannot be read: {why}."
            raise EngineUnreachable(detail) from None


@implementer(IExtendable)
class ExtendingSlurmLauncher(SlurmLauncher):
    """Where the gateway's user may move time limits: an operator of Slurm."""

    async def extend(self, ref: str, lifetime: float) -> None:
        parsed = SlurmRef.parse(ref)
        jobs = await self._look([parsed]) if parsed else {}
        job = jobs.get(parsed.number) if parsed else None
        if parsed is None or job is None or job.name != tag_of(parsed.job_id):
            raise EngineRefused("Slurm does not know the job any more.", code="not_extendable")
        if phase_of(job) is Phase.ENDED:
            raise EngineRefused("The job has ended.", code="not_extendable")
        self._answer = _Answer()
        await self._slurm.extend(parsed.number, minutes(lifetime))


class _Answer(NamedTuple):
    """What squeue said last: for which numbers, and until when that will do."""

    asked: frozenset[int] = frozenset()
    jobs: Mapping[int, SlurmJob] = {}
    good_until: float = 0.0
