from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import convert
from twisted.internet.task import deferLater

from vsmgate.interfaces import Context
from vsmgate.launchers.local import LocalLauncher, LocalLauncherFactory, LocalSettings
from vsmgate.launchers.local_processes import members
from vsmgate.launchers.local_request import LocalPlan
from vsmgate.model import Launch, Observation, Phase, Service, Usecase, new_job_id

SERVICE = Path(__file__).with_name("service.py")
PATIENCE = 20.0
T = TypeVar("T")


class LocalRig:
    """A local launcher on a folder of its own; everything it started is gone at the end."""

    def __init__(self, reactor: Any, state_dir: Path) -> None:
        self.reactor = reactor
        self.factory = LocalLauncherFactory()
        self.state_dir = state_dir
        self.nudges = 0
        self.tags: list[str] = []
        self.settings = LocalSettings(grace=5.0)
        self.launcher = self.again()

    def again(self, **settings: Any) -> LocalLauncher:
        if settings:
            self.settings = LocalSettings(**settings)
        context = Context(
            "local", self.reactor, time.time, self.state_dir, self.state_dir, self._nudge
        )
        return self.factory.make(self.settings, context)

    def _nudge(self) -> None:
        self.nudges += 1

    def launch(self, does: str = "stays", **changes: Any) -> Launch:
        return self.launch_services({"renderer": does}, **changes)

    def launch_services(
        self,
        services: dict[str, str],
        *,
        lifetime: float = 3600.0,
        extra: list[Any] | None = None,
        parameters: dict[str, Any] | None = None,
        ports: dict[str, int] | None = None,
        **plan: Any,
    ) -> Launch:
        """Return a launch of name -> behaviour; ``plan``: more of each service's plan."""
        start = ["{python}", "-I", "-S", str(SERVICE).replace("{", "{{")]
        table = {
            name: {"command": [*start, name, does, "{host}", "{port}", *(extra or [])], **plan}
            for name, does in services.items()
        }
        usecase = Usecase(
            name="test",
            launcher="local",
            services={name: Service(port=(ports or {}).get(name)) for name in services},
            launch={"local": {"services": table}},
            parameters={"properties": {name: {} for name in parameters or {}}},
        )
        made = Launch(
            new_job_id(),
            "ada",
            usecase,
            convert(usecase.launch["local"], LocalPlan),
            parameters or {},
            lifetime,
        )
        self.tags.append(made.tag)
        return made

    async def until(self, ref: str, phase: Phase) -> Observation:
        async def look() -> Observation | None:
            seen = (await self.launcher.poll([ref]))[ref]
            assert phase is Phase.ENDED or seen.phase is not Phase.ENDED, seen
            return seen if seen.phase is phase else None

        return await self.eventually(look)

    def folder(self, launch: Launch) -> Path:
        return self.state_dir / "jobs" / launch.job_id

    def left(self) -> list[int]:
        """Return the pids of all processes of all jobs."""
        return [process.pid for tag in self.tags for process in members(tag)]

    async def gone(self) -> bool | None:
        return None if self.left() else True

    async def eventually(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """Return the first result of ``look`` that is not None; bounded."""
        deadline = time.monotonic() + PATIENCE
        while (found := await look()) is None:
            assert time.monotonic() < deadline, "it did not come to be"
            await deferLater(self.reactor, 0.01)
        return found
