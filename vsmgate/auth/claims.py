"""What an identity provider says of somebody, and whom we take that for. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from vsmgate.errors import Unauthenticated
from vsmgate.model import Identity

__all__ = [
    "Claims",
    "Rules",
    "claim",
    "expiry_of",
    "json_object",
    "path_of",
    "peek",
    "plausible",
    "segment",
]

Claims = Mapping[str, Any]

#: Octets of a token; longer ones are nobody's (providers' are 1 to 4 KiB).
LONGEST = 8192

_B64TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)  # RFC 6750 section 2.1
# No characters that control a terminal, end a line, turn the direction of writing, or cannot be
# seen, and no blanks around: names are in logs, and users judge each other by them.
_NAME = re.compile(
    r"(?!\s)[^\x00-\x1f\x7f-\x9f\xad\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ud800-\udfff\U000e0000-\U000e007f]{1,256}(?<!\s)"
)
#: The year 10000, in Unix seconds: some write milliseconds, which are no time that can be shown.
_NEVER = 253_402_300_800
_PART = re.compile(r'"([^"]+)"|([^."]+)')
_MOST_GROUPS = 1000

#: The claims that tell what a token is for (Keycloak and others put it into the payload).
_KINDS = ("typ", "token_use", "token_type")

#: Their values, in lower case, of what is signed with the same key and is no access token.
_OTHER_KINDS = frozenset({"id", "refresh", "offline", "logout", "serialized-id"})


class Rules(msgspec.Struct, frozen=True):
    """How claims become an identity.

    ``subject`` and ``groups``: paths as `path_of` makes them. ``audiences``: one of them
    must be in ``aud``; ``clients``: one of them must be the ``azp`` (or ``client_id``)
    that the token was made for; each is checked when it is not empty. ``leeway``: seconds
    that clocks may differ. ``name``: the authenticator's.
    """

    subject: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    audiences: frozenset[str]
    clients: frozenset[str]
    leeway: float
    name: str

    def check_token(self, claims: Claims, now: float) -> None:
        """Refuse what is not (any more, or yet) an access token for us."""
        self.check_time(claims, now)
        self.check_kind(claims)
        if self.audiences and not self.audiences & _words(claims.get("aud")):
            raise Unauthenticated("The token is not for this audience.")
        if self.clients and not (_words(claims.get("azp", claims.get("client_id"))) & self.clients):
            raise Unauthenticated("The token was made for a client that is not allowed here.")

    def check_kind(self, claims: Claims) -> None:
        """Refuse what an issuer signs for other purposes than to be shown as a bearer token."""
        if any(str(claims.get(key, "")).lower() in _OTHER_KINDS for key in _KINDS):
            raise Unauthenticated("This is not an access token.")
        if claims.get("cnf") is not None:
            # RFC 9449 and RFC 8705: its holder would have to prove more than that it has it.
            raise Unauthenticated("The token is bound to a key, and is no bearer token.")

    def check_time(self, claims: Claims, now: float) -> None:
        """Refuse what has expired, or holds only later."""
        expires, begins = _moment(claims, "exp"), _moment(claims, "nbf")
        if expires is not None and now >= expires + self.leeway:
            raise Unauthenticated("The token has expired.")
        if begins is not None and now < begins - self.leeway:
            raise Unauthenticated("The token is not valid yet.")

    def identity(
        self, claims: Claims, expires_at: float | None, issued_at: float | None = None
    ) -> Identity:
        """Return whom ``claims`` are of."""
        subject = claim(claims, self.subject)
        if not isinstance(subject, str) or not _NAME.fullmatch(subject):
            raise Unauthenticated(f"The token has no {'.'.join(self.subject)} that can be used.")
        if self.subject[-1] == "email" and claims.get("email_verified") in (False, "false"):
            # Anybody may have typed it: it would open the jobs of whom it belongs to.
            raise Unauthenticated("The token's email address is not verified.")
        return Identity(subject, self._groups_of(claims), expires_at, self.name, issued_at)

    def _groups_of(self, claims: Claims) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for path in self.groups:
            value = claim(claims, path)
            for word in [value] if isinstance(value, str) else _items(value):
                if isinstance(word, str) and _NAME.fullmatch(word):
                    found[word] = None
        return tuple(found)[:_MOST_GROUPS]


def expiry_of(claims: Claims) -> float | None:
    """Return ``exp``, in Unix seconds."""
    return _moment(claims, "exp")


def issue_of(claims: Claims) -> float | None:
    """Return ``iat``, in Unix seconds."""
    return _moment(claims, "iat")


def path_of(text: str) -> tuple[str, ...]:
    """Return the parts of a dotted path; a part with dots in it stands in quotes.

    ``resource_access."vis.example.org".roles`` has three. Raises `ValueError`.
    """
    parts: list[str] = []
    at = 0
    while True:
        match = _PART.match(text, at)
        if match is None:
            raise ValueError('write claims as name, a.b.c or a."b.with.dots".c')
        parts.append(match[1] or match[2])
        at = match.end()
        if at == len(text):
            return tuple(parts)
        if text[at] != ".":
            raise ValueError('write claims as name, a.b.c or a."b.with.dots".c')
        at += 1


def claim(claims: Claims, path: Sequence[str]) -> object:
    """Return the value at ``path``; None when it is not there."""
    value: object = claims
    for part in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(part)
    return value


def plausible(token: str) -> bool:
    """Return whether it is worth asking anybody about ``token``."""
    return len(token) <= LONGEST and _B64TOKEN.fullmatch(token) is not None


def peek(token: str) -> Claims | None:
    """Return what a JSON Web Token claims, **unverified**; None when it is none."""
    parts = token.split(".")
    return segment(parts[1]) if len(parts) == 3 and segment(parts[0]) is not None else None


def segment(text: str) -> dict[str, Any] | None:
    """Return the JSON object in a base64url segment; None when there is none."""
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return json_object(octets)


def json_object(octets: bytes) -> dict[str, Any] | None:
    """Return the JSON object that ``octets`` are; None when they are none."""
    try:
        value = msgspec.json.decode(octets)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _moment(claims: Claims, name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            moment = float(value)
            if abs(moment) < _NEVER:
                return moment
    except OverflowError:
        pass
    raise Unauthenticated(f"The token's {name} is not a time.")


def _words(value: object) -> frozenset[str]:
    items = [value] if isinstance(value, str) else _items(value)
    return frozenset(item for item in items if isinstance(item, str))


def _items(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else ()
