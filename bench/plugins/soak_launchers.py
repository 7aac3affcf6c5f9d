"""A launcher for ``bin/soak``: jobs whose services are already there, and a census.

What a job's program "wrote" (``GET /v1/jobs/ID/logs``) is a count of what the gateway's
process holds at that moment: so the count is taken inside it without another door.
"""

from __future__ import annotations

import ctypes
import gc
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct
from twisted.plugin import IPlugin
from zope.interface import implementer

from vsmgate.interfaces import Context, ILauncher, ILauncherFactory
from vsmgate.model import Endpoint, Launch, LogStream, Observation, Phase, Usecase

#: Modules whose objects belong to relays and their openings, and to nothing else.
RELAYS = ("vsmgate.relay.", "vsmgate.frames", "vsmgate.rewriter", "vsmgate.hands.autobahn")
CONNECTIONS = ("twisted.internet.tcp", "autobahn.")


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No settings."""


class Places(Struct, frozen=True, forbid_unknown_fields=True):
    """``[launch.soak]`` of a use case: service name -> where it listens."""

    services: dict[str, Endpoint]


@implementer(ILauncher)
class SoakLauncher:
    """Says of every job that it runs."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._services: dict[str, dict[str, Endpoint]] = {}

    async def submit(self, launch: Launch) -> str:
        self._services[launch.tag] = launch.plan.services
        return launch.tag

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        return {tag: tag for tag in tags if tag in self._services}

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        return {ref: Observation(Phase.RUNNING, self._services[ref]) for ref in refs}

    async def cancel(self, ref: str) -> None:
        pass

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        return json.dumps(self._census()).encode()

    async def forget(self, ref: str) -> None:
        pass

    async def close(self) -> None:
        pass

    def _census(self) -> dict[str, int]:
        gc.collect()
        # What the allocator only keeps for later is not held by the gateway (malloc_trim(3)).
        if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
            trim(0)
        modules = Counter(str(type(thing).__module__) for thing in gc.get_objects())
        return {
            "timers": len(self._reactor.getDelayedCalls()),
            "readers": len(self._reactor.getReaders()),
            "relay objects": _sum(modules, RELAYS),
            "connection objects": _sum(modules, CONNECTIONS),
            "objects": modules.total(),
        }


def _sum(modules: Counter[str], names: tuple[str, ...]) -> int:
    return sum(count for module, count in modules.items() if module.startswith(names))


@implementer(ILauncherFactory, IPlugin)
class SoakLauncherFactory:
    """Makes soak launchers."""

    kind = "soak"
    help = "For bin/soak: jobs whose services are already there."
    settings = Nothing
    plan = Places

    def make(self, settings: Any, context: Context) -> SoakLauncher:
        return SoakLauncher(context.reactor)

    def check(self, usecase: Usecase, plan: Any) -> Sequence[str]:
        return ()


soak = SoakLauncherFactory()
