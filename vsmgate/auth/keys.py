"""The keys that an issuer signs with: a JSON Web Key Set (RFC 7517), kept and rotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError
from msgspec import Struct
from twisted.internet.interfaces import IReactorTime

from vsmgate.auth.claims import Claims
from vsmgate.auth.flights import Kept
from vsmgate.auth.provider import Provider, away
from vsmgate.errors import Unauthenticated

__all__ = ["KEY_TYPES", "Key", "KeySet", "keys_of", "named_key"]

#: Signing algorithm -> the type of its keys. No shared secrets: an issuer's public key
#: must never be taken for one (RFC 8725 section 2.1).
KEY_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "RSA"),
    **dict.fromkeys(("ES256", "ES384", "ES512"), "EC"),
    "EdDSA": "OKP",
}
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}  # RFC 7518 section 3.4
_MOST_KEYS = 100
_LONGEST_KID = 256
_SMALLEST_RSA = 2048


class Key(Struct, frozen=True):
    """A public key, and the algorithms that it is for."""

    kid: str | None
    algorithms: frozenset[str]
    public: Any


class KeySet:
    """The present keys of one issuer.

    ``cache_ttl``: a key that the issuer withdrew is refused after so many seconds at the
    latest. ``refetch_interval``: tokens that name unknown keys cause no more than one
    fetch in so many seconds, all of them together. ``stale_ttl``: how long keys serve
    while the issuer cannot be asked.
    """

    def __init__(
        self,
        provider: Provider,
        algorithms: Sequence[str],
        clock: IReactorTime,
        *,
        cache_ttl: float,
        refetch_interval: float,
        stale_ttl: float,
    ) -> None:
        self._provider = provider
        self._algorithms = frozenset(algorithms)
        self._kept = Kept(
            f"the keys of {provider.issuer}",
            self._fetch,
            clock,
            fresh=cache_ttl,
            interval=refetch_interval,
            stale=stale_ttl,
        )

    async def key(self, kid: str | None, algorithm: str) -> Key:
        """Return the key that a token's head names.

        Fails with `Unauthenticated` when the issuer has none such, and with
        `AuthenticatorUnavailable` when that cannot be found out now.
        """
        found = _pick(await self._kept.current(), kid, algorithm)
        if found is None:
            found = _pick(await self._kept.newer(), kid, algorithm)
        if found is None:
            raise Unauthenticated("The token is signed with a key that its issuer does not have.")
        return found

    async def _fetch(self) -> tuple[Key, ...]:
        keys = keys_of(await self._provider.json("jwks_uri"), self._algorithms)
        if not keys:
            # Also when all were withdrawn: a mistake there must not lock everybody out at once.
            raise away("there is no key for " + ", ".join(sorted(self._algorithms)))
        return keys


def keys_of(document: Claims, algorithms: frozenset[str]) -> tuple[Key, ...]:
    """Return the usable keys of a key set; others are left out (RFC 7517 section 5)."""
    listed = document.get("keys")
    keys = []
    for jwk in (listed if isinstance(listed, list) else [])[:_MOST_KEYS]:
        key = _key_of(jwk, algorithms) if isinstance(jwk, dict) else None
        if key is not None:
            keys.append(key)
    return tuple(keys)


def _key_of(jwk: dict[str, Any], algorithms: frozenset[str]) -> Key | None:
    fit = {name for name in algorithms if KEY_TYPES[name] == jwk.get("kty")}
    if jwk.get("kty") == "EC":
        fit &= {_CURVES.get(str(jwk.get("crv")), "")}
    if jwk.get("alg") is not None:
        fit &= {str(jwk["alg"])}
    kid = jwk.get("kid")
    if not fit or jwk.get("use", "sig") != "sig" or not isinstance(kid, str | None):
        return None
    operations = jwk.get("key_ops")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    public = {name: value for name, value in jwk.items() if name != "d"}
    try:
        key = PyJWK(public, algorithm=min(fit)).key
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    if jwk["kty"] == "RSA" and key.key_size < _SMALLEST_RSA:
        return None
    return Key(kid, frozenset(fit), key)


def _pick(keys: Sequence[Key], kid: str | None, algorithm: str) -> Key | None:
    """Return the key of that name; without a name, the only one there is."""
    fit = [key for key in keys if algorithm in key.algorithms]
    if kid is not None:
        fit = [key for key in fit if key.kid == kid]
        return fit[0] if fit else None
    return fit[0] if len(fit) == 1 else None


def named_key(head: Claims) -> str | None:
    """Return a token head's ``kid``; fails with `Unauthenticated` for an absurd one."""
    kid = head.get("kid")
    if kid is None or (isinstance(kid, str) and 0 < len(kid) <= _LONGEST_KID):
        return kid
    raise Unauthenticated("The token names no key that there could be.")
