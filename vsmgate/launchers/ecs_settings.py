"""``[launchers.NAME]`` with ``kind = "ecs"``, and what can be wrong with it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from vsmgate.errors import Problem
from vsmgate.model import Seconds

__all__ = ["CapacityProvider", "EcsSettings", "endpoint_of", "settings_problems"]

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", re.ASCII)
_CLUSTER = re.compile(r"[A-Za-z0-9_-]{1,255}", re.ASCII)
_SUBNET = re.compile(r"subnet-[0-9a-f]{8,17}", re.ASCII)
_GROUP = re.compile(r"sg-[0-9a-f]{8,17}", re.ASCII)
_LOG_NAME = re.compile(r"[A-Za-z0-9_/.#-]{1,512}", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9 +=._:/@-]{1,128}", re.ASCII)


class CapacityProvider(Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a strategy: ``{ name = "FARGATE_SPOT", weight = 3 }``."""

    name: str
    weight: Annotated[int, Meta(ge=0, le=1000)] = 1
    base: Annotated[int, Meta(ge=0, le=100_000)] = 0


class EcsSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launchers.NAME]`` with ``kind = "ecs"``; docs/engines/ecs.md explains each.

    ``first_port``: services without a fixed port get this one and those after it.
    ``endpoint``, ``logs_endpoint``: other URLs than AWS's public ones.
    """

    region: str
    subnets: tuple[str, ...]
    cluster: str = "default"
    security_groups: tuple[str, ...] = ()
    public_ip: bool = False
    launch_type: Literal["FARGATE", "EC2", "EXTERNAL"] | None = None
    capacity_providers: tuple[CapacityProvider, ...] = ()
    platform_version: str | None = None
    tags: dict[str, str] = {}
    log_group: str | None = None
    log_prefix: str | None = None
    keep_logs: bool = False
    bind: str = "0.0.0.0"
    first_port: Annotated[int, Meta(ge=1024, le=65000)] = 5000
    python: str = "python3"
    directory: str = "/tmp"
    profile: str | None = None
    endpoint: str | None = None
    logs_endpoint: str | None = None
    ca_file: str | None = None
    timeout: Seconds = 10.0


def endpoint_of(service: str, region: str) -> str:
    """Return AWS's public URL of a service."""
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region}.{domain}/"


def settings_problems(settings: EcsSettings, where: str, config_dir: Path) -> list[Problem]:
    """Return everything that keeps settings from being used on this machine."""
    return [Problem(f"{where}.{key}", why) for key, why in _wrong(settings, config_dir)]


def _wrong(settings: EcsSettings, config_dir: Path) -> Iterator[tuple[str, str]]:
    from vsmgate.hands.aws import profile_exists
    from vsmgate.hands.http_client import wrong_with_authorities

    if find_spec("botocore") is None:
        yield "kind", f"needs botocore: {sys.executable} -m pip install 'vsmgate[ecs]'"
    elif settings.profile is not None and not profile_exists(settings.profile):
        yield "profile", f"{settings.profile!r} is in none of AWS's files of the gateway's user"
    if not _REGION.fullmatch(settings.region):
        yield "region", f"{settings.region!r} is no region, such as 'eu-west-1'"
    if not _CLUSTER.fullmatch(settings.cluster):
        yield "cluster", f"{settings.cluster!r} is no name of a cluster (not its ARN)"
    if not settings.subnets:
        yield "subnets", "needs one at least: tasks are reached in awsvpc networks only"
    for subnet in settings.subnets:
        if not _SUBNET.fullmatch(subnet):
            yield "subnets", f"{subnet!r} is no subnet, such as 'subnet-0a1b2c3d4e5f60718'"
    for group in settings.security_groups:
        if not _GROUP.fullmatch(group):
            yield "security_groups", f"{group!r} is no security group, such as 'sg-0a1b2c3d'"
    if settings.launch_type and settings.capacity_providers:
        yield "launch_type", "cannot be given together with capacity_providers"
    if settings.public_ip and settings.launch_type in ("EC2", "EXTERNAL"):
        yield "public_ip", "is for Fargate only"
    for key, value in settings.tags.items():
        if not _TAG.fullmatch(key) or not _TAG.fullmatch(value) or key.startswith("aws:"):
            yield "tags", f"{key} = {value!r} is no tag that ECS takes"
    if (settings.log_group is None) != (settings.log_prefix is None):
        yield "log_group", "and log_prefix go together, as the task definitions have them"
    for key in ("log_group", "log_prefix"):
        value = getattr(settings, key)
        if value is not None and not _LOG_NAME.fullmatch(value):
            yield key, f"{value!r} is no such name"
    for key in ("endpoint", "logs_endpoint"):
        if (url := getattr(settings, key)) is not None and (why := _wrong_url(url)):
            yield key, why
    if settings.ca_file and (why := wrong_with_authorities(config_dir / settings.ca_file)):
        yield "ca_file", f"{settings.ca_file!r} {why}"


def _wrong_url(url: str) -> str:
    """Return what is wrong with an endpoint; its text is not repeated, for it may hold secrets."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        return "must be a URL such as 'https://vpce-1.ecs.eu-west-1.vpce.amazonaws.com'"
    if parts.username or parts.password or parts.query or parts.fragment:
        return "must be without a user, a query and a fragment"
    if parts.path not in ("", "/"):
        return "must be without a path"
    return ""
