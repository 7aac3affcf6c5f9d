"""Makes launchers of Kubernetes pods (`vsmgate.launchers.kubernetes_launcher`)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zope.interface import implementer

from vsmgate.errors import ConfigError, Problem
from vsmgate.interfaces import Context, ILauncher, ILauncherFactory, ISettingsChecker
from vsmgate.launchers.kubernetes_plan import KubernetesPlan, check_plan
from vsmgate.launchers.kubernetes_settings import KubernetesSettings
from vsmgate.model import Usecase

if TYPE_CHECKING:
    from vsmgate.launchers.kubernetes_credentials import Access

__all__ = ["KubernetesLauncherFactory"]

_BIND = re.compile(r"\{pod\}|[0-9A-Fa-f.:]{2,45}", re.ASCII)


@implementer(ILauncherFactory, ISettingsChecker)
class KubernetesLauncherFactory:
    """Makes launchers of pods."""

    kind = "kubernetes"
    help = "pods on a Kubernetes cluster, through its REST API"
    settings = KubernetesSettings
    plan = KubernetesPlan

    def make(self, settings: KubernetesSettings, context: Context) -> ILauncher:
        from vsmgate.launchers.kubernetes_launcher import KubernetesLauncher

        return KubernetesLauncher(settings, context, _access(settings, context))

    def inspect(self, settings: KubernetesSettings, context: Context) -> None:
        _access(settings, context)

    def check(self, usecase: Usecase, plan: KubernetesPlan) -> Sequence[str]:
        return check_plan(usecase, plan)


def _access(settings: KubernetesSettings, context: Context) -> Access:
    """Return the way into the cluster; raises `ConfigError`."""
    from vsmgate.launchers.kubernetes_credentials import from_kubeconfig, in_cluster

    where = f"launchers.{context.name}"
    if not _BIND.fullmatch(settings.bind):
        why = f"{settings.bind!r} is no address, such as '0.0.0.0', and not '{{pod}}'"
        raise ConfigError(context.name, [Problem(f"{where}.bind", why)])
    if settings.kubeconfig is None:
        return in_cluster(where)
    return from_kubeconfig(context.config_dir / settings.kubeconfig, settings.context, where)
