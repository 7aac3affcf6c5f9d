"""The authenticators that come with vsmgate."""

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from vsmgate.auth.anonymous import AnonymousAuthenticatorFactory
from vsmgate.auth.openid import IntrospectionFactory, JwtFactory, UserinfoFactory
from vsmgate.auth.static import StaticAuthenticatorFactory

anonymous = AnonymousAuthenticatorFactory()
introspection = IntrospectionFactory()
jwt = JwtFactory()
static = StaticAuthenticatorFactory()
userinfo = UserinfoFactory()

for factory in (anonymous, introspection, jwt, static, userinfo):
    alsoProvides(factory, IPlugin)
del factory
