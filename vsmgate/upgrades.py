"""What a request asks for in terms of WebSocket (RFC 6455 section 4.2.1). Pure."""

from __future__ import annotations

import base64
import binascii
import re

from msgspec import Struct

from vsmgate.errors import BadRequest, MethodNotAllowed, UpgradeRequired
from vsmgate.heads import RequestHead

__all__ = ["DEFLATE", "Upgrade", "deflate_only", "upgrade_of"]

DEFLATE = "permessage-deflate"

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PROTOCOL = re.compile(_TOKEN)

# RFC 6455 section 9.1; a quoted value must be a token once it is unquoted.
_PARAMETER = rf"[\t ]*;[\t ]*{_TOKEN}(?:[\t ]*=[\t ]*(?:{_TOKEN}|\"{_TOKEN}\"))?"
_EXTENSION = re.compile(rf"[\t ]*(({_TOKEN})(?:{_PARAMETER})*)[\t ]*")


class Upgrade(Struct, frozen=True):
    """An opening handshake as a client asks for it.

    ``protocols``: the offered subprotocols, in order. ``extensions``: the offers of
    permessage-deflate, verbatim, or empty.
    """

    key: str
    protocols: tuple[str, ...]
    extensions: str


def upgrade_of(head: RequestHead) -> Upgrade | None:
    """Return what ``head`` asks for; None is a plain request, with nothing of WebSocket in it.

    Fails with `MethodNotAllowed`, `BadRequest`, or `UpgradeRequired` for half an upgrade,
    an upgrade to something else, or a version other than 13.
    """
    origin = head.one("Origin")
    if origin is not None and not origin:
        raise BadRequest("The Origin header is empty.")
    asked = head.has("Connection", "upgrade")
    mentioned = any(name.startswith("sec-websocket-") for name in head.by_name)
    if not (asked or mentioned or head.all("Upgrade")):
        return None
    if head.method != "GET":
        raise MethodNotAllowed(["GET"])
    # A body on an upgrade is the classic way to smuggle a second request past a proxy.
    if head.all("Transfer-Encoding") or head.one("Content-Length") not in (None, "0"):
        raise BadRequest("A WebSocket handshake has no body.")
    if asked and head.has("Upgrade", "websocket"):
        return _upgrade(head)
    raise UpgradeRequired(
        "Send Connection: Upgrade, Upgrade: websocket and Sec-WebSocket-Version: 13."
    )


def deflate_only(values: tuple[str, ...]) -> str | None:
    """Return the permessage-deflate members of ``Sec-WebSocket-Extensions`` headers.

    The text stays as it is, also between the members where nothing else has to go.
    None where the grammar is broken.
    """
    kept: list[str] = []
    dropped = False
    for value in values:
        for member in value.split(","):
            if not member.strip("\t "):
                continue  # empty list members are legal (RFC 9110 section 5.6.1)
            match = _EXTENSION.fullmatch(member)
            if match is None:
                return None
            if match.group(2).lower() == DEFLATE:
                kept.append(match.group(1))
            else:
                dropped = True
    if len(values) == 1 and kept and not dropped:
        return values[0]
    return ", ".join(kept)


def _upgrade(head: RequestHead) -> Upgrade:
    if head.one("Sec-WebSocket-Version") != "13":
        raise UpgradeRequired("Only version 13 of WebSocket is spoken here (RFC 6455).")
    key = head.one("Sec-WebSocket-Key") or ""
    if not _is_key(key):
        raise BadRequest("The Sec-WebSocket-Key header must be 16 octets in base64.")
    protocols = head.tokens("Sec-WebSocket-Protocol")
    if len(set(protocols)) != len(protocols):
        raise BadRequest("The offered subprotocols must differ from each other.")
    if not all(_PROTOCOL.fullmatch(name) for name in protocols):
        raise BadRequest("A subprotocol must be a token.")
    extensions = deflate_only(head.all("Sec-WebSocket-Extensions"))
    if extensions is None:
        raise BadRequest("The Sec-WebSocket-Extensions header is malformed.")
    return Upgrade(key, protocols, extensions)


def _is_key(key: str) -> bool:
    try:
        return len(key) == 24 and len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
