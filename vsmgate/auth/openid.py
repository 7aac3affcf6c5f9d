"""The kinds ``jwt``, ``userinfo`` and ``introspection``: their factories.

Cheap to import: PyJWT, cryptography and treq come in with ``make``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.auth.claims import Rules, path_of
from vsmgate.auth.openid_settings import (
    IntrospectionSettings,
    JwtSettings,
    ProviderSettings,
    RemoteSettings,
    UserinfoSettings,
    client_secret,
    endpoints,
    problems_of,
)
from vsmgate.errors import ConfigError, Problem
from vsmgate.interfaces import Context, IAuthenticator, IAuthenticatorFactory, ISettingsChecker
from vsmgate.settings import join_key

if TYPE_CHECKING:
    from vsmgate.auth.provider import Provider

__all__ = ["IntrospectionFactory", "JwtFactory", "UserinfoFactory"]

#: Refused tokens are remembered for so many seconds; and so many tokens of either kind.
_NEGATIVE, _ENTRIES = 10.0, 10000


class _Factory:
    """What the three factories share."""

    _log = Logger()

    def _provider(
        self, settings: ProviderSettings, context: Context, *, persistent: bool = True
    ) -> Provider:
        from vsmgate.auth.provider import Provider
        from vsmgate.hands.http_client import http_client

        if settings.allow_http:
            self._log.warn(
                "authenticators.{name} trusts plain HTTP: whoever is on the way to {issuer}"
                " can be anybody here",
                name=context.name,
                issuer=settings.issuer,
            )
        reactor: Any = context.reactor
        ca_file = None if settings.ca_file is None else context.config_dir / settings.ca_file
        return Provider(
            http_client(reactor, ca_file=ca_file, timeout=settings.timeout, persistent=persistent),
            reactor,
            settings.issuer,
            allow_http=settings.allow_http,
            urls=endpoints(settings),
        )


@implementer(IAuthenticatorFactory, ISettingsChecker)
class JwtFactory(_Factory):
    """Makes authenticators that verify tokens with the issuer's public keys."""

    kind = "jwt"
    help = "JSON Web Tokens of an OpenID Connect issuer, verified here (Keycloak and others)."
    settings: type = JwtSettings

    def make(self, settings: JwtSettings, context: Context) -> IAuthenticator:
        from vsmgate.auth.jwt_verifier import JwtAuthenticator
        from vsmgate.auth.keys import KeySet

        self.inspect(settings, context)
        clock: Any = context.reactor
        keys = KeySet(
            self._provider(settings, context),
            settings.algorithms,
            clock,
            cache_ttl=settings.cache_ttl,
            refetch_interval=settings.refetch_interval,
            stale_ttl=settings.stale_ttl,
        )
        rules = _rules(settings, context)
        return JwtAuthenticator(settings.issuer, settings.algorithms, keys, rules, context.wall)

    def inspect(self, settings: JwtSettings, context: Context) -> None:
        problems = list(problems_of(settings, context))
        if not settings.audiences and not settings.clients:
            detail = (
                "is required, or clients: else a token that was made for any other"
                " application of this issuer would open this gateway"
            )
            problems.append(Problem("audiences", detail))
        if settings.stale_ttl < settings.cache_ttl:
            problems.append(Problem("stale_ttl", "is less than cache_ttl"))
        _raise(problems, context)


@implementer(IAuthenticatorFactory, ISettingsChecker)
class UserinfoFactory(_Factory):
    """Makes authenticators that ask the userinfo endpoint."""

    kind = "userinfo"
    help = "Bearer tokens that are checked at an OpenID provider's userinfo endpoint."
    settings: type = UserinfoSettings

    def make(self, settings: UserinfoSettings, context: Context) -> IAuthenticator:
        from vsmgate.auth.remote import Userinfo

        self.inspect(settings, context)
        provider, rules = self._provider(settings, context), _rules(settings, context)
        return _remote(settings, context, provider, rules, Userinfo(provider, rules))

    def inspect(self, settings: UserinfoSettings, context: Context) -> None:
        _raise(problems_of(settings, context), context)


@implementer(IAuthenticatorFactory, ISettingsChecker)
class IntrospectionFactory(_Factory):
    """Makes authenticators that ask the introspection endpoint."""

    kind = "introspection"
    help = "Bearer tokens that are checked at a provider's introspection endpoint (RFC 7662)."
    settings: type = IntrospectionSettings

    def make(self, settings: IntrospectionSettings, context: Context) -> IAuthenticator:
        from vsmgate.auth.remote import Introspection

        self.inspect(settings, context)
        provider = self._provider(settings, context, persistent=False)
        rules = _rules(settings, context)
        secret = client_secret(settings, context)
        question = Introspection(provider, rules, settings.client_id, secret)
        return _remote(settings, context, provider, rules, question)

    def inspect(self, settings: IntrospectionSettings, context: Context) -> None:
        problems = list(problems_of(settings, context))
        try:
            client_secret(settings, context)
        except ValueError as error:
            problems.append(Problem("client_secret_file", str(error)))
        _raise(problems, context)


def _remote(
    settings: RemoteSettings, context: Context, provider: Provider, rules: Rules, question: Any
) -> IAuthenticator:
    from vsmgate.auth.lookup import Bounds
    from vsmgate.auth.remote import RemoteAuthenticator

    bounds = Bounds(
        positive_ttl=settings.cache_ttl,
        negative_ttl=_NEGATIVE,
        entries=_ENTRIES,
        concurrency=settings.max_concurrent,
        queue=settings.max_concurrent * 8,
        per_second=settings.max_per_second,
    )
    clock: Any = context.reactor
    return RemoteAuthenticator(provider, question, rules, bounds, clock, context.wall)


def _rules(settings: ProviderSettings, context: Context) -> Rules:
    return Rules(
        subject=path_of(settings.subject),
        groups=tuple(map(path_of, settings.groups)),
        audiences=frozenset(settings.audiences),
        clients=frozenset(settings.clients),
        leeway=settings.leeway,
        name=context.name,
    )


def _raise(problems: Any, context: Context) -> None:
    where = join_key("authenticators", context.name)
    found = [Problem(f"{where}.{p.pointer}", p.detail) for p in problems]
    if found:
        raise ConfigError("configuration", found)
