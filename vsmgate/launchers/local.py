"""Runs jobs as processes of this machine.

Each job has a folder (`vsmgate.launchers.local_folder`) and one small supervisor process
(`vsmgate.launchers.local_supervisor`) in a session of its own, which starts the services,
enforces the time limit and keeps the exit codes, whether the gateway lives or not.

Submitting is atomic, whenever the gateway is killed: the folder's lock is taken, the
request written, and the supervisor *inherits* the locked descriptor. So a free lock means
that no supervisor lives nor ever will; and as the supervisor writes its record before it
starts anything, a free lock without a record means that nothing ran.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, NoReturn

from msgspec import Meta, Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorProcess, IReactorThreads, IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.errors import (
    BadParameters,
    ConfigError,
    EngineRefused,
    EngineUnreachable,
    Problem,
)
from vsmgate.hands.processes import spawn
from vsmgate.interfaces import (
    Context,
    IAbandoning,
    IEngineCheck,
    IExtendable,
    ILauncher,
    ILauncherFactory,
    ILister,
    ITargets,
)
from vsmgate.launchers import local_supervisor
from vsmgate.launchers.local_check import check_machine
from vsmgate.launchers.local_folder import LONGEST_TAIL, JobFolder
from vsmgate.launchers.local_ports import Ports
from vsmgate.launchers.local_processes import look, members, send
from vsmgate.launchers.local_record import Cause, LocalRef, Record, refusal
from vsmgate.launchers.local_request import Count, LocalPlan, check_plan, make_request
from vsmgate.launchers.local_table import JobTable, supervisor
from vsmgate.model import JOB_ID, Launch, LogStream, Observation, Usecase, tag_of

__all__ = ["LocalLauncher", "LocalLauncherFactory", "LocalSettings"]

INHERITED = (
    "PATH HOME USER LOGNAME SHELL LANG LANGUAGE LC_ALL LC_CTYPE TZ TMPDIR PYTHONPATH "
    "LD_LIBRARY_PATH DISPLAY XAUTHORITY XDG_RUNTIME_DIR CUDA_VISIBLE_DEVICES OMP_NUM_THREADS"
)
#: How long a supervisor may take until the services run, in seconds.
STARTING = 10.0


class LocalSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launchers.NAME]`` with ``kind = "local"``.

    ``grace``: seconds between SIGTERM and SIGKILL. ``inherit``: names of the gateway's
    environment variables that jobs get; no others. ``bind``: the address that services are
    told to bind, and are dialled at. ``cpus``, ``memory`` (octets): of each job whose use
    case does not say. ``max_output``: of each output of each service the last octets are kept.
    """

    grace: Annotated[float, Meta(ge=0)] = 10.0
    inherit: tuple[str, ...] = tuple(INHERITED.split())
    bind: str = "127.0.0.1"
    cpus: Count | None = None
    memory: Count | None = None
    max_output: Annotated[int, Meta(ge=LONGEST_TAIL)] = 16 * 1024 * 1024


@implementer(ILauncherFactory, ITargets)
class LocalLauncherFactory:
    """Makes launchers of jobs on the gateway's own machine."""

    kind = "local"
    help = "jobs as processes on the gateway's machine"
    settings = LocalSettings
    plan = LocalPlan

    def make(self, settings: LocalSettings, context: Context) -> LocalLauncher:
        where = f"launchers.{context.name}"
        problems = []
        try:
            if ipaddress.ip_address(settings.bind).is_unspecified:
                raise ValueError
        except ValueError:
            detail = f"{settings.bind!r} is no address to dial; give one, such as 127.0.0.1"
            problems.append(Problem(f"{where}.bind", detail))
        if look(os.getpid()) is None or not hasattr(os, "pidfd_open"):
            problems.append(Problem(f"{where}.kind", "local jobs need Linux with /proc"))
        elif settings.cpus is not None and settings.cpus > (there := len(os.sched_getaffinity(0))):
            detail = f"{settings.cpus} is more than the {there} processors that the gateway may use"
            problems.append(Problem(f"{where}.cpus", detail))
        if problems:
            raise ConfigError(context.name, problems)
        inherited = {name: os.environ[name] for name in settings.inherit if name in os.environ}
        return LocalLauncher(settings, context, inherited)

    def targets(self, settings: LocalSettings) -> Sequence[str]:
        return [settings.bind]

    def check(self, usecase: Usecase, plan: LocalPlan) -> Sequence[str]:
        return check_plan(usecase, plan)


