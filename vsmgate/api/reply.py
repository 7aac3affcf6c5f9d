"""An answer as a value, and its octets.

Pure. The head is written here, in one go, and not by `twisted.web.http.Request`: it is
most of the work of a status call, and so nothing of twisted.web's own (``Server``,
HTML) can get into it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["Header", "Reply", "head", "json_reply", "octets", "phrase"]

Header = tuple[bytes, bytes]

JSON = b"application/json"

_PHRASES = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
_PHRASE_LENGTH = 100
_FIXED = (
    b"\r\nCache-Control: no-store"
    b"\r\nX-Content-Type-Options: nosniff"
    b"\r\nReferrer-Policy: no-referrer"
)
_encoder = msgspec.json.Encoder()


class Reply(Struct, frozen=True):
    """Status, body, and the headers that are this answer's own."""

    status: int
    body: bytes = b""
    content_type: bytes = JSON
    headers: tuple[Header, ...] = ()
    phrase: bytes | None = None


def json_reply(status: int, value: Any, headers: tuple[Header, ...] = ()) -> Reply:
    """Return ``value`` as a JSON reply."""
    return Reply(status, _encoder.encode(value), JSON, headers)


def phrase(sentence: str) -> bytes:
    """Return a reason phrase (RFC 9112 section 4) that says ``sentence``.

    One client of the seed shows its user nothing else. Printable ASCII, and at most 100
    octets, cut after its first sentence or between words.
    """
    text = re.sub(r"[^\x20-\x7e]+", lambda m: " " if m.group().isspace() else "?", sentence)
    text = " ".join(text.split())
    if len(text) > _PHRASE_LENGTH:
        text = re.split(r"(?<=[.!?;:]) ", text, maxsplit=1)[0]
    if len(text) > _PHRASE_LENGTH:
        text = text[: _PHRASE_LENGTH - 4].rsplit(" ", 1)[0] + " ..."
    return text.encode("ascii")


def octets(
    reply: Reply, shared: Sequence[Header], *, date: bytes, close: bool, bodyless: bool
) -> bytes:
    """Return ``reply`` as it goes over the wire.

    ``shared``: headers that do not depend on the answer. ``bodyless``: it answers HEAD,
    so the length is told and the body is not sent.
    """
    parts = head(reply, shared, date=date, close=close)
    if reply.status == 204:
        parts.append(b"\r\n\r\n")
        return b"".join(parts)
    parts += (
        b"\r\nContent-Type: ",
        reply.content_type,
        b"\r\nContent-Length: %d\r\n\r\n" % len(reply.body),
    )
    if not bodyless:
        parts.append(reply.body)
    return b"".join(parts)


def head(reply: Reply, shared: Sequence[Header], *, date: bytes, close: bool) -> list[bytes]:
    """Return the parts of a head, up to what tells of the body."""
    status = reply.status
    parts = [
        b"HTTP/1.1 %d " % status,
        reply.phrase or _PHRASES.get(status, b"Unknown"),
        b"\r\nDate: ",
        date,
        _FIXED,
    ]
    for name, value in shared:
        parts += (b"\r\n", name, b": ", value)
    for name, value in reply.headers:
        parts += (b"\r\n", name, b": ", value)
    if close:
        parts.append(b"\r\nConnection: close")
    return parts
