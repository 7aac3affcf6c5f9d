"""What launchers check between the services of a use case and how a plan runs them. Pure.

``wrong_...`` yield what is wrong, a sentence each. ``at``: the table's dotted key, such as
``launch.slurm``. ``plans``: service -> how it runs. Plans for the nodes of a batch system have
``words`` too: keys that are templates of one word each -> what their values look like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from vsmgate.errors import EngineRefused
from vsmgate.model import Usecase
from vsmgate.templates import Command, check_command, check_environment, render_environment

__all__ = ["RESOURCE", "WORD", "Count", "NodeService", "render_words"]
__all__ += ["wrong_names", "wrong_on_nodes", "wrong_ports", "wrong_services"]

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Words = Mapping[str, re.Pattern[str]]

WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,@+-]{0,199}", re.ASCII)
RESOURCE = re.compile(r"[A-Za-z0-9_\[(][A-Za-z0-9_.,:;=&|!*@()\[\]+-]{0,199}", re.ASCII)


class NodeService(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.ENGINE.services.NAME]``: how to run a service on the node.

    ``command`` and ``environment`` are templates (`vsmgate.templates`). ``directory``: an
    absolute path on the node where it starts; without it, the job's own.
    """

    command: Command
    environment: dict[str, str] = {}
    directory: str | None = None


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
    usecase: Usecase, plan: Any, words: Words, at: str, engine: str
) -> Iterator[str]:
    """The same of a plan for nodes, and what its jobs cannot have there."""
    yield from wrong_services(usecase, plan.services, at)
    for name, service in usecase.services.items():
        if service.port is not None and service.port < 1024:
            yield f"services.{name}.port: {service.port} is privileged; {engine} jobs get none such"
    for name, how in plan.services.items():
        if how.directory is not None and not how.directory.startswith("/"):
            where = f"{at}.services.{name}.directory"
            yield f"{where}: {how.directory!r} must be an absolute path on the nodes"
    given = _given(plan, words)
    for why in check_environment(given, usecase.services, usecase.parameters):
        yield f"{at}.{why}"
    for word, value in given.items():
        if not {"{", "}"} & set(value) and not words[word].fullmatch(value):
            yield f"{at}.{word}: {value!r} is not what {engine} takes there"
    for line in plan.setup:
        if "\0" in line or "\n" in line:
            yield f"{at}.setup: {line!r} must be one line"


def render_words(
    plan: Any, words: Words, names: Mapping[str, Any], engine: str
) -> Iterator[tuple[str, str]]:
    """Yield the words that a job has. ``names``: see `vsmgate.templates.names_of`.

    Raises `EngineRefused`, code ``bad_resource``, for a value that cannot be one.
    """
    for word, value in render_environment(_given(plan, words), names).items():
        if value and not words[word].fullmatch(value):
            detail = f"The {word} of this job would be {value!r}, which {engine} cannot have."
            raise EngineRefused(detail, code="bad_resource")
        if value:
            yield word, value


def _given(plan: Any, words: Words) -> dict[str, str]:
    return {word: value for word in words if (value := getattr(plan, word))}


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
