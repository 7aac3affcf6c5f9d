"""Nobody in particular: everybody is one and the same user of a sandbox."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.auth.tokens import Subject
from vsmgate.interfaces import Context, IAuthenticator, IAuthenticatorFactory
from vsmgate.model import Identity, Secret

__all__ = ["AnonymousAuthenticator", "AnonymousAuthenticatorFactory", "AnonymousSettings"]


class AnonymousSettings(Struct, frozen=True, forbid_unknown_fields=True):
    """``kind = "anonymous"``: ``subject`` is whom everybody is; there is no default."""

    subject: Subject
    groups: Annotated[tuple[Subject, ...], Meta(max_length=100)] = ()


@implementer(IAuthenticatorFactory)
class AnonymousAuthenticatorFactory:
    """Makes an authenticator that knows nobody and lets everybody in."""

    kind = "anonymous"
    help = "Any token at all is one sandbox user. Only for demonstrations."
    settings = AnonymousSettings
    _log = Logger()

    def make(self, settings: AnonymousSettings, context: Context) -> AnonymousAuthenticator:
        self._log.warn(
            "NOBODY IS ASKED WHO THEY ARE: authenticators.{name} lets everybody who reaches"
            " this gateway in as {subject!r}, to start, use and end that user's jobs",
            name=context.name,
            subject=settings.subject,
        )
        return AnonymousAuthenticator(
            Identity(settings.subject, settings.groups, None, context.name)
        )


@implementer(IAuthenticator)
class AnonymousAuthenticator:
    """Takes any credential."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def authenticate(self, credential: Secret) -> Identity:
        return self._identity
