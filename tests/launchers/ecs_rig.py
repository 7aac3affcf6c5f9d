from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import convert
from msgspec.structs import replace
from twisted.internet.task import deferLater

from tests.launchers.ecs_site import PATIENCE, EcsSite
from vsmgate.interfaces import Context, ILauncher
from vsmgate.launchers.ecs import EcsLauncherFactory
from vsmgate.launchers.ecs_plan import EcsPlan
from vsmgate.launchers.ecs_settings import EcsSettings
from vsmgate.model import Launch, Observation, Phase, Secret, Service, Usecase, new_job_id

SERVICE = Path(__file__).with_name("service.py")
SUBNET = "subnet-0a1b2c3d4e5f60718"
T = TypeVar("T")


def settings_of(told: dict[str, Any], **more: Any) -> EcsSettings:
    """Return the settings that the stand-in told, as a configuration reads them."""
    table = {key: value for key, value in told.items() if key not in ("kind", "targets")}
    return convert({**table, "python": sys.executable, **more}, EcsSettings)


def usecase_of(services: dict[str, str], family: str = "test", **plan: Any) -> Usecase:
    """Return a use case of name -> behaviour."""
    start = ["{python}", "-I", "-S", str(SERVICE).replace("{", "{{")]
    table: dict[str, Any] = {
        name: {"command": [*start, name, does, "{host}", "{port}"]}
        for name, does in services.items()
    }
    return Usecase(
        name="test",
        launcher="ecs",
        services={name: Service() for name in services},
        launch={"ecs": {"task_definition": family, "services": table, **plan}},
    )


def launch_of(
    usecase: Usecase,
    parameters: dict[str, Any] | None = None,
    secret: Secret | None = None,
    owner: str = "ada",
) -> Launch:
    plan = convert(usecase.launch["ecs"], EcsPlan)
    return Launch(new_job_id(), owner, usecase, plan, parameters or {}, 3600.0, secret)


class EcsRig:
    """A launcher on the stand-in; its tasks are over at the end."""

    def __init__(self, reactor: Any, site: EcsSite, folder: Path) -> None:
        self.reactor = reactor
        self.site = site
        self.folder = folder
        self.factory = EcsLauncherFactory()
        self.tags: list[str] = []
        self.settings = settings_of(site.told)
        self.launcher = self.again()

    def again(self, **settings: Any) -> ILauncher:
        made = replace(self.settings, **settings)
        context = Context("ecs", self.reactor, time.time, self.folder, self.folder)
        return self.factory.make(made, context)

    def launch(self, does: str = "stays", **plan: Any) -> Launch:
        return self.launch_of(usecase_of({"renderer": does}, **plan))

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

    async def eventually(self, look: Callable[[], Awaitable[T | None]]) -> T:
        """Return the first result of ``look`` that is not None; bounded."""
        deadline = time.monotonic() + PATIENCE
        while (found := await look()) is None:
            assert time.monotonic() < deadline, "it did not come to be"
            await deferLater(self.reactor, 0.05)
        return found

    def close(self) -> None:
        """End all tasks."""
        cluster = self.site.told["cluster"]
        for tag in self.tags:
            for task in self.site.tasks(tag):
                self.site.ecs.stop_task(cluster=cluster, task=task["taskArn"], reason="over")
        deadline = time.monotonic() + PATIENCE
        while any(
            task["lastStatus"] != "STOPPED"
            for tag in self.tags
            for task in self.site.tasks(tag, "STOPPED")
        ):
            assert time.monotonic() < deadline, "tasks do not end"
            time.sleep(0.05)
