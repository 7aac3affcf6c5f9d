"""Which pages of other origins may read our answers (the Fetch standard, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

from vsmgate.api.reply import Header

__all__ = ["Cors"]

_VARY: Header = (b"Vary", b"Origin")
_EXPOSED = b"Location, Retry-After, X-Request-Id, Idempotency-Replayed, ETag"


class Cors:
    """The allowed origins, exact; ``*`` is never said, since credentials are allowed."""

    def __init__(self, allowed_origins: Iterable[str]) -> None:
        self._shared: dict[bytes, tuple[Header, ...]] = {}
        for origin in allowed_origins:
            value = origin.encode("ascii")
            self._shared[value] = (
                _VARY,
                (b"Access-Control-Allow-Origin", value),
                (b"Access-Control-Allow-Credentials", b"true"),
                (b"Access-Control-Expose-Headers", _EXPOSED),
            )
        self._others: tuple[Header, ...] = (_VARY,)

    def headers(self, origin: bytes | None) -> tuple[Header, ...]:
        """Return the headers of any answer to a page of ``origin``."""
        if origin is None:
            return self._others
        return self._shared.get(origin, self._others)

    def preflight(self, origin: bytes | None) -> tuple[Header, ...]:
        """Return what a preflight's answer has more; nothing for an origin not allowed."""
        if origin not in self._shared:
            return ()
        return (
            (b"Access-Control-Allow-Methods", b"GET, HEAD, POST, DELETE"),
            (
                b"Access-Control-Allow-Headers",
                b"Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, "
                b"X-Request-Id",
            ),
            (b"Access-Control-Max-Age", b"600"),
        )
