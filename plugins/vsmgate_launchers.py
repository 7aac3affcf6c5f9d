"""The launchers that come with vsmgate."""

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from vsmgate.launchers.local import LocalLauncherFactory

local = LocalLauncherFactory()
alsoProvides(local, IPlugin)
