"""What a use case says of ECS tasks, and the ``RunTask`` that is made of it. Pure.

What users chose gets into overrides only: elements of a command, values of variables,
numbers. The task definition, its images and its roles are the operator's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from vsmgate.errors import EngineRefused
from vsmgate.launchers.ecs_ref import CONTAINER, Place
from vsmgate.launchers.ecs_settings import EcsSettings
from vsmgate.launchers.plan_services import wrong_services
from vsmgate.model import Endpoint, Launch, Usecase
from vsmgate.templates import (
    Command,
    check_environment,
    names_of,
    render_command,
    render_environment,
)

__all__ = ["EcsPlan", "EcsService", "check_plan", "places_of", "run_task"]

_DEFINITION = re.compile(
    r"(arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:task-definition/)?"
    r"[A-Za-z0-9_-]{1,255}(:[1-9][0-9]{0,9})?",
    re.ASCII,
)
_UNITS = re.compile(r"[1-9][0-9]{0,7}", re.ASCII)
_UNTAGGABLE = re.compile(r"[^\w +=.:/@-]")
#: RunTask: "a total of 8192 characters are allowed for overrides".
_MOST_OVERRIDES = 8192


class EcsService(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.ecs.services.NAME]``: which container it is, and what is overridden there.

    ``container``: its name in the task definition; without it, the service's. ``command``:
    without it, the task definition's. ``cpu`` (1024 is one) and ``memory`` (MiB) are
    templates, as ``command`` and ``environment`` are (`vsmgate.templates`).
    """

    container: str = ""
    command: Command = ()
    environment: dict[str, str] = {}
    cpu: str = ""
    memory: str = ""


class EcsPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.ecs]`` of a use case.

    ``task_definition``: ``FAMILY``, ``FAMILY:REVISION`` or its ARN. ``cpu`` and ``memory``
    override the whole task's.
    """

    task_definition: str
    services: dict[str, EcsService]
    cpu: str = ""
    memory: str = ""


def places_of(usecase: Usecase, plan: EcsPlan, first_port: int) -> tuple[Place, ...]:
    """Return where each service runs; a task has an address, and so all ports, of its own."""
    fixed = {service.port for service in usecase.services.values()}
    free = (port for port in range(first_port, 65536) if port not in fixed)
    return tuple(
        Place(name, plan.services[name].container or name, service.port or next(free))
        for name, service in usecase.services.items()
    )


def run_task(launch: Launch, settings: EcsSettings) -> dict[str, Any]:
    """Return the body of ``RunTask``; what is None is to be left out.

    Raises `BadParameters` and `EngineRefused` for values that cannot be overrides.
    """
    plan: EcsPlan = launch.plan
    places = places_of(launch.usecase, plan, settings.first_port)
    endpoints = {place.service: Endpoint(settings.bind, place.port) for place in places}

    def names(service: str) -> dict[str, Any]:
        return names_of(
            service,
            endpoints,
            launch.parameters,
            job=launch.job_id,
            owner=launch.owner,
            python=settings.python,
            directory=settings.directory,
        )

    containers = [_container(launch, place, places, names(place.service)) for place in places]
    overrides: dict[str, Any] = {"containerOverrides": containers}
    overrides |= _units({"cpu": plan.cpu, "memory": plan.memory}, names(places[0].service))
    if len(json.dumps(overrides)) > _MOST_OVERRIDES:
        detail = f"The job's parameters are too long: ECS takes {_MOST_OVERRIDES} characters."
        raise EngineRefused(detail, code="bad_parameters")
    tags = {
        **settings.tags,
        "vsmgate:job": launch.job_id,
        "vsmgate:usecase": launch.usecase.name,
        "vsmgate:owner": _UNTAGGABLE.sub("_", launch.owner)[:256],
    }
    body = {
        "cluster": settings.cluster,
        "taskDefinition": plan.task_definition,
        "count": 1,
        "clientToken": launch.tag,
        "startedBy": launch.tag,
        "launchType": settings.launch_type,
        "capacityProviderStrategy": [
            {"capacityProvider": provider.name, "weight": provider.weight, "base": provider.base}
            for provider in settings.capacity_providers
        ]
        or None,
        "platformVersion": settings.platform_version,
        "networkConfiguration": {"awsvpcConfiguration": _network(settings)},
        "overrides": overrides,
        "tags": [{"key": key, "value": value} for key, value in tags.items()],
    }
    return {key: value for key, value in body.items() if value is not None}


def check_plan(usecase: Usecase, plan: EcsPlan) -> list[str]:
    """Return what is wrong between a use case and its plan, a sentence each."""
    services = wrong_services(usecase, plan.services, "launch.ecs", optional=True)
    return [*_wrong_task(usecase, plan), *services, *_wrong_containers(usecase, plan)]


def _network(settings: EcsSettings) -> dict[str, Any]:
    network: dict[str, Any] = {
        "subnets": list(settings.subnets),
        "securityGroups": list(settings.security_groups),
    }
    if settings.public_ip:  # not even "DISABLED" where it makes no sense
        network["assignPublicIp"] = "ENABLED"
    return network


def _container(
    launch: Launch, place: Place, places: tuple[Place, ...], names: Mapping[str, Any]
) -> dict[str, Any]:
    how: EcsService = launch.plan.services[place.service]
    environment = render_environment(how.environment, names)
    environment |= {
        "VSMGATE_TAG": launch.tag,
        "VSMGATE_JOB": launch.job_id,
        "VSMGATE_SERVICE": place.service,
        "VSMGATE_HOST": names["host"],
        "VSMGATE_PORT": str(place.port),
    }
    for other in places:
        environment[f"VSMGATE_PORT_{other.service.upper().replace('-', '_')}"] = str(other.port)
    if launch.secret is not None:
        environment["VSMGATE_SECRET"] = launch.secret.reveal()
    units = _units({"cpu": how.cpu, "memory": how.memory}, names)
    override: dict[str, Any] = {
        "name": place.container,
        "environment": [{"name": name, "value": value} for name, value in environment.items()],
        **{unit: int(value) for unit, value in units.items()},
    }
    if how.command:
        override["command"] = render_command(how.command, names)
    return override


def _units(templates: Mapping[str, str], names: Mapping[str, Any]) -> dict[str, str]:
    units = render_environment({key: value for key, value in templates.items() if value}, names)
    for name, value in units.items():
        if not _UNITS.fullmatch(value):
            detail = f"The {name} of this job would be {value!r}, which is no number ECS takes."
            raise EngineRefused(detail, code="bad_resource")
    return units


def _wrong_task(usecase: Usecase, plan: EcsPlan) -> Iterator[str]:
    if not _DEFINITION.fullmatch(plan.task_definition):
        yield (
            f"launch.ecs.task_definition: {plan.task_definition!r} is none; "
            "give FAMILY, FAMILY:REVISION or its ARN"
        )
    yield from _wrong_units(usecase, "launch.ecs", {"cpu": plan.cpu, "memory": plan.memory})


def _wrong_units(usecase: Usecase, at: str, templates: Mapping[str, str]) -> Iterator[str]:
    for why in check_environment(templates, usecase.services, usecase.parameters):
        yield f"{at}.{why}"
    for name, value in templates.items():
        if value and not {"{", "}"} & set(value) and not _UNITS.fullmatch(value):
            yield f'{at}.{name}: {value!r} must be a number in quotes, such as "1024"'


def _wrong_containers(usecase: Usecase, plan: EcsPlan) -> Iterator[str]:
    containers: dict[str, str] = {}
    for name, how in plan.services.items():
        at = f"launch.ecs.services.{name}"
        container = how.container or name
        if not CONTAINER.fullmatch(container):
            yield f"{at}.container: {container!r} is no name of a container"
        if containers.setdefault(container, name) != name:
            yield f"{at}.container: {container!r} is that of service {containers[container]} too"
        units = {"cpu": how.cpu, "memory": how.memory}
        yield from _wrong_units(usecase, at, units)
