"""What a use case says of UNICORE jobs, and the job description made of it. Pure.

Users' values reach a job in the script that is imported as a file, and as resources that are
checked against a pattern each. ``Arguments`` and ``Environment`` of a description are not used
for them: a UNICORE server pastes both into a shell script, unquoted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from vsmgate.launchers.plan_services import (
    RESOURCE,
    WORD,
    Count,
    NodeService,
    render_words,
    wrong_on_nodes,
)
from vsmgate.model import Launch, Usecase

__all__ = ["OWNER_TAG", "TAKE_SECRET", "UnicorePlan", "check_plan", "description"]

#: Names in the working directory.
SCRIPT = "vsmgate-job.sh"
SECRET = "vsmgate-secret"
#: Lines of the script that read it.
TAKE_SECRET = f"""\
IFS= read -r VSMGATE_SECRET <{SECRET} || exit 90
export VSMGATE_SECRET"""
#: The start of the tag that says as whom a job runs.
OWNER_TAG = "vsmgate-as-"

_MEMORY = re.compile(r"(0|[1-9][0-9]{0,11}[KMGTkmgt]?)", re.ASCII)
_TEXT = re.compile(r"[A-Za-z0-9 _.,:;=@()\[\]/+-]{1,200}", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,62}", re.ASCII)

#: Resources that are words: name -> what its value looks like. They are templates.
_WORDS: Mapping[str, re.Pattern[str]] = {
    "project": WORD,
    "queue": WORD,
    "qos": WORD,
    "reservation": WORD,
    "constraint": RESOURCE,
    "memory": _MEMORY,
    "comment": _TEXT,
}
#: Their names in ``Resources``.
_NAMES = {word: word.capitalize() for word in _WORDS}
_NAMES |= {"qos": "QoS", "constraint": "NodeConstraints", "memory": "MemoryPerNode"}
_RESERVED = {*_NAMES.values(), "Nodes", "CPUsPerNode", "GPUsPerNode"}
_RESERVED |= {"Runtime", "Exclusive", "Memory", "ArraySize", "ArrayLimit", "Allocation"}


class UnicorePlan(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.unicore]`` of a use case.

    The words (``project`` to ``comment``) are templates. ``memory``: of each node, ``"0"`` is
    all. ``resources``: more of the site's own, as they are. ``setup``: lines of shell that run
    before the services, as they are (no placeholders). The run time is the job's lifetime.
    """

    services: dict[str, NodeService]
    project: str = ""
    queue: str = ""
    qos: str = ""
    reservation: str = ""
    constraint: str = ""
    memory: str = ""
    comment: str = ""
    nodes: Count = 1
    cpus_per_node: Count | None = None
    gpus_per_node: Count | None = None
    exclusive: bool = False
    resources: dict[str, str] = {}
    setup: tuple[str, ...] = ()


def check_plan(usecase: Usecase, plan: UnicorePlan) -> list[str]:
    """Return what is wrong between a use case and its plan, a sentence each."""
    return [
        *wrong_on_nodes(usecase, plan, _WORDS, "launch.unicore", "UNICORE"),
        *_wrong_resources(plan),
    ]


def description(launch: Launch, script: str, names: Mapping[str, Any], user: str) -> dict[str, Any]:
    """Return the job description. ``names``: see `vsmgate.templates.names_of`.

    ``user``: as whom it runs, if that is for us to say. The secret is the content of an
    imported file: servers keep no such content in their database, nor do they show it again.
    Raises `EngineRefused`, code ``bad_resource``, for a value that cannot be a resource.
    """
    imports = [{"To": SCRIPT, "Data": script, "Permissions": "rw-------"}]
    if launch.secret is not None:
        secret = f"{launch.secret.reveal()}\n"
        imports.append({"To": SECRET, "Data": secret, "Permissions": "rw-------"})
    return {
        "Name": launch.tag,
        "Tags": [launch.tag, *([OWNER_TAG + user] if user else [])],
        "Executable": "/bin/bash",
        "Arguments": [SCRIPT],
        "Imports": imports,
        "Umask": "077",
        "Resources": _resources(launch.plan, names, launch.lifetime),
        "haveClientStageIn": "false",
    }


def _resources(plan: UnicorePlan, names: Mapping[str, Any], lifetime: float) -> dict[str, str]:
    found = {**plan.resources, "Nodes": str(plan.nodes)}
    found["Runtime"] = str(60 * math.ceil(lifetime / 60.0))
    if plan.cpus_per_node is not None:
        found["CPUsPerNode"] = str(plan.cpus_per_node)
    if plan.gpus_per_node is not None:
        found["GPUsPerNode"] = str(plan.gpus_per_node)
    if plan.exclusive:
        found["Exclusive"] = "true"
    for word, value in render_words(plan, _WORDS, names, "UNICORE"):
        found[_NAMES[word]] = value
    return found


def _wrong_resources(plan: UnicorePlan) -> Iterator[str]:
    for name, value in plan.resources.items():
        if name in _RESERVED:
            yield f"launch.unicore.resources.{name}: it is set by the gateway or has its own key"
        elif not _NAME.fullmatch(name) or not _TEXT.fullmatch(value):
            yield f"launch.unicore.resources.{name}: {value!r} is no name and value of a resource"
