"""What a use case says of Kubernetes pods. Pure.

The words and shapes follow the Kubernetes API (core/v1 PodSpec), in snake_case where they
are ours to check, and as they are where they are passed on: tolerations, volumes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from vsmgate.launchers.plan_services import wrong_names, wrong_ports
from vsmgate.model import Usecase
from vsmgate.templates import Command, check_command, check_environment

__all__ = ["ContainerPlan", "KubernetesPlan", "Security", "check_plan", "container_names"]
__all__ += ["containers_of", "ports_of"]

Name = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
#: Of a volume: a DNS label.
Volume = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Quantity = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?([EPTGMk]i?|m|e[0-9]+)?$")]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]

#: What a pod's only container is called, where one runs all services.
WHOLE = "job"
#: Where ports that are not fixed begin; a pod has an address, and so all ports, of its own.
_FIRST_PORT = 8000
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,500}", re.ASCII)


class Security(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.kubernetes.security]``: what containers may; the defaults are the safe ones.

    They satisfy the Pod Security Standard *restricted*. ``run_as_user`` is needed for images
    whose user is a name or root.
    """

    run_as_non_root: bool = True
    run_as_user: int | None = None
    run_as_group: int | None = None
    fs_group: int | None = None
    allow_privilege_escalation: bool = False
    read_only_root: bool = False
    add_capabilities: tuple[str, ...] = ()
    seccomp: Literal["RuntimeDefault", "Unconfined"] = "RuntimeDefault"


class ContainerPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """How one container runs.

    ``command`` replaces the image's entry point, ``arguments`` its arguments; both, and
    ``environment``, are templates (`vsmgate.templates`). ``requests``, ``limits``: resource
    -> quantity. ``mounts``: volume -> path.
    """

    image: str
    command: Command = ()
    arguments: Command = ()
    environment: dict[str, str] = {}
    directory: str | None = None
    pull_policy: PullPolicy | None = None
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}
    mounts: dict[str, str] = {}


class KubernetesPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.kubernetes]`` of a use case.

    ``services``: one container for each. ``container``: one that runs all of them instead.
    ``tolerations`` and ``volumes`` (name -> volume source) are the API's own objects.
    """

    services: dict[str, ContainerPlan] = {}
    container: ContainerPlan | None = None
    node_selector: dict[str, str] = {}
    tolerations: tuple[dict[str, Any], ...] = ()
    volumes: dict[Volume, dict[str, Any]] = {}
    pull_secrets: tuple[Name, ...] = ()
    service_account: Name | None = None
    priority_class: Name | None = None
    runtime_class: Name | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    security: Security = Security()


def container_names(services: Mapping[str, Any], plan: KubernetesPlan) -> dict[str, str]:
    """Return service -> its container's name, which is a DNS label."""
    if plan.container is not None:
        return dict.fromkeys(services, WHOLE)
    return {name: name.replace("_", "-") for name in services}


def containers_of(plan: KubernetesPlan) -> Mapping[str, ContainerPlan]:
    """Return where in the table -> container."""
    if plan.container is not None:
        return {"container": plan.container}
    return {f"services.{name}": how for name, how in plan.services.items()}


def ports_of(usecase: Usecase) -> dict[str, int]:
    """Return service -> port."""
    fixed = {service.port for service in usecase.services.values()}
    free = (port for port in range(_FIRST_PORT, 65536) if port not in fixed)
    return {name: service.port or next(free) for name, service in usecase.services.items()}


def check_plan(usecase: Usecase, plan: KubernetesPlan) -> list[str]:
    """Return what is wrong between a use case and its plan, a sentence each."""
    wrong = [f"launch.kubernetes.{why}" for why in _wrong(usecase, plan)]
    if plan.container is None:
        wrong += wrong_names(usecase, plan.services, "launch.kubernetes")
    return [*wrong, *wrong_ports(usecase)]


def _wrong(usecase: Usecase, plan: KubernetesPlan) -> Iterator[str]:
    if plan.container is not None and plan.services:
        yield "container: one container that runs all, or services, not both"
    elif plan.container is None:
        names = container_names(usecase.services, plan)
        if len(set(names.values())) < len(names):
            yield "services: two names differ only in - and _, which containers' names cannot"
    for at, how in containers_of(plan).items():
        yield from (f"{at}.{why}" for why in _wrong_container(usecase, plan, how))
    for kind, words in (("labels", plan.labels), ("annotations", plan.annotations)):
        for key in words:
            if key.startswith(("vsmgate/", "app.kubernetes.io/")):
                yield f"{kind}.{key!r} is set by the gateway"


def _wrong_container(usecase: Usecase, plan: KubernetesPlan, how: ContainerPlan) -> Iterator[str]:
    given = usecase.services, usecase.parameters
    if not _IMAGE.fullmatch(how.image):
        yield f"image: {how.image!r} is no image, such as 'registry.example.org/vis/brayns:3.10'"
    if how.command:
        yield from (f"command: {why}" for why in check_command(how.command, *given))
    if how.arguments:
        checked = check_command(("program", *how.arguments), *given)
        yield from (f"arguments: {why}" for why in checked)
    for why in check_environment(how.environment, *given):
        yield f"environment: {why}"
    if how.directory is not None and not how.directory.startswith("/"):
        yield f"directory: {how.directory!r} must be an absolute path in the image"
    for volume, path in how.mounts.items():
        if volume not in plan.volumes:
            yield f"mounts.{volume}: there is no volume {volume}; name it in volumes"
        if not path.startswith("/") or ":" in path:
            yield f"mounts.{volume}: {path!r} must be an absolute path in the image"
