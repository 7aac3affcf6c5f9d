"""The job stores that come with vsmgate."""

from twisted.plugin import IPlugin
from zope.interface import alsoProvides

from vsmgate.stores.sql import SqlStoreFactory

sql = SqlStoreFactory()
alsoProvides(sql, IPlugin)
