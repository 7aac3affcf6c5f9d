"""The launchers that come with vsmgate."""

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from vsmgate.launchers.local import LocalLauncherFactory
from vsmgate.launchers.slurm import SlurmLauncherFactory
from vsmgate.launchers.unicore import UnicoreLauncherFactory

local = LocalLauncherFactory()
alsoProvides(local, IPlugin)

slurm = SlurmLauncherFactory()
alsoProvides(slurm, IPlugin)

unicore = UnicoreLauncherFactory()
alsoProvides(unicore, IPlugin)
