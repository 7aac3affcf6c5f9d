"""Whether ECS would run jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from secrets import token_hex

from vsmgate.errors import BadCredentials, EngineError
from vsmgate.launchers.ecs_client import EcsClient
from vsmgate.launchers.ecs_plan import EcsPlan
from vsmgate.model import Usecase, new_job_id, tag_of

__all__ = ["check_definitions", "check_ecs"]


async def check_ecs(ecs: EcsClient) -> Sequence[str]:
    """Return what is wrong: with the credentials, the cluster, the permissions, the logs.

    It asks for, and stops, a task that there never was: so the permissions are known. Whether
    `RunTask` is permitted cannot be asked without running one.
    """
    nobody = token_hex(16)
    problems = []
    questions: Sequence[tuple[str, Callable[[], Awaitable[object]]]] = (
        ("DescribeClusters", ecs.cluster_trouble),
        ("ListTasks", lambda: ecs.started_by(tag_of(new_job_id()))),
        ("DescribeTasks", lambda: ecs.describe([nobody])),
        ("StopTask", lambda: ecs.stop(nobody)),
        ("GetLogEvents", ecs.log_trouble),
    )
    for operation, question in questions:
        try:
            said = await question()
        except EngineError as error:
            words = ecs.trouble.get(operation)
            if words is None:  # nothing of AWS has answered, nor will it answer the next one
                words = ecs.trouble.get("credentials", "look at region, endpoint and ca_file")
                return [f"{error.detail} {words}"]
            said = f"{error.detail} {operation}: {words}"
            if isinstance(error, BadCredentials):
                return [said]
        if isinstance(said, str) and said:
            problems.append(said)
    return problems


async def check_definitions(
    ecs: EcsClient, plans: Sequence[tuple[Usecase, EcsPlan]]
) -> Sequence[str]:
    """Return what is wrong with the task definitions that use cases name."""
    problems = []
    for usecase, plan in plans:
        containers = [plan.services[name].container or name for name in usecase.services]
        said = await ecs.definition_trouble(plan.task_definition, containers)
        if said:
            problems.append(
                f"The task definition {plan.task_definition!r} of the use case"
                f" {usecase.name!r} {said}."
            )
    return problems
