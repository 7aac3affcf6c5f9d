"""Runs jobs as tasks on Amazon ECS, on Fargate or on EC2, in awsvpc networks.

A job is one task of a task definition that the operator registered; its services are
containers of it. The tag is the task's ``startedBy``, and the ``clientToken`` of the
``RunTask``: ECS itself makes one task of a question that is asked twice. All jobs are asked
for in hundreds. The ref is `vsmgate.launchers.ecs_ref.EcsRef`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.errors import BadParameters, EngineRefused, EngineUnreachable
from vsmgate.interfaces import Context, IEngineCheck, IExtendable, ILauncher, IUsecaseCheck
from vsmgate.launchers.ecs_answers import Task
from vsmgate.launchers.ecs_check import check_definitions, check_ecs
from vsmgate.launchers.ecs_client import EcsClient
from vsmgate.launchers.ecs_plan import EcsPlan, places_of, run_task
from vsmgate.launchers.ecs_reasons import address_of, observation
from vsmgate.launchers.ecs_ref import EcsRef, Place
from vsmgate.launchers.ecs_settings import EcsSettings
from vsmgate.model import Launch, LogStream, Observation, Phase, Reason, Usecase

__all__ = ["EcsLauncher"]

#: ECS is eventually consistent: so long after a start it may not know the task yet.
_FRESH = 120.0


@implementer(ILauncher, IExtendable, IEngineCheck, IUsecaseCheck)
class EcsLauncher:
    """Jobs on one cluster."""

    _log = Logger()

    def __init__(self, settings: EcsSettings, context: Context) -> None:
        self._settings = settings
        self._clock = IReactorTime(context.reactor)
        self._ecs = EcsClient(context.reactor, settings, context.config_dir)
        self._fresh: dict[str, float] = {}
        self._told: set[str] = set()

    # -- ILauncher ---------------------------------------------------------------------

    async def submit(self, launch: Launch) -> str:
        try:
            body = run_task(launch, self._settings)
        except BadParameters as error:
            raise EngineRefused(error.detail, code=error.code) from None
        places = places_of(launch.usecase, launch.plan, self._settings.first_port)
        ref = EcsRef.of(await self._ecs.run(body), places)
        if ref is None:
            raise EngineUnreachable("ECS ran a task, and gives it a name that is none.")
        self._fresh[ref.task] = self._clock.seconds()
        return str(ref)

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        found = {}
        for tag in tags:
            arns = await self._ecs.started_by(tag)
            tasks = await self._ecs.describe(arns) if arns else []
            # Others may have imitated the tag, but later.
            for task in sorted(tasks, key=lambda task: task.created_at or 0.0, reverse=True):
                if task.started_by == tag and (ref := _ref_of(task)):
                    found[tag] = str(ref)
        return found

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        known = {ref: parsed for ref in refs if (parsed := EcsRef.parse(ref)) is not None}
        tasks = await self._look([ref.task for ref in known.values()])
        return {ref: self._observe(known.get(ref), tasks) for ref in refs}

    async def cancel(self, ref: str) -> None:
        if parsed := EcsRef.parse(ref):
            await self._ecs.stop(parsed.task)

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        parsed = EcsRef.parse(ref)
        if parsed is None or stream is not LogStream.STDOUT or tail <= 0:
            return b""  # CloudWatch keeps one stream of both, which is told as the output
        for place in parsed.places:
            if place.service == service and self._settings.log_group:
                return await self._ecs.log_tail(self._stream(parsed, place), tail)
        return b""

    async def forget(self, ref: str) -> None:
        parsed = EcsRef.parse(ref)
        if parsed is None:
            return
        tasks = await self._look([parsed.task])
        if self._observe(parsed, tasks).phase not in (Phase.ENDED, Phase.UNKNOWN):
            return
        self._told.discard(parsed.task)
        if self._settings.log_group and not self._settings.keep_logs:
            for place in parsed.places:
                await self._ecs.remove_log(self._stream(parsed, place))

    async def close(self) -> None:
        await self._ecs.close()

    # -- IExtendable -------------------------------------------------------------------

    async def extend(self, ref: str, lifetime: float) -> None:
        """ECS sets no limit: the gateway alone ends its jobs, so any end will do."""
        seen = (await self.poll([ref]))[ref]
        if seen.phase in (Phase.ENDED, Phase.UNKNOWN):
            raise EngineRefused("The job does not run any more.", code="not_extendable")

    # -- IEngineCheck, IUsecaseCheck ---------------------------------------------------

    async def check_engine(self) -> Sequence[str]:
        return await check_ecs(self._ecs)

    async def check_usecases(self, plans: Sequence[tuple[Usecase, EcsPlan]]) -> Sequence[str]:
        return await check_definitions(self._ecs, plans)

    # -- parts -------------------------------------------------------------------------

    def _stream(self, ref: EcsRef, place: Place) -> str:
        """Return a container's stream, as the log driver awslogs names it."""
        return f"{self._settings.log_prefix}/{place.container}/{ref.task}"

    async def _look(self, ids: Sequence[str]) -> dict[str, Task]:
        tasks = await self._ecs.describe(ids) if ids else []
        found = {task.task_arn.rpartition("/")[2]: task for task in tasks}
        oldest = self._clock.seconds() - _FRESH
        self._fresh = {task: since for task, since in self._fresh.items() if since > oldest}
        return found

    def _observe(self, ref: EcsRef | None, tasks: Mapping[str, Task]) -> Observation:
        if ref is None:
            return Observation(Phase.UNKNOWN)
        task = tasks.get(ref.task)
        if task is None and ref.task in self._fresh:
            waits = Reason("starting", "ECS has taken the task, and does not show it yet.")
            return Observation(Phase.STARTING, reason=waits)
        if task is None:
            return Observation(Phase.UNKNOWN)
        self._fresh.pop(ref.task, None)
        if task.last_status == "RUNNING" and not address_of(task) and ref.task not in self._told:
            self._told.add(ref.task)
            self._log.error("task {task} has no address in an awsvpc network", task=ref.task)
        return observation(task, ref)


def _ref_of(task: Task) -> EcsRef | None:
    """Return the ref of a task of ours, from the variables that its containers were given."""
    places = []
    for override in task.overrides.container_overrides:
        variables = {pair.name: pair.value for pair in override.environment}
        service, port = variables.get("VSMGATE_SERVICE"), variables.get("VSMGATE_PORT", "")
        if service and port.isdecimal():
            places.append(Place(service, override.name, int(port)))
    return EcsRef.of(task.task_arn, tuple(places)) if places else None
