"""Commands and environments as templates: every string stays one element, whatever is in it.

Pure. A command's string is exactly one argv element, before and after: nothing is split,
quoted or parsed again, and no shell ever sees it. Placeholders (``{{`` and ``}}`` stand
for braces)::

    {port} {host}               of this service
    {ports.NAME} {hosts.NAME}   of any service of the job
    {parameters.NAME}           a parameter
    {job} {owner}               the job's id, the subject of its owner
    {python} {directory}        the interpreter, the job's own directory

A nested list in a command is a group. It is left out as a whole when a parameter that it
names has no value or is ``false``, and repeated for each item when it names an array.
Strings are rendered as they are, everything else as JSON (``true``, ``0.5``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from vsmgate.errors import BadParameters, Problem
from vsmgate.model import Endpoint
from vsmgate.parameters import unfit_text

__all__ = ["Command", "check_command", "check_environment", "names_of"]
__all__ += ["render_command", "render_environment"]

#: Templates of argv; a nested tuple is a group.
Command = tuple[str | tuple[str, ...], ...]

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_PLAIN = ("port", "host", "job", "owner", "python", "directory")
_FAMILIES = ("ports", "hosts", "parameters")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def names_of(
    service: str,
    endpoints: Mapping[str, Endpoint],
    parameters: Mapping[str, Any],
    *,
    job: str,
    owner: str,
    python: str,
    directory: str,
) -> dict[str, Any]:
    """Return placeholder -> value for the templates of ``service``."""
    names: dict[str, Any] = {"job": job, "owner": owner, "python": python, "directory": directory}
    names.update(host=endpoints[service].host, port=endpoints[service].port)
    for name, endpoint in endpoints.items():
        names[f"hosts.{name}"] = endpoint.host
        names[f"ports.{name}"] = endpoint.port
    names.update((f"parameters.{name}", value) for name, value in parameters.items())
    return names


def render_command(command: Command, names: Mapping[str, Any]) -> list[str]:
    """Return the argv of ``command``.

    Raises `BadParameters` for a value that cannot be part of an argv, and for a parameter
    outside of a group that has no value.
    """
    argv: list[str] = []
    for element in command:
        if isinstance(element, str):
            argv.append(_render(element, names))
        else:
            argv.extend(_render_group(element, names))
    return argv


def render_environment(environment: Mapping[str, str], names: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables; one that names a parameter without a value is left out."""
    return {
        variable: _render(template, names)
        for variable, template in environment.items()
        if all(names.get(name) is not None for name in _names(template))
    }


def check_command(
    command: Command, services: Mapping[str, Any], schema: Mapping[str, Any]
) -> list[str]:
    """Return what is wrong with a command, a sentence each.

    ``services``: the use case's, by name. ``schema``: of its parameters.
    """
    if not command or not isinstance(command[0], str) or not command[0]:
        return ["the command must start with a program"]
    wrong: list[str] = []
    for index, element in enumerate(command):
        for template in [element] if isinstance(element, str) else element:
            wrong.extend(f"{template!r} {why}" for why in _unknown(template, services, schema))
        if wrong:
            continue
        named = [n for n in _group_names(element) if n.startswith("parameters.")]
        if index == 0 and (named or "owner" in _group_names(element)):
            wrong.append(f"{element!r}: users must not choose the program")
        if isinstance(element, str):
            wrong.extend(
                f"{element!r}: {name} may have no value; give it a default, require it, "
                f"or put the element in a group (a nested list)"
                for name in named
                if not _always(name.removeprefix("parameters."), schema)
            )
        elif len([n for n in named if _type(n, schema) == "array"]) > 1:
            wrong.append(f"{list(element)!r}: a group is repeated for one array, not for several")
    return wrong


def check_environment(
    environment: Mapping[str, str], services: Mapping[str, Any], schema: Mapping[str, Any]
) -> list[str]:
    """Return what is wrong with the environment of a service, a sentence each."""
    wrong = [
        f"{variable!r} is no name of an environment variable"
        for variable in environment
        if not _VARIABLE.fullmatch(variable)
    ]
    wrong.extend(
        f"{variable}: VSMGATE_ variables are set by the gateway"
        for variable in environment
        if variable.startswith("VSMGATE_")
    )
    for variable, template in environment.items():
        wrong.extend(f"{variable}: {why}" for why in _unknown(template, services, schema))
    return wrong


def _unknown(
    template: str, services: Mapping[str, Any], schema: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is wrong with the placeholders of one template."""
    if why := unfit_text(template):
        yield why
    for token in _TOKEN.finditer(template):
        name = token[1]
        if name is None:
            if token[0] in "{}":
                yield f"has a single {token[0]} (write {token[0] * 2} for a brace)"
            continue
        kind, dot, which = name.partition(".")
        if dot and kind in _FAMILIES:
            known = list(schema.get("properties", {}) if kind == "parameters" else services)
            if which not in known:
                yield f"names {{{name}}}; known {kind}: {', '.join(known) or 'none'}"
        elif name not in _PLAIN:
            names = [*_PLAIN, *(f"{family}.NAME" for family in _FAMILIES)]
            yield f"names {{{name}}}; known: {', '.join(f'{{{n}}}' for n in names)}"


def _always(parameter: str, schema: Mapping[str, Any]) -> bool:
    part = schema.get("properties", {}).get(parameter)
    default = part.get("default") if isinstance(part, Mapping) else None
    return default is not None or parameter in schema.get("required", ())


def _type(name: str, schema: Mapping[str, Any]) -> object:
    part = schema.get("properties", {}).get(name.removeprefix("parameters."))
    return part.get("type") if isinstance(part, Mapping) else None


def _names(template: str) -> list[str]:
    return [token[1] for token in _TOKEN.finditer(template) if token[1] is not None]


def _group_names(element: str | tuple[str, ...]) -> list[str]:
    return [
        n
        for template in ([element] if isinstance(element, str) else element)
        for n in _names(template)
    ]


def _render_group(group: tuple[str, ...], names: Mapping[str, Any]) -> Iterator[str]:
    named = _group_names(group)
    if any(names.get(name) is None or names[name] is False for name in named):
        return
    many = next((name for name in named if isinstance(names[name], list)), None)
    for item in names[many] if many else [None]:
        here = {**names, many: item} if many else names
        yield from (_render(template, here) for template in group)


def _render(template: str, names: Mapping[str, Any]) -> str:
    def value(token: re.Match[str]) -> str:
        name = token[1]
        if name is None:
            return token[0][0]  # a doubled brace
        found = names.get(name)
        if found is None:
            raise _missing(name)
        return found if isinstance(found, str) else json.dumps(found, separators=(",", ":"))

    text = _TOKEN.sub(value, template)
    if why := unfit_text(text):
        pointers = [_pointer(n) for n in _names(template) if n.startswith("parameters.")]
        raise BadParameters(
            f"A parameter {why}.", problems=[Problem(pointer, why) for pointer in pointers]
        )
    return text


def _missing(name: str) -> BadParameters:
    return BadParameters(
        f"This use case needs a value for {name}.", problems=[Problem(_pointer(name), "is needed")]
    )


def _pointer(name: str) -> str:
    part = name.removeprefix("parameters.").replace("~", "~0").replace("/", "~1")
    return f"/{part}"
