"""The sources of use cases that come with vsmgate."""

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from vsmgate.usecases.files import TomlSourceFactory

toml = TomlSourceFactory()
alsoProvides(toml, IPlugin)
