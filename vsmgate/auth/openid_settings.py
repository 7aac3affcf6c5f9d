"""The settings of ``jwt``, ``userinfo`` and ``introspection``, and what is wrong with others."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct

from vsmgate.addresses import wrong_with_url
from vsmgate.auth.claims import path_of
from vsmgate.errors import Problem
from vsmgate.interfaces import Context
from vsmgate.model import Secret

__all__ = [
    "IntrospectionSettings",
    "JwtSettings",
    "ProviderSettings",
    "RemoteSettings",
    "UserinfoSettings",
    "client_secret",
    "endpoints",
    "problems_of",
]

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Word = Annotated[str, Meta(min_length=1)]
Positive = Annotated[float, Meta(gt=0)]

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


def endpoints(settings: ProviderSettings) -> Mapping[str, str]:
    """Return the endpoints that the settings name, by their names in a description."""
    return {_ENDPOINTS[key]: url for key, url in _named(settings).items()}


def _named(settings: ProviderSettings) -> Mapping[str, str]:
    return {key: url for key in _ENDPOINTS if (url := getattr(settings, key, None)) is not None}


def problems_of(settings: ProviderSettings, context: Context) -> Iterator[Problem]:
    """Yield what is wrong with what the three kinds share."""
    for key, url in {"issuer": settings.issuer, **_named(settings)}.items():
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
        from vsmgate.hands.http_client import wrong_with_authorities

        file = context.config_dir / settings.ca_file
        if wrong := wrong_with_authorities(file):
            yield Problem("ca_file", f"{file} {wrong}")


def client_secret(settings: IntrospectionSettings, context: Context) -> Secret:
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
