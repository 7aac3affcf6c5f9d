"""The kinds ``jwt``, ``userinfo`` and ``introspection``: their settings and factories.

Cheap to import: PyJWT, cryptography and treq come in with ``make``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from msgspec import Meta, Struct
from twisted.logger import Logger
from zope.interface import implementer

from vsmgate.addresses import wrong_with_url
from vsmgate.auth.claims import Rules, path_of
from vsmgate.errors import ConfigError, Problem
from vsmgate.interfaces import Context, IAuthenticator, IAuthenticatorFactory, ISettingsChecker
from vsmgate.model import Secret
from vsmgate.settings import join_key

if TYPE_CHECKING:
    from vsmgate.auth.provider import Provider

__all__ = [
    "IntrospectionFactory",
    "IntrospectionSettings",
    "JwtFactory",
    "JwtSettings",
    "UserinfoFactory",
    "UserinfoSettings",
]

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Word = Annotated[str, Meta(min_length=1)]
Positive = Annotated[float, Meta(gt=0)]

#: Refused tokens are remembered for so many seconds; and so many tokens of either kind.
_NEGATIVE, _ENTRIES = 10.0, 10000

#: The setting that names an endpoint -> its name in a provider's description.
_ENDPOINTS = {
    "jwks_url": "jwks_uri",
    "userinfo_url": "userinfo_endpoint",
    "introspection_url": "introspection_endpoint",
}


class ProviderSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the three kinds share.

    ``issuer``: as the provider writes it (``iss``). ``audiences``, ``clients``: one of
    them must be the token's ``aud``, its ``azp``. ``subject``, ``groups``: dotted paths
    of claims. ``ca_file``: the only authorities that its certificate may be of.
    ``allow_http``: plain HTTP, which lets anybody on the way be anybody. ``timeout``:
    seconds for an answer.
    """

    issuer: str
    audiences: tuple[Word, ...] = ()
    clients: tuple[Word, ...] = ()
    subject: str = "sub"
    groups: tuple[str, ...] = ()
    leeway: Annotated[float, Meta(ge=0, le=30)] = 10.0
    ca_file: str | None = None
    allow_http: bool = False
    timeout: Annotated[float, Meta(gt=0, le=30)] = 3.0


class JwtSettings(ProviderSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``kind = "jwt"``; see `vsmgate.auth.keys.KeySet` for the times."""

    algorithms: Annotated[tuple[Algorithm, ...], Meta(min_length=1)] = ("RS256",)
    jwks_url: str | None = None
    cache_ttl: Positive = 600.0
    refetch_interval: Annotated[float, Meta(ge=1)] = 60.0
    stale_ttl: Positive = 86400.0


class RemoteSettings(ProviderSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``userinfo`` and ``introspection`` share; see `vsmgate.auth.lookup.Bounds`."""

    cache_ttl: Annotated[float, Meta(ge=0, le=60)] = 60.0
    max_concurrent: Annotated[int, Meta(ge=1)] = 8
    max_per_second: Annotated[int, Meta(ge=1)] = 50


class UserinfoSettings(RemoteSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``kind = "userinfo"``."""

    userinfo_url: str | None = None


class IntrospectionSettings(RemoteSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``kind = "introspection"``; the client's secret is in a file or in the environment."""

    client_id: Word
    client_secret_file: str | None = None
    client_secret_env: str | None = None
    introspection_url: str | None = None


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
            urls={_ENDPOINTS[key]: url for key, url in _endpoints(settings).items()},
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
        problems = list(_problems(settings, context))
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
        _raise(_problems(settings, context), context)


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
        secret = _secret(settings, context)
        question = Introspection(provider, rules, settings.client_id, secret)
        return _remote(settings, context, provider, rules, question)

    def inspect(self, settings: IntrospectionSettings, context: Context) -> None:
        problems = list(_problems(settings, context))
        try:
            _secret(settings, context)
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


def _endpoints(settings: ProviderSettings) -> Mapping[str, str]:
    return {key: url for key in _ENDPOINTS if (url := getattr(settings, key, None)) is not None}


def _problems(settings: ProviderSettings, context: Context) -> Iterator[Problem]:
    """Yield what is wrong with what the three kinds share."""
    from vsmgate.hands.http_client import read_authorities

    for key, url in {"issuer": settings.issuer, **_endpoints(settings)}.items():
        if wrong := wrong_with_url(url, settings.allow_http):
            yield Problem(key, f"{url!r} {wrong}")
    named = {"subject": settings.subject}
    named |= {f"groups[{index}]": path for index, path in enumerate(settings.groups)}
    for key, path in named.items():
        try:
            path_of(path)
        except ValueError as error:
            yield Problem(key, f"{path!r} is not a claim: {error}")
    if settings.ca_file is not None:
        file = context.config_dir / settings.ca_file
        try:
            read_authorities(file)
        except OSError as error:
            yield Problem("ca_file", f"{file} cannot be read: {(error.strerror or '').lower()}")
        except ValueError as error:
            yield Problem("ca_file", f"{file} {error}")


def _secret(settings: IntrospectionSettings, context: Context) -> Secret:
    """Return the client's secret; raises `ValueError` that says why there is none."""
    file, variable = settings.client_secret_file, settings.client_secret_env
    if (file is None) == (variable is None):
        raise ValueError("give one of client_secret_file and client_secret_env")
    if variable is not None:
        value = os.environ.get(variable, "")
        if not value:
            raise ValueError(f"the environment variable {variable} is not set")
        return Secret(value)
    path = context.config_dir / str(file)
    try:
        value = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ValueError(f"{path} cannot be read: {reason.lower()}") from None
    if not value:
        raise ValueError(f"{path} is empty")
    return Secret(value)


def _raise(problems: Any, context: Context) -> None:
    where = join_key("authenticators", context.name)
    found = [Problem(f"{where}.{p.pointer}", p.detail) for p in problems]
    if found:
        raise ConfigError("configuration", found)
