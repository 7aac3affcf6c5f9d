from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.launchers.rig import Rig, usecase_of
from vsmgate.launchers.local import LocalLauncherFactory, LocalSettings
from vsmgate.launchers.local_processes import members, send
from vsmgate.model import Launch, Service


class LocalRig(Rig):
    """A local launcher on a folder of its own; everything it started is gone at the end."""

    factory = LocalLauncherFactory()

    def __init__(self, reactor: Any, state_dir: Path) -> None:
        super().__init__(reactor, state_dir, LocalSettings(grace=5.0))

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
        usecase = usecase_of("local", services, plan)
        for made in usecase.launch["local"]["services"].values():
            made["command"] += extra or []
        usecase = replace(
            usecase,
            services={name: Service(port=(ports or {}).get(name)) for name in services},
            parameters={"properties": {name: {} for name in parameters or {}}},
        )
        return self.launch_of(usecase, parameters=parameters, lifetime=lifetime)

    def folder(self, launch: Launch) -> Path:
        return self.state_dir / "jobs" / launch.job_id

    def left(self) -> list[int]:
        """Return the pids of all processes of all jobs."""
        return [process.pid for tag in self.tags for process in members(tag)]

    async def gone(self) -> bool | None:
        return None if self.left() else True

    async def close(self) -> None:
        """Once every job was asked to end, nothing of any may be left."""
        try:
            for ref in (await self.launcher.find(self.tags)).values():
                await self.launcher.cancel(ref)
            await self.eventually(self.gone)
        finally:
            for tag in self.tags:
                for process in members(tag):
                    send(process, signal.SIGKILL)
            await super().close()
