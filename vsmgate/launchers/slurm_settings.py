"""``[launchers.NAME]`` with ``kind = "slurm"``, and what can be wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from vsmgate.errors import Problem
from vsmgate.launchers.slurm_client import find_command
from vsmgate.model import Port, Seconds

__all__ = ["SlurmSettings", "settings_problems"]

_ADDRESS = re.compile(r"[A-Za-z0-9.:_-]*(\{node\})?[A-Za-z0-9.:_-]*", re.ASCII)
_FOLDER = re.compile(r"[^\x00-\x1f\x7f%\\]+")


class SlurmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launchers.NAME]`` with ``kind = "slurm"``; docs/engines/slurm.md explains each.

    ``folder``: shared by the gateway and the nodes; without it, one in the state directory.
    ``address``: what is dialled for a node, ``{node}`` being its name in Slurm. ``nodes``: a
    regular expression for the names of nodes that may be dialled. ``ports``: first and last of
    those that services get. ``run_as``: a command to put before those that act for a user.
    """

    folder: str | None = None
    bind: str = "0.0.0.0"
    address: str = "{node}"
    nodes: str = r"[A-Za-z0-9][A-Za-z0-9.-]*"
    ports: tuple[Port, Port] = (20000, 29999)
    python: str = "python3"
    run_as: tuple[str, ...] = ()
    bin_dir: str | None = None
    conf: str | None = None
    query: Literal["format", "json"] = "format"
    accounting: bool = True
    extend: bool = False
    poll_every: Annotated[float, Meta(ge=0)] = 2.0
    timeout: Seconds = 20.0


def settings_problems(settings: SlurmSettings, where: str, config_dir: Path) -> list[Problem]:
    """Return everything that keeps settings from being used on this machine."""
    return [Problem(f"{where}.{key}", why) for key, why in _wrong(settings, config_dir)]


def _wrong(settings: SlurmSettings, config_dir: Path) -> Iterator[tuple[str, str]]:
    for name in ("sbatch", "squeue", "scancel"):
        if find_command(name, settings.bin_dir) is None:
            looked = f"in {settings.bin_dir}" if settings.bin_dir else "on the gateway's PATH"
            yield "bin_dir", f"{name} is not {looked}; install Slurm's commands, or say where"
            break
    if settings.conf is not None and not (config_dir / settings.conf).is_file():
        yield "conf", f"{settings.conf!r} is no file"
    if settings.folder is not None:
        if not (config_dir / settings.folder).is_dir():
            yield "folder", f"{settings.folder!r} is no folder; make it, see docs/engines/slurm.md"
        if not _FOLDER.fullmatch(settings.folder):
            yield (
                "folder",
                f"{settings.folder!r} has a character that sbatch --output changes: % or \\",
            )
    elif settings.run_as:
        yield "folder", "is required with run_as: the state directory is the gateway's alone"
    if settings.run_as and find_command(settings.run_as[0], None) is None:
        yield "run_as", f"{settings.run_as[0]!r} is no program of this machine"
    if settings.run_as and not any("{owner}" in part for part in settings.run_as):
        yield "run_as", "must have {owner} somewhere, as in ['sudo', '-n', '-u', '{owner}']"
    if not settings.address or not _ADDRESS.fullmatch(settings.address):
        yield "address", f"{settings.address!r} is no address, such as '{{node}}.example.org'"
    try:
        re.compile(settings.nodes)
    except re.error as error:
        yield "nodes", f"{settings.nodes!r} is no regular expression: {error}"
    low, high = settings.ports
    if not 1024 <= low <= high:
        yield "ports", f"[{low}, {high}] must be the first and the last port, from 1024 on"
