"""moto's server for ECS, mended where AWS does otherwise and a launcher would notice.

moto keeps records of tasks; it runs nothing and gives addresses that nobody reaches. Here
tasks start as PROVISIONING, have all the containers of their definition and an address of
the loopback network, and their states are set by `vsmgate.simulators.ecs_player`. As at AWS,
``clientToken`` is honoured, an unknown task is MISSING, and stopping takes its time.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from moto.core.responses import ActionResult
from moto.ecs.exceptions import ECSException, InvalidParameterException
from moto.server import ThreadedMotoServer

__all__ = ["serve", "tasks"]

models: Any = import_module("moto.ecs.models")
responses: Any = import_module("moto.ecs.responses")

_LOCK = threading.RLock()


def _addresses() -> Iterator[str]:
    """Yield loopback addresses: one net of them for each stand-in, so that none meet."""
    first, second = random.randrange(1, 255), random.randrange(0, 255)
    while True:
        for last in range(1, 255):
            yield f"127.{first}.{second}.{last}"


class _Task(models.Task):  # type: ignore[misc]  # its base is Any: what is changed here has other types there
    """A task whose state somebody else sets."""

    def __init__(self, cluster: Any, task_definition: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(cluster, task_definition, *args, **kwargs)
        self.status = "PROVISIONING"
        self.definition = task_definition
        self.stop_code: str | None = None
        self.stopped_reason: str | None = None
        self.started_at: float | None = None
        self.containers = []
        for definition in task_definition.container_definitions:
            only = SimpleNamespace(arn=task_definition.arn, container_definitions=[definition])
            container = models.Container(only)
            container.exitCode = container.reason = None
            self.containers.append(container)

    def advance(self) -> None:
        """Being looked at changes nothing."""


def _stop_task(self: Any, cluster_str: str, task_str: str, reason: str) -> Any:
    """Ask for a task's end; the player brings it about."""
    for arn, task in self.tasks.get(self._get_cluster(cluster_str).name, {}).items():
        if arn.endswith(task_str.rpartition("/")[2]):
            if task.desired_status != "STOPPED":
                task.stop_code, task.stopped_reason = "UserInitiated", reason
                task.desired_status = "STOPPED"
            return task
    raise InvalidParameterException("The referenced task was not found.")


class _Response(responses.EC2ContainerServiceResponse):  # type: ignore[misc]  # as above
    """Answers what moto leaves out.

    ``capacity``: how many tasks may run at a time. One more is refused, or waits as
    PROVISIONING where capacity providers are asked for.
    """

    capacity: int | None = None
    _ran: dict[str, tuple[str, Any]] = {}  # noqa: RUF012  # shared by all requests

    def _get_param(self, param_name: str, if_none: Any = None) -> Any:
        value = super()._get_param(param_name, if_none)
        if param_name == "capacityProviderStrategy" and value:
            return [{"capacityProvider": "FARGATE"}]  # moto wants machines for all others
        return value

    def run_task(self) -> Any:
        waits = bool(super()._get_param("capacityProviderStrategy"))
        token = self._get_param("clientToken")
        asked = json.dumps(json.loads(self.body), sort_keys=True)
        with _LOCK:
            if token in self._ran:
                before, answer = self._ran[token]
                if before != asked:
                    raise ECSException("ConflictException", "The clientToken was used before.")
                return answer
            running = [task for task in tasks() if task.last_status != "STOPPED"]
            if self.capacity is not None and len(running) >= self.capacity and not waits:
                failure = {"arn": "arn:aws:ecs:stand-in", "reason": "RESOURCE:MEMORY"}
                return ActionResult({"tasks": [], "failures": [failure]})
            answer = super().run_task()
            if token:
                self._ran[token] = asked, answer
            return answer

    def describe_tasks(self) -> Any:
        ids = {task.rpartition("/")[2] for task in self._get_param("tasks", [])}
        if len(ids) > 100:
            raise InvalidParameterException("Tasks cannot have more than 100 elements.")
        answer = super().describe_tasks()
        known = {task.id for task in answer.result["tasks"]}
        answer.result["failures"] = [
            {"arn": f"arn:aws:ecs:stand-in:task/{task}", "reason": "MISSING"}
            for task in sorted(ids - known)
        ]
        return answer


def tasks() -> list[Any]:
    """Return all tasks of all clusters, in all regions."""
    with _LOCK:
        return [
            task
            for account in list(models.ecs_backends.values())
            for backend in list(account.values())
            for cluster in list(backend.tasks.values())
            for task in list(cluster.values())
        ]


def serve(host: str, port: int, capacity: int | None) -> ThreadedMotoServer:
    """Start the server in a thread; return it once it listens."""
    addresses = _addresses()
    models.random_private_ip = lambda *args, **kwargs: next(addresses)
    models.Task = _Task
    models.EC2ContainerServiceBackend.stop_task = _stop_task
    responses.EC2ContainerServiceResponse = _Response  # before moto.ecs.urls looks for it
    _Response.capacity = capacity
    server = ThreadedMotoServer(host, port, verbose=False)
    server.start()
    return server
