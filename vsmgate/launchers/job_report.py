"""What the script of a job (`vsmgate.launchers.job_script`) says in its files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vsmgate.model import Endpoint

__all__ = ["SERVICE", "Ending", "ending_in", "places_on", "ports_in", "wrong_places"]

#: The name of a service, which is part of the names of its files.
SERVICE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", re.ASCII)
_ADDRESS = re.compile(r"[A-Za-z0-9.:_-]*(\{node\})?[A-Za-z0-9.:_-]*", re.ASCII)
_PORT = re.compile(r"([a-z0-9][a-z0-9_-]{0,62}) ([1-9][0-9]{3,4})", re.ASCII)
_ENDED = re.compile(r"service ([a-z0-9][a-z0-9_-]{0,62}) ([0-9]{1,3})\n", re.ASCII)
_TERMINATED = re.compile(r"terminated ([0-9]{1,10}) ([0-9]{1,10})\n", re.ASCII)


class Ending(NamedTuple):
    """How a job ended in its script's eyes.

    ``service`` ended with ``status``; or without a service the job was told to end
    (SIGTERM), ``seconds`` after its start, when it was allowed ``limit`` seconds.
    ``requeued``: Slurm started it a second time, which it declined.
    """

    service: str
    status: int
    seconds: int = 0
    limit: int = 0
    requeued: bool = False


def ports_in(text: str) -> dict[str, int]:
    """Return service -> port out of ``ports``; none is privileged."""
    ports = {}
    for line in text.splitlines():
        if (match := _PORT.fullmatch(line)) and 1024 <= int(match[2]) <= 65535:
            ports[match[1]] = int(match[2])
    return ports


def places_on(
    node: str, ports: Mapping[str, int], nodes: re.Pattern[str], address: str
) -> dict[str, Endpoint] | None:
    """Return where services are; None on a node that may not be dialled.

    ``nodes``: those that may be, as far as they are names of nodes at all. ``address``: what is
    dialled, with ``{node}`` for the name.
    """
    if not _NODE.fullmatch(node) or not nodes.fullmatch(node):
        return None
    host = address.replace("{node}", node)
    return {name: Endpoint(host, port) for name, port in ports.items()}


def wrong_places(address: str, nodes: str, ports: tuple[int, int]) -> Iterator[tuple[str, str]]:
    """Yield the settings of these names that `places_on` could not use, and why."""
    if not address or not _ADDRESS.fullmatch(address):
        yield "address", f"{address!r} is no address, such as '{{node}}.example.org'"
    try:
        re.compile(nodes)
    except re.error as error:
        yield "nodes", f"{nodes!r} is no regular expression: {error}"
    low, high = ports
    if not 1024 <= low <= high:
        yield "ports", f"[{low}, {high}] must be the first and the last port, from 1024 on"


def ending_in(text: str) -> Ending | None:
    """Return how a job ended out of ``exit``; None when its script did not get to say it."""
    if match := _ENDED.fullmatch(text):
        return Ending(match[1], int(match[2]))
    if match := _TERMINATED.fullmatch(text):
        return Ending("", 143, int(match[1]), int(match[2]))
    if text == "requeued\n":
        return Ending("", 94, requeued=True)
    return None
