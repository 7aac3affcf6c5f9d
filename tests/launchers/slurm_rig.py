from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import convert
from msgspec.structs import replace
from twisted.internet.task import deferLater

from vsmgate.interfaces import Context
from vsmgate.launchers.slurm import SlurmLauncher, SlurmLauncherFactory
from vsmgate.launchers.slurm_plan import SlurmPlan
from vsmgate.launchers.slurm_settings import RestSettings, SlurmSettings
from vsmgate.model import Launch, Observation, Phase, Service, Usecase, new_job_id
from vsmgate.simulators.slurm_cluster import PATIENCE, SlurmCluster

SERVICE = Path(__file__).with_name("service.py")
T = TypeVar("T")


def usecase_of(services: dict[str, str], **plan: Any) -> Usecase:
    """Return a use case of name -> behaviour."""
    start = ["{python}", "-I", "-S", str(SERVICE).replace("{", "{{")]
    table = {
        name: {"command": [*start, name, does, "{host}", "{port}"]}
        for name, does in services.items()
    }
    return Usecase(
        name="test",
        launcher="slurm",
        services={name: Service() for name in services},
        launch={"slurm": {"services": table, **plan}},
    )


def launch_of(
    usecase: Usecase, parameters: dict[str, Any] | None = None, lifetime: float = 3600.0
) -> Launch:
    plan = convert(usecase.launch["slurm"], SlurmPlan)
    return Launch(new_job_id(), "nobody", usecase, plan, parameters or {}, lifetime)


class SlurmRig:
    """A launcher on a real cluster; its jobs are over at the end."""

    def __init__(
        self,
        reactor: Any,
        cluster: SlurmCluster,
        state_dir: Path,
        rest: RestSettings | None = None,
    ) -> None:
        self.reactor = reactor
        self.cluster = cluster
        self.state_dir = state_dir
        self.factory = SlurmLauncherFactory()
        self.settings = SlurmSettings(
            bind="127.0.0.1",
            address="127.0.0.1",
            nodes="n[12]",
            python=sys.executable,
            conf=str(cluster.conf),
            poll_every=0.0,
            extend=True,
            rest=rest,
        )
        self.launcher = self.again()
        self.tags: list[str] = []

    def again(self, **settings: Any) -> SlurmLauncher:
        made = replace(self.settings, **settings)
        context = Context("slurm", self.reactor, time.time, self.state_dir, self.state_dir)
        return self.factory.make(made, context)

    def launch(self, does: str = "stays", lifetime: float = 3600.0, **plan: Any) -> Launch:
        return self.launch_of(usecase_of({"renderer": does}, **plan), lifetime=lifetime)

    def launch_of(self, usecase: Usecase, **more: Any) -> Launch:
        launch = launch_of(usecase, **more)
        self.tags.append(launch.tag)
        return launch

    async def until(self, ref: str, phase: Phase) -> Observation:
        async def look() -> Observation | None:
            seen = (await self.launcher.poll([ref]))[ref]
            assert phase is Phase.ENDED or seen.phase is not Phase.ENDED, seen
            if seen.phase is not phase or (phase is Phase.RUNNING and not seen.endpoints):
                return None
            return seen

        return await self.eventually(look)

    def folder(self, launch: Launch) -> Path:
        return self.state_dir / "slurm" / launch.job_id

    def left(self) -> str:
        """Return the numbers of the jobs of this rig that are not over."""
        return self.cluster.ask(f"squeue -h -o %i --name={','.join(self.tags)}")

    def close(self) -> None:
        """End all jobs."""
        if self.tags:
            for number in self.left().split():
                self.cluster.ask(f"scancel {number}")
            deadline = time.monotonic() + PATIENCE
            while self.left():
                assert time.monotonic() < deadline, "jobs do not end"
                time.sleep(0.05)

    async def eventually(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """Return the first result of ``look`` that is not None; bounded."""
        deadline = time.monotonic() + PATIENCE
        while (found := await look()) is None:
            assert time.monotonic() < deadline, "it did not come to be"
            await deferLater(self.reactor, 0.05)
        return found
