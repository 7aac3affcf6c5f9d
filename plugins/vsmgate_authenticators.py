"""The authenticators that come with vsmgate."""

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from vsmgate.auth.static import StaticAuthenticatorFactory

static = StaticAuthenticatorFactory()
alsoProvides(static, IPlugin)
