"""What launchers check between the services of a use case and how a plan runs them. Pure.

Everything yields what is wrong, a sentence each. ``at``: the table's dotted key, such as
``launch.slurm``. ``plans``: service -> how it runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vsmgate.model import Usecase
from vsmgate.templates import check_command, check_environment

__all__ = ["wrong_names", "wrong_on_nodes", "wrong_ports", "wrong_services"]


def wrong_services(
    usecase: Usecase, plans: Mapping[str, Any], at: str, *, optional: bool = False
) -> Iterator[str]:
    """Names, ports, commands and environments. ``optional``: a command may be left out."""
    yield from wrong_names(usecase, plans, at)
    yield from wrong_ports(usecase)
    given = usecase.services, usecase.parameters
    for name, how in plans.items():
        if how.command or not optional:
            for why in check_command(how.command, *given):
                yield f"{at}.services.{name}.command: {why}"
        for why in check_environment(how.environment, *given):
            yield f"{at}.services.{name}.environment: {why}"


def wrong_on_nodes(
    usecase: Usecase, plans: Mapping[str, Any], at: str, engine: str
) -> Iterator[str]:
    """The same, and what a batch job on a node cannot have."""
    yield from wrong_services(usecase, plans, at)
    for name, service in usecase.services.items():
        if service.port is not None and service.port < 1024:
            yield f"services.{name}.port: {service.port} is privileged; {engine} jobs get none such"
    for name, how in plans.items():
        if how.directory is not None and not how.directory.startswith("/"):
            where = f"{at}.services.{name}.directory"
            yield f"{where}: {how.directory!r} must be an absolute path on the nodes"


def wrong_names(usecase: Usecase, plans: Mapping[str, Any], at: str) -> Iterator[str]:
    """Services that lack a plan, and plans without a service."""
    for name in sorted(usecase.services.keys() - plans.keys()):
        yield f"{at}.services.{name} is missing: how to run service {name}"
    for name in sorted(plans.keys() - usecase.services.keys()):
        yield f"{at}.services.{name}: the use case has no service {name}"


def wrong_ports(usecase: Usecase) -> Iterator[str]:
    """Two services at one port."""
    users: dict[int, str] = {}
    for name, service in usecase.services.items():
        if service.port is not None and users.setdefault(service.port, name) != name:
            yield f"services {users[service.port]} and {name} cannot both have port {service.port}"
