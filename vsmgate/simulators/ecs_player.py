"""Plays the machines of ECS: runs the containers of moto's tasks as processes.

An image is not looked at, only the command; where that names ``python3`` it is the Python of
the stand-in. ``0.0.0.0`` in a command or a variable, all addresses of a container, becomes
the task's own one. An image with the tag ``missing`` cannot be pulled. Outputs go to moto's
CloudWatch Logs where the container has the log driver ``awslogs``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.logs.models import logs_backends

from vsmgate.simulators.processes import signal_session

__all__ = ["Player"]

#: Seconds from SIGTERM to SIGKILL (ECS's stopTimeout is 30).
_GRACE = 5.0
_INHERITED = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "LD_LIBRARY_PATH")
_ANY = "0.0.0.0"


class _Played:
    """A container that runs. ``folder``: for its output, and where it starts."""

    def __init__(self, task: Any, definition: dict[str, Any], container: Any, folder: Path) -> None:
        self.definition, self.container = definition, container
        folder.mkdir(parents=True)
        options = definition.get("logConfiguration", {}).get("options", {})
        self._group = options.get("awslogs-group")
        self._stream = f"{options.get('awslogs-stream-prefix')}/{definition['name']}/{task.id}"
        self._logs = logs_backends[DEFAULT_ACCOUNT_ID][task.region_name]
        self._rest = b""
        if self._group:
            if self._group not in self._logs.groups:
                self._logs.create_log_group(self._group, {})
            self._logs.ensure_log_stream(self._group, self._stream)
        argv, environment = _command(task, definition)
        output = folder / "output"
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                argv,
                cwd=folder,
                env={**environment, "HOME": str(folder)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._output = output.open("rb")
        container.last_status = "RUNNING"

    def look(self) -> bool:
        """Hand on what it wrote; return whether it has ended."""
        if self.container.exitCode is not None:
            return True
        status = self.process.poll()
        self._rest += self._output.read()
        *lines, self._rest = self._rest.split(b"\n")
        if status is not None and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        if lines and self._group:
            now = int(time.time() * 1000)
            events = [
                {"timestamp": now, "message": line.decode(errors="replace")} for line in lines
            ]
            self._logs.put_log_events(self._group, self._stream, events)
        if status is not None:
            self.container.exitCode = status if status >= 0 else 128 - status
            self.container.last_status = "STOPPED"
            self._output.close()
        return status is not None

    def end(self, number: signal.Signals) -> None:
        """Send a signal to it and its children."""
        signal_session(self.process.pid, number)


class Player:
    """Brings about what moto's tasks are asked for, at each `look`.

    ``pace``: seconds for which a task waits as PROVISIONING, and as PENDING. ``capacity``: how
    many leave PROVISIONING; None is no limit.
    """

    def __init__(self, folder: Path, pace: float, capacity: int | None) -> None:
        self._folder = folder
        self._pace = pace
        self._capacity = capacity
        self._since: dict[tuple[str, str], float] = {}
        self._played: dict[str, list[_Played]] = {}
        self._stopping: dict[str, float] = {}

    def look(self, tasks: list[Any]) -> None:
        """Take each task one step on."""
        waiting = ("PROVISIONING", "STOPPED")
        placed = sum(task.last_status not in waiting for task in tasks)
        for task in tasks:
            match task.last_status:
                case "PROVISIONING" | "PENDING" if task.desired_status == "STOPPED":
                    task.status = "STOPPED"
                case "PROVISIONING" | "PENDING" if self._early(task):
                    pass
                case "PROVISIONING":
                    if self._capacity is None or placed < self._capacity:
                        placed += 1
                        task.status = "PENDING"
                case "PENDING":
                    self._start(task)
                case "RUNNING" | "STOPPING":
                    self._watch(task)

    def close(self) -> None:
        """End every process."""
        played = [container for containers in self._played.values() for container in containers]
        for container in played:
            container.end(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        for container in played:
            try:
                container.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            container.end(signal.SIGKILL)  # whom it started, too
            container.process.wait()

    def _early(self, task: Any) -> bool:
        now = time.monotonic()
        return now < self._since.setdefault((task.id, task.last_status), now) + self._pace

    def _start(self, task: Any) -> None:
        containers = self._played[task.id] = []
        for definition, container in zip(
            task.definition.container_definitions, task.containers, strict=True
        ):
            said = ""
            if definition["image"].endswith(":missing"):
                said = "CannotPullContainerError: pull image manifest has been retried 1 time(s)"
            else:
                try:
                    folder = self._folder / task.id / definition["name"]
                    containers.append(_Played(task, definition, container, folder))
                except OSError as error:
                    said = f"CannotStartContainerError: {error.filename}: executable file not found"
            if said:
                container.reason, container.last_status = said, "STOPPED"
                self._stop(task, "TaskFailedToStart", said)
                return
        task.started_at = time.time()
        task.status = "RUNNING"

    def _watch(self, task: Any) -> None:
        left = []
        for played in self._played[task.id]:
            ended = played.look()
            if not ended:
                left.append(played)
            elif played.definition.get("essential", True):
                self._stop(task, "EssentialContainerExited", "Essential container in task exited")
        if task.desired_status == "STOPPED":
            self._stop(task, task.stop_code, task.stopped_reason)
        if task.last_status == "STOPPING" and not left:
            for played in self._played.pop(task.id):
                played.end(signal.SIGKILL)  # nothing of a container outlives it
            task.status = "STOPPED"
        elif task.last_status == "STOPPING" and time.monotonic() > self._stopping[task.id]:
            for played in left:
                played.end(signal.SIGKILL)

    def _stop(self, task: Any, code: str, reason: str) -> None:
        """Begin a task's end; why, is told by who was first."""
        if task.id in self._stopping:
            return
        self._stopping[task.id] = time.monotonic() + _GRACE
        task.stop_code, task.stopped_reason = code, reason
        task.desired_status, task.status = "STOPPED", "STOPPING"
        for played in self._played[task.id]:
            if played.process.poll() is None:
                played.end(signal.SIGTERM)


def _command(task: Any, definition: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return what a container runs, and its environment."""
    (address,) = (
        detail["value"]
        for attachment in task.attachments
        for detail in attachment["details"]
        if detail["name"] == "privateIPv4Address"
    )
    listed = task.overrides.get("containerOverrides", [])
    overrides = {override["name"]: override for override in listed}.get(definition["name"], {})
    command = overrides.get("command") or definition.get("command") or []
    argv = [part.replace(_ANY, address) for part in [*definition.get("entryPoint", []), *command]]
    if argv and argv[0] in ("python", "python3"):
        argv[0] = sys.executable
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    for pair in [*definition.get("environment", []), *overrides.get("environment", [])]:
        environment[pair["name"]] = pair["value"].replace(_ANY, address)
    return argv or [""], environment
