from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import convert

from tests.launchers import rig
from tests.launchers.ecs_site import EcsSite
from tests.launchers.rig import PATIENCE
from vsmgate.launchers.ecs import EcsLauncherFactory
from vsmgate.launchers.ecs_plan import EcsPlan
from vsmgate.launchers.ecs_settings import EcsSettings
from vsmgate.model import Usecase

SUBNET = "subnet-0a1b2c3d4e5f60718"


def settings_of(told: dict[str, Any], **more: Any) -> EcsSettings:
    """Return the settings that the stand-in told, as a configuration reads them."""
    table = {key: value for key, value in told.items() if key not in ("kind", "targets")}
    return convert({**table, "python": sys.executable, **more}, EcsSettings)


def usecase_of(services: dict[str, str], family: str = "test", **plan: Any) -> Usecase:
    """Return a use case of name -> behaviour."""
    return rig.usecase_of("ecs", services, task_definition=family, **plan)


launch_of = partial(rig.launch_of, EcsPlan)


class EcsRig(rig.Rig):
    """A launcher on the stand-in; its tasks are over at the end."""

    factory = EcsLauncherFactory()
    usecase_of = staticmethod(usecase_of)
    late = True

    def __init__(self, reactor: Any, site: EcsSite, folder: Path) -> None:
        self.site = site
        super().__init__(reactor, folder, settings_of(site.told))

    async def close(self) -> None:
        """End all tasks."""
        await super().close()
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