@implementer(ILauncher, IAbandoning, IExtendable, IEngineCheck, ILister)
class LocalLauncher:
    """Jobs on this machine. ``environment``: what all of them inherit."""

    _log = Logger()

    def __init__(
        self, settings: LocalSettings, context: Context, environment: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._context = context
        self._environment = dict(environment)
        self._ports = Ports(settings.bind)
        self._table = JobTable(context.state_dir / "jobs", self._ports)
        self._closed = False

    # -- ILauncher ---------------------------------------------------------------------

    async def submit(self, launch: Launch) -> str:
        folder = self._table.folder(launch.job_id)
        started: Deferred[None] | None = None
        try:
            folder.make()
            with folder.locked() as lock:
                if folder.record() is None:  # else it was submitted before
                    try:
                        started = self._start(launch, folder, lock)
                    except Exception:
                        self._table.discard(folder)
                        raise
        except BlockingIOError:
            raise EngineUnreachable("The job runs already, or is being started.") from None
        except OSError as error:
            raise EngineRefused(
                f"The gateway cannot write its state directory: {error.strerror}.",
                code="state_dir_unwritable",
            ) from None
        except BadParameters as error:
            raise EngineRefused(error.detail, code=error.code) from None
        if started is not None:
            await started.addTimeout(STARTING, IReactorTime(self._context.reactor), _too_slow)
        return self._outcome(folder, launch.tag)

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        found = {}
        for tag in tags:
            job_id = tag.removeprefix(tag_of(""))
            if JOB_ID.fullmatch(job_id):
                record = await self._settled_record(self._table.folder(job_id))
                if record is not None:
                    found[tag] = str(LocalRef(record.pid, record.start, job_id))
        return found

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        return {ref: self._table.observe(ref) for ref in refs}

    async def cancel(self, ref: str) -> None:
        if known := self._table.known(ref):
            self._table.end(*known)

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        known = self._table.known(ref)
        if known is None or service not in known.record.services:
            return b""
        return known.folder.tail(f"{service}.{stream.value}", tail)

    async def forget(self, ref: str) -> None:
        known = self._table.known(ref)
        if known is None or not known.record.ended:
            return
        self._table.release(known.folder)
        reactor = IReactorThreads(self._context.reactor)
        # The job's own files may be many.
        await deferToThreadPool(reactor, reactor.getThreadPool(), known.folder.remove)

    async def abandon(self, tag: str) -> None:
        job_id = tag.removeprefix(tag_of(""))
        if not JOB_ID.fullmatch(job_id):
            return
        folder = self._table.folder(job_id)
        try:
            with folder.locked():
                if folder.record() is None:
                    self._table.discard(folder)
        except (FileNotFoundError, BlockingIOError):
            pass  # there is nothing, or a supervisor after all

    async def close(self) -> None:
        self._closed = True

    # -- IExtendable -------------------------------------------------------------------

    async def extend(self, ref: str, lifetime: float) -> None:
        known = self._table.known(ref)
        if known is None or known.record.cause or not (found := supervisor(known.record)):
            raise EngineRefused("The job does not run any more.", code="not_extendable")
        try:
            known.folder.write_lifetime(lifetime)
        except OSError as error:
            raise EngineUnreachable(f"The new limit cannot be kept: {error.strerror}.") from None
        send(found, signal.SIGHUP)

    # -- ILister -----------------------------------------------------------------------

    @property
    def remedy(self) -> str:
        return f"vsmgate local-jobs {self._context.state_dir} --end JOB ends one"

    async def running(self) -> Collection[str]:
        return [known.record.tag for known in self._table.running()]

    # -- IEngineCheck ------------------------------------------------------------------

    async def check_engine(self) -> Sequence[str]:
        return await check_machine(
            IReactorProcess(self._context.reactor), self._context.state_dir, self._settings.bind
        )

    # -- starting ----------------------------------------------------------------------

    def _start(self, launch: Launch, folder: JobFolder, lock: int) -> Deferred[None]:
        """Spawn the supervisor, which inherits ``lock``; fires when the services run."""
        with self._ports.reserved(launch.job_id, launch.usecase.services) as ports:
            request = make_request(
                launch,
                ports,
                host=self._settings.bind,
                grace=self._settings.grace,
                now=self._context.wall(),
                environment=self._environment,
                work=folder.work,
                config_dir=self._context.config_dir,
                cpus=self._settings.cpus,
                memory=self._settings.memory,
                max_output=self._settings.max_output,
            )
        folder.write_request(request)
        argv = [sys.executable, "-I", "-S", local_supervisor.__file__, str(folder.path)]
        environment = {**self._environment, "VSMGATE_TAG": launch.tag}
        reactor = IReactorProcess(self._context.reactor)
        with open(os.devnull, "rb") as nothing, folder.supervisor_log() as log:
            descriptors = {0: nothing.fileno(), 2: log.fileno(), 3: lock}
            try:
                return spawn(reactor, argv, environment, descriptors, self._exited).settled
            except OSError as error:
                detail = f"No process can be started now: {error.strerror}."
                raise EngineUnreachable(detail) from None

    def _outcome(self, folder: JobFolder, tag: str) -> str:
        """Return the ref of a job whose supervisor settled; it has ended if that failed."""
        record = folder.record()
        cause = record.cause if record is not None else None
        if record is not None and record.services and (cause is None or cause.kind != "refused"):
            return str(LocalRef(record.pid, record.start, folder.job_id))
        for process in members(tag):  # only a supervisor that was killed leaves any
            send(process, signal.SIGKILL)
        native = folder.tail("supervisor.log", 2048).decode("utf-8", "replace")
        if native:  # it may name paths: not for users
            self._log.warn("the supervisor of {job}: {said}", job=folder.job_id, said=native)
        self._table.discard(folder)
        raise refusal(cause or Cause("refused", detail="its supervisor failed"))

    async def _settled_record(self, folder: JobFolder) -> Record | None:
        """Return the record of a job, which a supervisor may be about to write."""
        clock = IReactorTime(self._context.reactor)
        deadline = clock.seconds() + STARTING
        while (record := folder.record()) is None:
            if folder.free():
                return folder.record()  # written and let go since the look before
            if clock.seconds() > deadline:
                raise EngineUnreachable("A job's supervisor does not come up in time.")
            await deferLater(clock, 0.02)
        return record

    def _exited(self) -> None:
        if not self._closed:
            self._context.nudge()


def _too_slow(result: object, seconds: float) -> NoReturn:
    raise EngineUnreachable(f"The job's supervisor did not start it within {seconds:g} s.")
