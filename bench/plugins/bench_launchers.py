"""A launcher for measurements: its jobs were always there, run, and never end."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct
from twisted.plugin import IPlugin
from zope.interface import implementer

from vsmgate.interfaces import Context, ILauncher, ILauncherFactory
from vsmgate.model import Endpoint, Launch, LogStream, Observation, Phase, Usecase


class Nothing(Struct, frozen=True, forbid_unknown_fields=True):
    """No plan."""


class Steady(Struct, frozen=True, forbid_unknown_fields=True):
    """``port``: where the service of every job is, on this machine."""

    port: int = 9


@implementer(ILauncher)
class SteadyLauncher:
    """Says of every job that it runs."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def submit(self, launch: Launch) -> str:
        return launch.tag

    async def find(self, tags: Collection[str]) -> Mapping[str, str]:
        return {}

    async def poll(self, refs: Collection[str]) -> Mapping[str, Observation]:
        running = Observation(Phase.RUNNING, {"renderer": Endpoint("127.0.0.1", self._port)})
        return dict.fromkeys(refs, running)

    async def cancel(self, ref: str) -> None:
        pass

    async def logs(self, ref: str, service: str, stream: LogStream, tail: int) -> bytes:
        return b""

    async def forget(self, ref: str) -> None:
        pass

    async def close(self) -> None:
        pass


@implementer(ILauncherFactory, IPlugin)
class SteadyLauncherFactory:
    """Makes steady launchers."""

    kind = "steady"
    help = "For bin/bench: jobs that run for ever."
    settings = Steady
    plan = Nothing

    def make(self, settings: Any, context: Context) -> SteadyLauncher:
        return SteadyLauncher(settings.port)

    def check(self, usecase: Usecase, plan: Any) -> Sequence[str]:
        return ()


steady = SteadyLauncherFactory()
