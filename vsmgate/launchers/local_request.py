"""What a use case says of local jobs, and the request that a job's supervisor gets."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct
from twisted.logger import Logger

from vsmgate.errors import EngineRefused
from vsmgate.launchers.plan_services import wrong_services
from vsmgate.model import Endpoint, Launch, Usecase
from vsmgate.templates import (
    names_of,
    render_command,
    render_environment,
)

__all__ = ["Count", "LocalPlan", "LocalService", "check_plan", "choose_cpus", "make_request"]

_log = Logger()
_TELL = "Tell the operator: the gateway's log knows more."

Count = Annotated[int, Meta(ge=1)]


class LocalService(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.local.services.NAME]``: how to run a service here.

    ``command`` and ``environment`` are templates (`vsmgate.templates`). ``directory``:
    where it starts, from the configuration's folder on; without it, the job's own.
    """

    command: tuple[str | tuple[str, ...], ...]
    environment: dict[str, str] = {}
    directory: str | None = None


class LocalPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.local]`` of a use case.

    ``cpus``, ``memory`` (octets): at most so much for the job; without them the launcher's.
    """

    services: dict[str, LocalService]
    cpus: Count | None = None
    memory: Count | None = None


def check_plan(usecase: Usecase, plan: LocalPlan) -> list[str]:
    """Return what is wrong between a use case and its plan, a sentence each."""
    return list(wrong_services(usecase, plan.services, "launch.local"))


def make_request(
    launch: Launch,
    ports: Mapping[str, int],
    *,
    host: str,
    grace: float,
    now: float,
    environment: Mapping[str, str],
    work: Path,
    config_dir: Path,
    cpus: int | None = None,
    memory: int | None = None,
    max_output: int,
) -> dict[str, Any]:
    """Return ``request.json`` of a job.

    ``cpus`` and ``memory`` are limits of jobs whose use case has none of its own.
    Fails with `EngineRefused` when a program (``program_missing``) or a directory
    (``directory_missing``) is not there, and with `BadParameters`. Users see that, so paths
    of this machine are in the log only.
    """
    plan: LocalPlan = launch.plan
    endpoints = {name: Endpoint(host, port) for name, port in ports.items()}
    shared = {
        **environment,
        "VSMGATE_TAG": launch.tag,
        "VSMGATE_JOB": launch.job_id,
        "VSMGATE_HOST": host,
        **{f"VSMGATE_PORT_{_variable(name)}": str(port) for name, port in ports.items()},
    }
    if launch.secret is not None:
        shared["VSMGATE_SECRET"] = launch.secret.reveal()
    services = {}
    for name, how in plan.services.items():
        names = names_of(
            name,
            endpoints,
            launch.parameters,
            job=launch.job_id,
            owner=launch.owner,
            python=sys.executable,
            directory=str(work),
        )
        argv = render_command(how.command, names)
        own = render_environment(how.environment, names)
        own |= {"VSMGATE_SERVICE": name, "VSMGATE_PORT": str(ports[name])}
        directory = str(config_dir / how.directory) if how.directory else str(work)
        if not os.path.isdir(directory):
            _log.warn(
                "{name} cannot start in {folder}: no such folder", name=name, folder=directory
            )
            raise EngineRefused(
                f"The folder where service {name} is to start is not on the gateway's machine. "
                f"{_TELL}",
                code="directory_missing",
            )
        services[name] = {
            "program": _program(name, argv[0], own.get("PATH", shared.get("PATH")), directory),
            "argv": argv,
            "environment": shared | own,
            "directory": directory,
            "host": host,
            "port": ports[name],
        }
    return {
        "tag": launch.tag,
        "submitted_at": now,
        "lifetime": launch.lifetime,
        "grace": grace,
        "cpus": choose_cpus(plan.cpus or cpus),
        "memory": plan.memory or memory,
        "max_output": max_output,
        "services": services,
    }


def choose_cpus(count: int | None) -> list[int]:
    """Return so many of the processors that the gateway may use; None is all of them.

    By chance, so that jobs spread. Fails with `EngineRefused` when there are not so many.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if count is None:
        return allowed
    if count > len(allowed):
        raise EngineRefused(
            f"The job wants {count} processors, and the gateway's machine has {len(allowed)} "
            f"for it. Ask for fewer in the use case's [launch.local].",
            code="impossible_resources",
        )
    return sorted(random.sample(allowed, count))


def _program(service: str, name: str, path: str | None, directory: str) -> str:
    """Return the file that ``name`` means, looked up as the job's own PATH says."""
    if os.sep in name:
        found = shutil.which(os.path.join(directory, name))
        looked = "it is no executable file"
    else:
        path = path or os.defpath
        found = shutil.which(name, path=path)
        looked = f"it is in no folder of the job's PATH ({path})"
    if found is None:
        _log.warn(
            "the program {program} of service {name} is not installed on this machine: {looked}; "
            "install it, or write its full path in the use case",
            program=name,
            name=service,
            looked=looked,
        )
        raise EngineRefused(
            f"The program {os.path.basename(name)} of service {service} is not installed on the "
            f"gateway's machine. {_TELL}",
            code="program_missing",
        )
    return found


def _variable(service: str) -> str:
    return service.upper().replace("-", "_")
