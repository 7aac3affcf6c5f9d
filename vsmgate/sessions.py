"""What a browser holds after a service's page was opened with a token or a ticket. Pure.

A session stands for an identity, at one service of one job, for a while. It is signed
with a key of the gateway's and says nothing that its holder may not know, so nothing of it is
stored here; the token itself is never given to a browser to keep.
"""

from __future__ import annotations

import base64
import binascii
import hmac

import msgspec
from msgspec import Struct

from vsmgate.errors import Unauthenticated
from vsmgate.model import Identity, Secret

__all__ = ["KEY_SIZE", "Session", "Sessions"]

KEY_SIZE = 32  #: octets

_SIGNATURE = 32  # octets of SHA-256


class Session(Struct, frozen=True):
    """A session's ``value``, good for ``seconds``."""

    value: Secret
    seconds: int


class _Claims(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    job_id: str
    service: str
    until: float
    identity: Identity


class Sessions:
    """Makes sessions and reads them again; gateways with the same ``key`` read each other's.

    ``lifetime``: seconds that a session is good for at most.
    """

    def __init__(self, key: bytes, lifetime: float) -> None:
        self._key = key
        self._lifetime = lifetime

    def make(self, job_id: str, service: str, identity: Identity, now: float) -> Session:
        """Return a session, which ends with ``identity`` at the latest."""
        until = now + self._lifetime
        if identity.expires_at is not None:
            until = min(until, identity.expires_at)
        claims = msgspec.json.encode(_Claims(job_id, service, until, identity))
        value = base64.urlsafe_b64encode(self._sign(claims) + claims).decode().rstrip("=")
        return Session(Secret(value), max(0, int(until - now)))

    def read(self, value: Secret, job_id: str, service: str, now: float) -> Identity:
        """Return whom a session stands for; fails with `Unauthenticated`."""
        text = value.reveal()
        try:
            octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            octets = b""
        signature, claims = octets[:_SIGNATURE], octets[_SIGNATURE:]
        if hmac.compare_digest(signature, self._sign(claims)):
            found = msgspec.json.decode(claims, type=_Claims)
            if (found.job_id, found.service) == (job_id, service) and now < found.until:
                return found.identity
        raise Unauthenticated("The page's session is over; open the page with a token again.")

    def _sign(self, claims: bytes) -> bytes:
        return hmac.digest(self._key, b"vsmgate session 1\0" + claims, "sha256")
