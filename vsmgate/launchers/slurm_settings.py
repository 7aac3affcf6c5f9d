"""``[launchers.NAME]`` with ``kind = "slurm"``, and what can be wrong with it."""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from msgspec import Meta, Struct

from vsmgate.errors import Problem
from vsmgate.launchers.job_report import wrong_places
from vsmgate.launchers.slurm_commands import find_command
from vsmgate.launchers.slurm_ref import USER
from vsmgate.launchers.slurm_rest_words import VERSION
from vsmgate.model import Port, Seconds

__all__ = ["RestSettings", "SlurmSettings", "settings_problems"]

_FOLDER = re.compile(r"[^\x00-\x1f\x7f%\\]+")


class RestSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``rest = {...}`` of a launcher.

    ``url``: of slurmrestd, without a path. ``user``: whom the token is for. ``token_file``:
    holds the token, as ``scontrol token`` prints it; it is read again at every question.
    ``ca_file``: the only authorities that are trusted. ``version``: of the API.
    """

    url: str
    user: str
    token_file: str
    version: str
    ca_file: str | None = None
    allow_http: bool = False


class SlurmSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launchers.NAME]`` with ``kind = "slurm"``; docs/engines/slurm.md explains each.

    ``folder``: shared by the gateway and the nodes; without it, one in the state directory.
    ``address``: what is dialled for a node, ``{node}`` being its name in Slurm. ``nodes``: a
    regular expression for the names of nodes that may be dialled. ``ports``: first and last of
    those that services get. ``run_as``: a command to put before those that act for a user.
    ``rest``: ask slurmrestd instead of running commands.
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
    rest: RestSettings | None = None


def settings_problems(settings: SlurmSettings, where: str, config_dir: Path) -> list[Problem]:
    """Return everything that keeps settings from being used on this machine."""
    return [Problem(f"{where}.{key}", why) for key, why in _wrong(settings, config_dir)]


def _wrong(settings: SlurmSettings, config_dir: Path) -> Iterator[tuple[str, str]]:
    if settings.rest is not None:
        for key, why in _wrong_rest(settings.rest, config_dir):
            yield f"rest.{key}", why
        if settings.run_as:
            yield "run_as", "cannot be had with rest, where all jobs are those of rest.user"
    for name in () if settings.rest else ("sbatch", "squeue", "scancel"):
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
    elif settings.run_as and _cannot_become_root(settings.run_as[0]):
        yield (
            "run_as",
            f"{settings.run_as[0]!r} cannot become root: the gateway's service has "
            "NoNewPrivileges, see docs/engines/slurm.md",
        )
    if settings.run_as and not any("{owner}" in part for part in settings.run_as):
        yield "run_as", "must have {owner} somewhere, as in ['sudo', '-n', '-u', '{owner}']"
    yield from wrong_places(settings.address, settings.nodes, settings.ports)


def _wrong_rest(rest: RestSettings, config_dir: Path) -> Iterator[tuple[str, str]]:
    url = urlsplit(rest.url)
    if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/"):
        yield "url", f"{rest.url!r} is no URL such as 'https://slurm.example.org:6820'"
    elif url.scheme == "http" and not rest.allow_http:
        yield "url", f"{rest.url!r} shows the token to everybody on the way; see allow_http"
    if not VERSION.fullmatch(rest.version):
        yield "version", f"{rest.version!r} is not spoken: v0.0.38, or v0.0.40 and later"
    if not USER.fullmatch(rest.user):
        yield "user", f"{rest.user!r} is no name of an account"
    elif _uid(rest.user) not in (None, os.geteuid()):
        yield "user", f"{rest.user!r} is not the gateway's own account, which reads the jobs' files"
    try:
        (config_dir / rest.token_file).open("rb").close()
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        yield "token_file", f"{rest.token_file!r} cannot be read: {why}"
    if rest.ca_file is not None:
        from vsmgate.hands.http_client import wrong_with_authorities

        if wrong := wrong_with_authorities(config_dir / rest.ca_file):
            yield "ca_file", f"{rest.ca_file!r} {wrong}"


def _cannot_become_root(program: str) -> bool:
    """Return whether a program that has to, as sudo has, may not (``no_new_privs``, Linux)."""
    path = find_command(program, None)
    try:
        forbidden = "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()
        needed = os.geteuid() != 0 and path and os.stat(path).st_mode & stat.S_ISUID
        return forbidden and bool(needed)
    except OSError:
        return False


def _uid(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None
