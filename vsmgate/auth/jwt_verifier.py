"""Tokens of an OpenID Connect issuer, verified here (RFC 7519, RFC 8725, RFC 9068).

In this order, the cheap before the costly::

    form -> head (alg, crit, typ) -> issuer -> time, audience -> key -> signature -> claims again

Up to the issuer it is only found out whether a token is of this issuer at all, so that a
chain of authenticators goes on at once. What a token says of keys (``jwk``, ``jku``,
``x5u``, ``x5c``) is never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jwt import PyJWS
from jwt.exceptions import PyJWTError
from zope.interface import implementer

from vsmgate.auth.claims import (
    Claims,
    Rules,
    claim,
    expiry_of,
    issue_of,
    json_object,
    plausible,
    segment,
)
from vsmgate.auth.keys import KeySet, named_key
from vsmgate.errors import Unauthenticated
from vsmgate.interfaces import IAuthenticator
from vsmgate.model import Identity, Secret

__all__ = ["JwtAuthenticator"]

#: ``typ`` of an access token's head, in lower case; others are for other purposes
#: (RFC 8725 section 3.11).
_TYPES = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})


@implementer(IAuthenticator)
class JwtAuthenticator:
    """Verifies tokens of one issuer with its public keys."""

    def __init__(
        self,
        issuer: str,
        algorithms: Sequence[str],
        keys: KeySet,
        rules: Rules,
        wall: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._algorithms = frozenset(algorithms)
        self._keys = keys
        self._rules = rules
        self._wall = wall
        self._signatures = PyJWS(algorithms=list(algorithms))

    async def authenticate(self, credential: Secret) -> Identity:
        token = credential.reveal()
        head, algorithm = self._head(token)
        # Nothing of this is believed yet; it only saves the costlier steps.
        self._check(segment(token.split(".")[1]))
        key = await self._keys.key(named_key(head), algorithm)
        try:
            verified = self._signatures.decode_complete(token, key.public, algorithms=[algorithm])
        except (PyJWTError, ValueError, TypeError):
            # "from None": the exceptions' texts may hold parts of the token.
            raise Unauthenticated("The token's signature is not its issuer's.") from None
        claims = self._check(json_object(verified["payload"]))
        return self._rules.identity(claims, expiry_of(claims), issue_of(claims))

    def _head(self, token: str) -> tuple[Claims, str]:
        """Return the head and its algorithm, if they are such as we take."""
        parts = token.split(".")
        head = segment(parts[0]) if plausible(token) and len(parts) == 3 else None
        if head is None:
            raise Unauthenticated("This is no JSON Web Token.")
        algorithm = head.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Unauthenticated("The token is not signed with an allowed algorithm.")
        if "crit" in head:
            raise Unauthenticated("The token demands what this gateway does not understand.")
        if str(head.get("typ", "")).lower() not in _TYPES:
            raise Unauthenticated("This is not an access token.")
        return head, algorithm

    def _check(self, claims: Claims | None) -> Claims:
        if claims is None or claims.get("iss") != self._issuer:
            raise Unauthenticated("The token is of another issuer.")
        if expiry_of(claims) is None:
            raise Unauthenticated("The token does not expire.")
        if claim(claims, self._rules.subject) is None:
            raise Unauthenticated("The token does not tell whose it is.")
        self._rules.check_token(claims, self._wall())
        return claims
