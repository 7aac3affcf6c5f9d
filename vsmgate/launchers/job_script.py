"""The script of a job on a cluster: the only place where text for a shell is made.

Pure; of Slurm and of UNICORE. What users chose reaches it as arguments and environment of
the services, each quoted by `shlex.quote`. What only the node knows (ports that are not
fixed, a folder of the job's own) is a mark, which `_word` turns into the shell's variable.

In the folder of the job the script leaves (`vsmgate.launchers.job_report` reads them)::

    job, node       the job's number in Slurm; the node's own name
    ports           NAME PORT, a line for each service
    NAME.stdout     outputs of each service
    NAME.stderr
    NAME.status     its exit code
    exit            ``service NAME STATUS``, ``terminated SECONDS LIMIT`` or ``requeued``
    work/           the job's own: ``{directory}``, and where its services start
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping
from string import Template
from typing import Any, NamedTuple

from vsmgate.errors import BadParameters, Problem
from vsmgate.model import Endpoint, Launch
from vsmgate.templates import names_of, render_command, render_environment

__all__ = ["Place", "names_for", "render_script"]

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Place(NamedTuple):
    """Where jobs run: their folder, what to bind, the first and last port, the Python there.

    ``folder``: of all jobs, where each makes its own. None: a job starts in its own already.
    ``secret``: lines that set and export VSMGATE_SECRET.
    """

    folder: str | None
    bind: str
    ports: tuple[int, int]
    python: str
    shared: bool
    secret: str = ":"


_HEAD = Template("""\
#!/bin/bash
# $tag: made by vsmgate.
umask $umask
folder=$folder
if [ "$${SLURM_RESTART_COUNT:-0}" != 0 ]; then
    # Where Slurm could not be told not to requeue the job, its services must not start again.
    printf 'requeued\\n' >"$$folder/exit"
    exit 94
fi
$fresh
$secret
set -m  # every service is a process group of its own

# -- how it ends ----------------------------------------------------------------------
names=($names)
groups=()
mine=  # whether the folder is this job's
finish() {
    trap '' TERM USR1
    local status=143 told="terminated $$SECONDS $limit" name found ended=
    if [ "$$1" = service ]; then
        for name in "$${names[@]}"; do
            [ -s "$$folder/$$name.status" ] || continue
            read -r found <"$$folder/$$name.status"
            if [ -z "$$ended" ] || [ "$$status" = 0 ]; then ended=$$name status=$$found; fi
        done
        [ -z "$$ended" ] || told="service $$ended $$status"
    fi
    if [ "$$mine" ]; then
        printf '%s\\n' "$$told" >"$$folder/exit.new" && mv -f -- "$$folder/exit.new" "$$folder/exit"
    fi
    for group in "$${groups[@]}"; do kill -TERM -- "-$$group" 2>/dev/null; done
    for _ in {1..50}; do
        local left=
        for group in "$${groups[@]}"; do kill -0 -- "-$$group" 2>/dev/null && left=yes; done
        [ "$$left" ] || break
        sleep 0.1
    done
    exit "$$status"
}
trap 'finish service' USR1
trap 'finish terminated' TERM

# -- its folder -----------------------------------------------------------------------
# An answer that was lost makes two of a job, until the gateway ends one: whichever begins later
# waits to be ended, or to take the place of the other.
until said=$$(mkdir -- "$$folder" 2>&1) && mine=yes; do
    if [ ! -e "$$folder" ]; then echo "$$said" >&2; exit 90; fi
    sleep 1
    [[ $$(cat -- "$$folder/exit" 2>/dev/null) != terminated* ]] || rm -rf -- "$$folder"
done
mkdir -- "$$folder/work" && cd -- "$$folder/work" || exit 90
work=$$PWD number=$${SLURM_JOB_ID:-$$$$}
printf '%s\\n' "$$number" >"$$folder/job"
printf '%s\\n' "$$(uname -n)" >"$$folder/node"

# -- what the site wants first ------------------------------------------------------------
$setup

