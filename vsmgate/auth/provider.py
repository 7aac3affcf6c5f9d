"""An OpenID provider: where its endpoints are (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

from collections.abc import Mapping

from twisted.internet.interfaces import IReactorTime

from vsmgate.addresses import wrong_with_url
from vsmgate.auth.claims import Claims, json_object
from vsmgate.auth.flights import Kept
from vsmgate.errors import AuthenticatorUnavailable
from vsmgate.hands.http_client import HttpAnswer, HttpClient, HttpFailed

__all__ = ["Provider", "away", "json_of"]

#: How long the provider's description serves before it is read again, and how long when
#: it cannot be.
_FRESH, _STALE = 3600.0, 86400.0


class Provider:
    """One issuer, as a client of it sees it.

    ``urls``: endpoints that are known without asking, by their names in the provider's
    description (``jwks_uri``, ``userinfo_endpoint``, ``introspection_endpoint``).
    """

    def __init__(
        self,
        http: HttpClient,
        clock: IReactorTime,
        issuer: str,
        *,
        allow_http: bool,
        urls: Mapping[str, str],
    ) -> None:
        self.http = http
        self.issuer = issuer
        self._allow_http = allow_http
        self._urls = urls
        self._description = Kept(
            f"the description of {issuer}",
            self._discover,
            clock,
            fresh=_FRESH,
            interval=60.0,
            stale=_STALE,
        )

    async def url(self, name: str) -> str:
        """Return the endpoint ``name``; fails with `AuthenticatorUnavailable`."""
        if name in self._urls:
            return self._urls[name]
        url = (await self._description.current()).get(name)
        if not isinstance(url, str) or wrong_with_url(url, self._allow_http):
            raise away(f"{self.issuer} names no {name} that can be used")
        return url

    async def json(self, name: str) -> Claims:
        """GET the JSON object at the endpoint ``name``."""
        return await self._json(await self.url(name))

    async def _discover(self) -> Claims:
        found = await self._json(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self.issuer:
            # Section 4.3: else any provider could speak for any other.
            raise away(f"it calls itself {found.get('issuer')!r}, not {self.issuer!r}")
        return found

    async def _json(self, url: str) -> Claims:
        try:
            answer = await self.http.get(url)
        except HttpFailed as error:
            raise away(f"{url}: {error}") from None
        return json_of(answer, url)


def json_of(answer: HttpAnswer, url: str) -> Claims:
    """Return the JSON object in a good answer."""
    if answer.status != 200:
        raise away(f"{url} answered {answer.status}")
    found = json_object(answer.body)
    if found is None:
        raise away(f"{url} did not answer a JSON object")
    return found


def away(why: str) -> AuthenticatorUnavailable:
    """Return the error for a provider that does not do its part.

    ``why`` is for the log (as the error's cause): users are told what they can use.
    """
    error = AuthenticatorUnavailable("The identity provider cannot be asked now.")
    error.__cause__ = HttpFailed(why)
    return error
