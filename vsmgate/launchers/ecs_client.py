"""ECS and CloudWatch Logs through their APIs: which questions there are, and their failures."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from twisted.logger import Logger

from vsmgate.errors import BadCredentials, EngineError, EngineRefused, EngineUnreachable
from vsmgate.hands.aws import AwsClient, CredentialsFailed
from vsmgate.hands.http_client import HttpFailed
from vsmgate.launchers.ecs_answers import (
    Cluster,
    Clusters,
    Defined,
    Described,
    Events,
    Listed,
    Ran,
    Stopped,
    Task,
    decode,
    failure,
    is_credentials,
    unplaced,
)
from vsmgate.launchers.ecs_settings import EcsSettings, endpoint_of

__all__ = ["EcsClient"]

_ECS = "AmazonEC2ContainerServiceV20141113"
_LOGS = "Logs_20140328"
#: What changes nothing.
_READS = (
    "DescribeClusters", "DescribeTaskDefinition", "DescribeTasks",
    "GetLogEvents", "ListTasks",
)  # fmt: skip
#: DescribeTasks: "a list of up to 100 task IDs".
_MOST_TASKS = 100
#: Pages of a log: one may be empty though there is more.
_MOST_PAGES = 4
_MOST_EVENTS = 10_000


class EcsClient:
    """Asks for one launcher; raises `EngineRefused` from `run`, else `EngineUnreachable` only.

    ``trouble``: operation -> AWS's own words, while it fails; for operators only.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: EcsSettings, config_dir: Path) -> None:
        self._settings = settings
        self._aws = AwsClient(
            reactor,
            region=settings.region,
            profile=settings.profile,
            ca_file=config_dir / settings.ca_file if settings.ca_file else None,
            timeout=settings.timeout,
        )
        self._urls = {
            "ecs": settings.endpoint or endpoint_of("ecs", settings.region),
            "logs": settings.logs_endpoint or endpoint_of("logs", settings.region),
        }
        self.trouble: dict[str, str] = {}

    async def run(self, body: Mapping[str, Any]) -> str:
        """Return the ARN of the task that ``RunTask`` made.

        Its ``clientToken`` makes this safe to repeat: ECS returns the task that it made
        then. With other overrides it says ConflictException, and which task that is.
        """
        status, answer = await self._ask("ecs", "RunTask", body)
        if status != 200:
            error, words, ids = self._failed("RunTask", status, answer)
            if words.startswith("ConflictException"):
                if ids:
                    return ids[0]
                raise EngineUnreachable("ECS was asked for the job before, and has a task of it.")
            raise error
        ran = decode(answer, Ran)
        if ran.tasks:
            return ran.tasks[0].task_arn
        error = unplaced(ran.failures)
        self._log.warn("ECS placed no task: {why}", why=error.detail)
        raise error

    async def started_by(self, tag: str) -> list[str]:
        """Return the ARNs of the tasks with that ``startedBy``, ended ones too."""
        arns: list[str] = []
        for desired in ("RUNNING", "STOPPED"):
            body = {"startedBy": tag, "desiredStatus": desired, "maxResults": 100}
            listed = await self._answer("ListTasks", body, Listed)
            arns.extend(listed.task_arns)  # there never is a second page of one
        return arns

    async def describe(self, tasks: Collection[str]) -> list[Task]:
        """Return those of the tasks that ECS knows."""
        found: list[Task] = []
        ids = list(tasks)
        for start in range(0, len(ids), _MOST_TASKS):
            body = {"tasks": ids[start : start + _MOST_TASKS]}
            found.extend((await self._answer("DescribeTasks", body, Described)).tasks)
        return found

    async def stop(self, task: str) -> None:
        """Ask for the end of a task; nothing for one that is over or unknown."""
        body = {
            "cluster": self._settings.cluster,
            "task": task,
            "reason": "Stopped by vsmgate.",
        }
        status, answer = await self._ask("ecs", "StopTask", body)
        if status != 200:
            error, _, _ = self._failed("StopTask", status, answer, quiet=("no_task",))
            if error.code != "no_task":
                raise _unreachable(error)
            return
        decode(answer, Stopped)

    async def log_tail(self, stream: str, tail: int) -> bytes:
        """Return the last ``tail`` octets of a log stream; nothing where there is none."""
        body: dict[str, Any] = {
            "logGroupName": self._settings.log_group,
            "logStreamName": stream,
            "limit": max(1, min(tail, _MOST_EVENTS)),
            "startFromHead": False,
        }
        text = b""
        for _ in range(_MOST_PAGES):
            status, answer = await self._ask("logs", "GetLogEvents", body)
            if status != 200:
                error, _, _ = self._failed("GetLogEvents", status, answer, quiet=("not_found",))
                if error.code == "not_found":
                    break
                raise _unreachable(error)
            page = decode(answer, Events)
            lines = [f"{event.message}\n" for event in page.events]
            text = "".join(lines).encode("utf-8", "surrogatepass") + text
            token = page.next_backward_token
            if len(text) >= tail or token is None or token == body.get("nextToken"):
                break
            body["nextToken"] = token
        return text[-tail:]

    async def remove_log(self, stream: str) -> None:
        """Delete a log stream, if it is there and the gateway may."""
        body = {"logGroupName": self._settings.log_group, "logStreamName": stream}
        status, answer = await self._ask("logs", "DeleteLogStream", body)
        if status != 200:
            error, _, _ = self._failed("DeleteLogStream", status, answer, quiet=("not_found",))
            if isinstance(error, EngineUnreachable):
                raise error

    async def cluster_trouble(self) -> str:
        """Return what is wrong with the cluster; nothing where the gateway may not ask."""
        settings = self._settings
        body = {"clusters": [settings.cluster]}
        status, answer = await self._ask("ecs", "DescribeClusters", body)
        if status != 200:
            error, _, _ = self._failed("DescribeClusters", status, answer, quiet=("not_permitted",))
            if error.code != "not_permitted":
                raise _unreachable(error)
            return ""
        (cluster,) = decode(answer, Clusters).clusters or (Cluster(),)
        where = f"{settings.cluster!r} in {settings.region}"
        if cluster.status != "ACTIVE":
            return (
                f"There is no active cluster {where} ({cluster.status}): make it, or set cluster."
            )
        if settings.launch_type == "EC2" and not cluster.machines:
            return f"The cluster {where} has no machines: launch some, or set launch_type."
        return ""

    async def definition_trouble(self, name: str, containers: Collection[str]) -> str:
        """Return why a task definition cannot run ``containers``; nothing where that is secret."""
        status, answer = await self._ask("ecs", "DescribeTaskDefinition", {"taskDefinition": name})
        if status != 200:
            quiet = ("not_permitted", "no_task_definition")
            error, _, _ = self._failed("DescribeTaskDefinition", status, answer, quiet=quiet)
            if error.code not in quiet:
                raise _unreachable(error)
            return "is not there: register it" if error.code == "no_task_definition" else ""
        found = decode(answer, Defined).task_definition
        there = [container.name for container in found.containers]
        missing = [repr(name) for name in containers if name not in there]
        if found.status != "ACTIVE":
            return f"is {found.status}: register it again, or name another revision"
        if missing:
            return f"has no container {', '.join(missing)}; it has: {', '.join(there)}"
        if found.network_mode != "awsvpc":
            mode = found.network_mode or "bridge"
            return f"has the network mode {mode}: register it with awsvpc"
        return ""

    async def log_trouble(self) -> str:
        """Return whether the log group is missing; tries to read a stream that is not there."""
        if self._settings.log_group is None:
            return ""
        body = {"logGroupName": self._settings.log_group, "logStreamName": "vsmgate/none"}
        status, answer = await self._ask("logs", "GetLogEvents", body)
        if status == 200:
            return ""
        error, words, _ = self._failed("GetLogEvents", status, answer, quiet=("not_found",))
        if error.code != "not_found":
            raise _unreachable(error)
        missing = f"There is no log group {self._settings.log_group!r}: make it."
        return missing if "log group" in words else ""

    async def close(self) -> None:
        """Close kept connections."""
        await self._aws.close()

    # -- parts -------------------------------------------------------------------------

    async def _answer(self, operation: str, body: Mapping[str, Any], into: type[Any]) -> Any:
        """Ask ECS of the cluster, where a refusal tells nothing of any job."""
        status, answer = await self._ask(
            "ecs", operation, {"cluster": self._settings.cluster, **body}
        )
        if status != 200:
            error, _, _ = self._failed(operation, status, answer)
            raise _unreachable(error)
        return decode(answer, into)

    async def _ask(
        self, service: str, operation: str, body: Mapping[str, Any]
    ) -> tuple[int, bytes]:
        """Return status and body; asks once more where kept credentials were refused."""
        target = f"{_ECS if service == 'ecs' else _LOGS}.{operation}"
        data = json.dumps(body).encode()
        for last in (False, True):
            try:
                url, again = self._urls[service], operation in _READS
                answer = await self._aws.ask(url, service, target, data, again=again)
            except CredentialsFailed as error:
                self._tell("credentials", f"{error}")
                detail = (
                    "The gateway has no credentials for AWS; its operator finds why in the log."
                )
                raise EngineUnreachable(detail) from None
            except HttpFailed as error:
                raise EngineUnreachable(f"ECS cannot be asked now: {error}.") from None
            if answer.status == 200:
                self.trouble.pop(operation, None)
                break
            if last or not is_credentials(failure(answer.status, answer.body)[0]):
                break
            self._aws.forget_credentials()
        return answer.status, answer.body

    def _failed(
        self, operation: str, status: int, body: bytes, quiet: Collection[str] = ()
    ) -> tuple[EngineError, str, list[str]]:
        error, words, ids = failure(status, body)
        if error.code not in quiet:
            self._tell(operation, words)
        return error, words, ids

    def _tell(self, operation: str, words: str) -> None:
        """Log AWS's own words, which users do not see, once as long as they stay the same."""
        if self.trouble.get(operation) != words:
            self.trouble[operation] = words
            self._log.error("AWS failed {operation}: {words}", operation=operation, words=words)


def _unreachable(error: EngineError) -> EngineError:
    """Return the error for a question whose refusal tells nothing of any job."""
    if error.code == "bad_credentials":
        return BadCredentials(error.detail)
    return EngineUnreachable(error.detail) if isinstance(error, EngineRefused) else error
