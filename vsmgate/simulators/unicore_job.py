"""One job of the UNICORE stand-in, and what is made of its description."""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from vsmgate.simulators.processes import Leader

__all__ = ["QUEUES", "Job", "Unusable", "mode_of", "moment", "properties_of", "script_of"]

#: Queue -> the most nodes of one job.
QUEUES = {"normal": 4, "large": 64}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Unusable(Exception):
    """A job description that a server does not take."""


class Job:
    """One job. ``batch_state``: Slurm's word; times are Unix seconds."""

    def __init__(self, description: dict[str, Any], user: str, folder: Path, now: float) -> None:
        self.id = str(uuid.uuid4())
        self.description = description
        self.user = user
        self.folder = folder / self.id
        self.tags = [str(tag) for tag in description.get("Tags", [])]
        self.status, self.message, self.exit_code = "READY", "", ""
        self.batch_number, self.batch_state = 0, ""
        self.submitted_at = now
        self.started_at = self.ended_at = 0.0
        self.log: list[str] = []
        resources = description.get("Resources") or {}
        self.queue = str(resources.get("Queue", "normal"))
        try:
            self.nodes = int(resources.get("Nodes", 1))
            text = str(resources.get("Runtime", "1h"))
            self.runtime = float(text.rstrip("smhd")) * _UNITS.get(text[-1:], 1)
        except ValueError as error:
            raise Unusable(f"Could not parse requested resource: {error}") from None
        self.imports = [_import(spec) for spec in description.get("Imports") or []]
        self.process: Leader | None = None
        self.timers: list[Any] = []
        self.over: Deferred[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.status in ("SUCCESSFUL", "FAILED")

    def note(self, line: str) -> None:
        """Write a line of its log."""
        self.log.append(f"{time.strftime('%a %b %d %H:%M:%S %Y')}: {line}")


def _import(spec: dict[str, Any]) -> tuple[str, str | None, str]:
    """Return target, content (None: it is elsewhere) and permissions; forget the content."""
    data = spec.get("Data")
    text = "\n".join(data) + "\n" if isinstance(data, list) else data
    if data is not None:
        spec["Data"] = "n/a"  # as servers do: inline data are not kept
    return str(spec.get("To", "")), text, str(spec.get("Permissions", "rw-------"))


def script_of(job: Job) -> str:
    """Return what a server gives to its batch system: values go into it unquoted, as there."""
    lines = ["#!/bin/bash"]
    if umask := job.description.get("Umask"):
        lines.append(f"umask {umask}")
    environment = job.description.get("Environment") or {}
    if isinstance(environment, list):
        environment = dict(str(entry).partition("=")[::2] for entry in environment)
    lines += [f'{name}="{value}"; export {name}' for name, value in environment.items()]
    command = " ".join(
        [str(job.description.get("Executable", ":"))]
        + [str(argument) for argument in job.description.get("Arguments", [])]
    )
    lines += [f'cd "{job.folder}"', "rm -f UNICORE_SCRIPT_EXIT_CODE", "PATH=$PATH:."]
    lines += [command, f'echo $? >"{job.folder}/UNICORE_SCRIPT_EXIT_CODE"']
    return "\n".join([*lines, ""])


def mode_of(permissions: str) -> int:
    """Return the mode that such as ``rw-------`` means."""
    return int("".join("0" if c == "-" else "1" for c in permissions.ljust(9, "-")[:9]), 2)


def properties_of(job: Job, base: str) -> dict[str, Any]:
    """Return what a GET of a job answers; ``base``: the site's address."""
    url = f"{base}/jobs/{job.id}"
    actions = {f"action:{name}": f"{url}/actions/{name}" for name in ("start", "abort", "restart")}
    links = {
        "self": url,
        "details": f"{url}/details",
        "submitted": f"{url}/submitted",
        **actions,
    }
    links["workingDirectory"] = f"{base}/storages/{job.id}-uspace"
    return {
        "status": job.status,
        "statusMessage": job.message,
        **({"exitCode": job.exit_code} if job.exit_code else {}),
        "submissionTime": moment(job.submitted_at),
        "queue": job.queue if job.batch_number else "N/A",
        "batchSystemID": str(job.batch_number) if job.batch_number else "N/A",
        "name": job.description.get("Name", "N/A"),
        "jobType": "BATCH",
        "log": job.log,
        "tags": job.tags,
        "owner": "CN=sim",
        "acl": [],
        "consumedTime": {},
        "submissionPreferences": {"uid": job.user} if job.user else {},
        "resourceStatus": "READY",
        "resourceStatusMessage": "N/A",
        "_links": {name: {"href": href} for name, href in links.items()},
    }


def moment(seconds: float) -> str:
    """Return a time as servers write it, with the offset of their zone."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(seconds))
