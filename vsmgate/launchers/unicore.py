"""Makes launchers of jobs at UNICORE sites (`vsmgate.launchers.unicore_launcher`)."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import implementer

from vsmgate.errors import ConfigError
from vsmgate.interfaces import Context, ILauncher, ILauncherFactory, ISettingsChecker
from vsmgate.launchers.unicore_credential import UnicoreCredential
from vsmgate.launchers.unicore_plan import UnicorePlan, check_plan
from vsmgate.launchers.unicore_settings import UnicoreSettings, settings_problems
from vsmgate.model import Usecase

__all__ = ["UnicoreLauncherFactory"]


@implementer(ILauncherFactory, ISettingsChecker)
class UnicoreLauncherFactory:
    """Makes launchers of jobs at UNICORE sites."""

    kind = "unicore"
    help = "jobs at a UNICORE site, through its REST API"
    settings = UnicoreSettings
    plan = UnicorePlan

    def make(self, settings: UnicoreSettings, context: Context) -> ILauncher:
        from vsmgate.launchers.unicore_client import UnicoreClient
        from vsmgate.launchers.unicore_launcher import UnicoreLauncher

        self.inspect(settings, context)
        credential = UnicoreCredential(settings, context.config_dir, context.name)
        client = UnicoreClient(context.reactor, settings, context.config_dir, credential.header)
        return UnicoreLauncher(settings, context, client)

    def inspect(self, settings: UnicoreSettings, context: Context) -> None:
        problems = settings_problems(settings, f"launchers.{context.name}", context.config_dir)
        if problems:
            raise ConfigError(context.name, problems)
        UnicoreCredential(settings, context.config_dir, context.name)

    def check(self, usecase: Usecase, plan: UnicorePlan) -> Sequence[str]:
        return check_plan(usecase, plan)