# -- ports ------------------------------------------------------------------------------
# From the job's number on and far from its neighbours', because two jobs that begin on a node at
# once, and pass over ports in use, must not come to the same one.
next=$$(($low + number * $count * 31 % $span))
busy=$$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null)
choose() {
    local tries=$span hex
    while ((tries-- > 0)); do
        port=$$next
        next=$$((next < $high ? next + 1 : $low))
        printf -v hex ':%04X ' "$$port"
        [[ $$busy == *"$$hex"* || $fixed == *" $$port "* ]] || return 0
    done
    echo 'vsmgate: no port is free on this node' >&2
    exit 91
}
""")

#: The folder of a job that starts in a directory of its own.
OWN_FOLDER = '"$PWD/vsmgate"'

_SERVICE = Template("""\
(
    (
        cd -- $directory || exit 92
        export $exports
        exec $command
    )
    echo $$? >"$$folder/$name.status"
    kill -USR1 $$$$
) </dev/null >"$$folder/$name.stdout" 2>"$$folder/$name.stderr" &
groups+=($$!)
""")


def names_for(launch: Launch, place: Place) -> dict[str, dict[str, Any]]:
    """Return, for each service, placeholder -> value; ports that are not known are marks."""
    endpoints = {name: Endpoint(place.bind, 0) for name in launch.usecase.services}
    result = {}
    for service in launch.usecase.services:
        names = names_of(
            service,
            endpoints,
            launch.parameters,
            job=launch.job_id,
            owner=launch.owner,
            python=place.python,
            directory=f"{place.folder}/{launch.job_id}/work" if place.folder else _home(launch),
        )
        names["port"] = _mark(launch, service)
        names.update((f"ports.{name}", _mark(launch, name)) for name in launch.usecase.services)
        result[service] = names
    return result


def render_script(launch: Launch, place: Place) -> str:
    """Return the script; raises `BadParameters` for values that cannot be arguments.

    Its plan has ``setup`` and ``services``, as a `vsmgate.launchers.slurm_plan.SlurmPlan`.
    """
    services = launch.usecase.services
    low, high = place.ports
    fixed = [str(service.port) for service in services.values() if service.port is not None]
    head = _HEAD.substitute(
        tag=launch.tag,
        umask="027" if place.shared else "077",
        folder=shlex.quote(f"{place.folder}/{launch.job_id}") if place.folder else OWN_FOLDER,
        fresh=_fresh(place),
        secret=":" if launch.secret is None else place.secret,
        names=" ".join(services),
        limit=60 * math.ceil(launch.lifetime / 60.0),
        setup="\n".join(launch.plan.setup) or ":",
        low=low,
        high=high,
        span=high - low + 1,
        count=len(services),
        fixed=shlex.quote(f" {' '.join(fixed)} "),
    )
    variables = {name: f"port_{index}" for index, name in enumerate(services)}
    parts = [head]
    for name, service in services.items():
        chosen = f"{variables[name]}={service.port}"
        parts.append(chosen if service.port else f"choose; {variables[name]}=$port")
    lines = " ".join(f'"{name} ${variables[name]}"' for name in services)
    parts.append(f"printf '%s\\n' {lines} >\"$folder/ports.new\" &&")
    parts.append('    mv -f -- "$folder/ports.new" "$folder/ports" || exit 90')
    parts.append("\n# -- the services ---------------------------------------------------------")
    for name, names in names_for(launch, place).items():
        parts.append(_service(launch, name, names, variables))
    parts.append("wait\nfinish service")
    return "\n".join([*parts, ""])


def _fresh(place: Place) -> str:
    """Return a line about what is there before the script runs."""
    if place.folder is None:
        return 'rm -rf -- "$folder" || exit 90  # of an earlier run'
    return 'chmod 640 -- "$folder.log"  # Slurm made it' if place.shared else ":"


def _service(
    launch: Launch, name: str, names: Mapping[str, Any], variables: Mapping[str, str]
) -> str:
    how = launch.plan.services[name]
    marks = {_mark(launch, service): variable for service, variable in variables.items()}
    marks[_home(launch)] = "work"
    environment = render_environment(how.environment, names)
    environment |= {
        "VSMGATE_TAG": launch.tag,
        "VSMGATE_JOB": launch.job_id,
        "VSMGATE_SERVICE": name,
        "VSMGATE_HOST": names["host"],
        "VSMGATE_PORT": names["port"],
    }
    for service in launch.usecase.services:
        environment[f"VSMGATE_PORT_{service.upper().replace('-', '_')}"] = names[f"ports.{service}"]
    return _SERVICE.substitute(
        name=name,
        directory=_word(how.directory or names["directory"], marks),
        exports=" ".join(f"{key}={_word(value, marks)}" for key, value in environment.items()),
        command=" ".join(_word(part, marks) for part in render_command(how.command, names)),
    )


def _mark(launch: Launch, service: str) -> str:
    """Return what stands for a port; nobody knew the job's id when its parameters were chosen."""
    return f"<port {launch.job_id} {service}>"


def _home(launch: Launch) -> str:
    """Return what stands for the job's own directory."""
    return f"<work {launch.job_id}>"


def _word(text: str, marks: Mapping[str, str]) -> str:
    """Return ``text`` as one word of the shell, with variables where marks stand."""
    plain = text
    for mark in marks:
        plain = plain.replace(mark, "")
    if _CONTROLS.search(plain):
        raise BadParameters(
            "A parameter has a control character, which a job on a cluster cannot take.",
            problems=[Problem("/", "must not contain a control character")],
        )
    quoted = shlex.quote(text)
    for mark, variable in marks.items():
        quoted = quoted.replace(mark, f"'\"${variable}\"'")
    return quoted
