"""What a use case says of Slurm jobs, and the options that ``sbatch`` gets for it.

Pure. Every option is one argv element, checked against a pattern of its own: nothing of a
user reaches a shell or a ``#SBATCH`` line.
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
from vsmgate.model import Usecase

__all__ = ["SlurmPlan", "check_plan", "minutes", "sbatch_options"]

_MEMORY = re.compile(r"(0|[1-9][0-9]{0,11}[KMGT]?)", re.ASCII)
_COMMENT = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,200}")

#: Options that are words: name -> what its value looks like. They are templates.
_WORDS: Mapping[str, re.Pattern[str]] = {
    "account": WORD,
    "partition": WORD,
    "qos": WORD,
    "reservation": WORD,
    "constraint": RESOURCE,
    "gres": RESOURCE,
    "memory": _MEMORY,
    "comment": _COMMENT,
}
_OPTION = re.compile(r"--([a-z][a-z-]*)(=[^\x00-\x1f\x7f-\x9f]*)?", re.ASCII)
#: What the launcher sets itself, or what would make another kind of job of it.
_RESERVED = {
    "array", "batch", "chdir", "clusters", "error", "export", "export-file", "get-user-env",
    "gid", "help", "hold", "ignore-pbs", "input", "job-name", "kill-on-invalid-dep",
    "no-requeue", "open-mode", "output", "parsable", "quiet", "requeue", "test-only", "time",
    "uid", "usage", "verbose", "version", "wait", "wrap", "nodes", "cpus-per-task", "exclusive",
    *(name.replace("memory", "mem") for name in _WORDS),
}  # fmt: skip


class SlurmPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.slurm]`` of a use case.

    The words (``account`` to ``comment``) are templates. ``memory``: as ``--mem`` has it,
    ``"0"`` is all of the node. ``setup``: lines of shell that run before the services, as they
    are (no placeholders). ``options``: more long options of ``sbatch``, as they are. The time
    limit is not here: it is the job's lifetime.
    """

    services: dict[str, NodeService]
    account: str = ""
    partition: str = ""
    qos: str = ""
    reservation: str = ""
    constraint: str = ""
    gres: str = ""
    memory: str = ""
    comment: str = ""
    nodes: Count = 1
    cpus_per_task: Count | None = None
    exclusive: bool = False
    setup: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def check_plan(usecase: Usecase, plan: SlurmPlan) -> list[str]:
    """Return what is wrong between a use case and its plan, a sentence each."""
    return [
        *wrong_on_nodes(usecase, plan, _WORDS, "launch.slurm", "Slurm"),
        *_wrong_options(plan),
    ]


def sbatch_options(plan: SlurmPlan, names: Mapping[str, Any], lifetime: float) -> list[str]:
    """Return the resources as options. ``names``: see `vsmgate.templates.names_of`.

    Raises `EngineRefused`, code ``bad_resource``, for a value that cannot be one.
    """
    options = [f"--nodes={plan.nodes}", f"--time={minutes(lifetime)}"]
    if plan.cpus_per_task is not None:
        options.append(f"--cpus-per-task={plan.cpus_per_task}")
    if plan.exclusive:
        options.append("--exclusive")
    for word, value in render_words(plan, _WORDS, names, "Slurm"):
        options.append(f"--{'mem' if word == 'memory' else word}={value}")
    return [*options, *plan.options]


def minutes(lifetime: float) -> int:
    """Return a time limit as Slurm counts them: whole minutes, not less than asked for."""
    return max(1, math.ceil(lifetime / 60.0))


def _wrong_options(plan: SlurmPlan) -> Iterator[str]:
    for option in plan.options:
        match = _OPTION.fullmatch(option)
        if match is None:
            yield f"launch.slurm.options: {option!r} must be one --option or --option=value"
        elif match[1] in _RESERVED:
            yield f"launch.slurm.options: --{match[1]} is set by the gateway or has its own key"
