"""The launchers that come with vsmgate."""

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from vsmgate.launchers.ecs import EcsLauncherFactory
from vsmgate.launchers.kubernetes import KubernetesLauncherFactory
from vsmgate.launchers.local import LocalLauncherFactory
from vsmgate.launchers.slurm import SlurmLauncherFactory
from vsmgate.launchers.unicore import UnicoreLauncherFactory

local = LocalLauncherFactory()
alsoProvides(local, IPlugin)

slurm = SlurmLauncherFactory()
alsoProvides(slurm, IPlugin)

ecs = EcsLauncherFactory()
alsoProvides(ecs, IPlugin)

kubernetes = KubernetesLauncherFactory()
alsoProvides(kubernetes, IPlugin)

unicore = UnicoreLauncherFactory()
alsoProvides(unicore, IPlugin)
