"""The launcher for Amazon ECS, as a plugin; what it makes is in `ecs_launcher`."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from vsmgate.errors import ConfigError
from vsmgate.interfaces import Context, ILauncher, ILauncherFactory, ISettingsChecker
from vsmgate.launchers.ecs_plan import EcsPlan, check_plan
from vsmgate.launchers.ecs_settings import EcsSettings, settings_problems
from vsmgate.model import Usecase

__all__ = ["EcsLauncherFactory"]


@implementer(ILauncherFactory, ISettingsChecker)
class EcsLauncherFactory:
    """Makes launchers of ECS tasks."""

    kind = "ecs"
    help = "tasks on Amazon ECS (Fargate or EC2)"
    settings = EcsSettings
    plan = EcsPlan

    def make(self, settings: EcsSettings, context: Context) -> ILauncher:
        from vsmgate.launchers.ecs_launcher import EcsLauncher

        self.inspect(settings, context)
        return EcsLauncher(settings, context)

    def inspect(self, settings: EcsSettings, context: Context) -> None:
        problems = settings_problems(settings, f"launchers.{context.name}", context.config_dir)
        if problems:
            raise ConfigError(context.name, problems)

    def check(self, usecase: Usecase, plan: EcsPlan) -> Sequence[str]:
        return check_plan(usecase, plan)
