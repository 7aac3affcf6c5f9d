"""Tokens that their provider is asked about: ``userinfo`` and ``introspection``."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote_plus

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from vsmgate.auth.claims import Rules, expiry_of, issue_of, peek, plausible
from vsmgate.auth.lookup import Bounds, Lookup, Recent
from vsmgate.auth.provider import Provider, away, json_of
from vsmgate.errors import Unauthenticated
from vsmgate.hands.http_client import HttpFailed
from vsmgate.interfaces import IAuthenticator, IRevocable
from vsmgate.model import Identity, Secret

__all__ = ["Introspection", "RemoteAuthenticator", "Userinfo"]


class Question(Protocol):
    """One way to ask."""

    async def ask(self, credential: Secret, now: float) -> Identity:
        """Return the identity; fails with `Unauthenticated` or `AuthenticatorUnavailable`."""


#: Seconds for which a good token is kept, to ask about it again: as long as somebody does.
HOLD = 90.0

#: Seconds for which a token that the provider took back is known as such: as long as a page's
#: session may live that was made of it.
GONE = 86400.0


@implementer(IAuthenticator, IRevocable)
class RemoteAuthenticator:
    """Asks ``question`` about what may be a token of ``provider``, within ``bounds``.

    Only a token itself can be asked about. So good ones are held here, and nowhere else, for
    the while in which a relay that they opened asks again.
    """

    def __init__(
        self,
        provider: Provider,
        question: Question,
        rules: Rules,
        bounds: Bounds,
        clock: IReactorTime,
        wall: Callable[[], float],
    ) -> None:
        self._issuer = provider.issuer
        self._rules = rules
        self._wall = wall
        self._lookup = Lookup(
            self._issuer,
            lambda credential: question.ask(credential, wall()),
            bounds,
            clock,
            wall,
        )
        self._held: Recent[Secret] = Recent(bounds.entries, clock)
        #: Handles of those taken back: whoever asks after the first must not hear "perhaps".
        self._gone: Recent[bool] = Recent(bounds.entries, clock)

    async def authenticate(self, credential: Secret) -> Identity:
        token = credential.reveal()
        if not plausible(token):
            raise Unauthenticated("This is no bearer token.")
        said = peek(token)
        if said is not None:
            # Unverified, but what a token says against itself needs no verification.
            if said.get("iss", self._issuer) != self._issuer:
                raise Unauthenticated("The token is of another issuer.")
            self._rules.check_time(said, self._wall())
        identity = await self._lookup.identity(credential)
        self._held.put(identity.handle, credential, HOLD)
        self._gone.drop(identity.handle)
        return identity

    async def still_valid(self, identity: Identity) -> bool:
        if identity.authenticator != self._rules.name:
            return True
        if self._gone.get(identity.handle):
            return False
        held = self._held.get(identity.handle)
        if held is None:
            return True
        self._held.put(identity.handle, held, HOLD)
        try:
            await self._lookup.ask_again(held)
        except Unauthenticated:
            self._held.drop(identity.handle)
            self._gone.put(identity.handle, True, GONE)
            return False
        return True


class Userinfo:
    """The bearer's own claims, from the userinfo endpoint (OpenID Connect Core 5.3).

    The endpoint answers for the tokens of **every** client of the provider. Where the
    rules name audiences or clients, the token must be a JSON Web Token, whose claims the
    provider vouches for by its answer.
    """

    def __init__(self, provider: Provider, rules: Rules) -> None:
        self._provider = provider
        self._rules = rules

    async def ask(self, credential: Secret, now: float) -> Identity:
        """GET it with the token itself."""
        token = credential.reveal()
        url = await self._provider.url("userinfo_endpoint")
        try:
            answer = await self._provider.http.get(url, {"Authorization": f"Bearer {token}"})
        except HttpFailed as error:
            raise away(f"{url}: {error}") from None
        if answer.status in (400, 401, 403):  # RFC 6750 section 3.1
            raise Unauthenticated("The identity provider refuses the token.")
        found = json_of(answer, url)
        said = peek(token) or {}
        self._rules.check_token(said, now)
        return self._rules.identity(found, expiry_of(said), issue_of(said))


class Introspection:
    """What the provider tells a client about a token (RFC 7662)."""

    def __init__(self, provider: Provider, rules: Rules, client_id: str, secret: Secret) -> None:
        self._provider = provider
        self._rules = rules
        # RFC 6749 section 2.3.1: both are form-encoded first.
        pair = f"{quote_plus(client_id)}:{quote_plus(secret.reveal())}"
        self._authorization = Secret(f"Basic {base64.b64encode(pair.encode()).decode()}")

    async def ask(self, credential: Secret, now: float) -> Identity:
        """POST the token, as the client that the configuration names."""
        url = await self._provider.url("introspection_endpoint")
        form = {"token": credential.reveal(), "token_type_hint": "access_token"}
        headers = {"Authorization": self._authorization.reveal()}
        try:
            answer = await self._provider.http.post(url, form, headers)
        except HttpFailed as error:
            raise away(f"{url}: {error}") from None
        if answer.status in (401, 403):
            raise away(f"{url} answered {answer.status}: client_id or its secret is not right")
        found = json_of(answer, url)
        if found.get("active") is not True:
            raise Unauthenticated("The identity provider says that the token is not active.")
        if found.get("iss", self._provider.issuer) != self._provider.issuer:
            raise Unauthenticated("The token is of another issuer.")
        self._rules.check_token(found, now)
        # Providers call refresh tokens active too, and not all tell which it is.
        self._rules.check_kind(peek(credential.reveal()) or {})
        return self._rules.identity(found, expiry_of(found), issue_of(found))
