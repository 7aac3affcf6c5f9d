"""Where a client of the relay may show who it is, and how that is taken out again.

In this order: ``Authorization: Bearer``, the subprotocol
``base64url.bearer.authorization.vsmgate.<base64url(token)>`` (browsers can set no
headers; the form is Kubernetes'), the query parameters ``ticket`` and ``token``, and the
cookie that a service's page was given for one of them (`vsmgate.sessions`). All of them
are stripped before the service is dialled, whichever of them counts. Pure.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from msgspec import Struct

from vsmgate.errors import BadRequest, Unauthenticated
from vsmgate.heads import RequestHead
from vsmgate.model import Secret

codecs.lookup("unicode_escape")  # now: later there may be no descriptor free to load it with

__all__ = [
    "BEARER_PREFIX",
    "OWN_PROTOCOL",
    "SESSION_COOKIE",
    "Claim",
    "Credential",
    "claim_of",
    "redact",
]

BEARER_PREFIX = "base64url.bearer.authorization.vsmgate."

#: The gateway's own subprotocol, for browsers that offer a bearer subprotocol: they
#: insist on an answer, and the service may select none.
OWN_PROTOCOL = "vsmgate.v1"

#: The cookie that holds a session. Browsers send it with everything below one service's path.
SESSION_COOKIE = "vsmgate_session"

_PARAMETERS = ("ticket", "token")

# RFC 6750 section 2.1, credentials = "Bearer" 1*SP b64token; the scheme in any case.
_BEARER = re.compile(r"(?i:bearer) +([A-Za-z0-9._~+/-]+=*)", re.ASCII)


@dataclass(frozen=True)
class Credential:
    """What a client showed."""

    kind: Literal["bearer", "ticket", "session"]
    secret: Secret


class Claim(Struct, frozen=True):
    """A request's credential, and what is left of the request without any.

    ``query``: without credential parameters, otherwise octet-equal. ``protocols``: the
    offered subprotocols that go to the service; ``protocols_text``: the same as a header
    value, verbatim where nothing had to be removed. ``own_protocol``: the client
    offered `OWN_PROTOCOL`. ``cookies``: the cookies that are not ours, as a header value.
    """

    credential: Credential | None
    query: str
    protocols: tuple[str, ...]
    protocols_text: str
    own_protocol: bool
    cookies: str = ""


def claim_of(head: RequestHead, protocols: Sequence[str] = ()) -> Claim:
    """Return the claim of ``head``, which offers the subprotocols ``protocols``.

    Fails with `BadRequest` for a credential that is given twice in one place, and with
    `Unauthenticated` for one that cannot be read.
    """
    query, shown = _split_query(head.query)
    kept, bearer = _split_protocols(protocols)
    header = _authorization(head)
    cookies, session = _split_cookies(head.all("Cookie"))
    ticket, token = shown["ticket"], shown["token"]
    credential: Credential | None = None
    if header:
        credential = Credential("bearer", Secret(header))
    elif bearer:
        credential = Credential("bearer", Secret(bearer))
    elif ticket:
        credential = Credential("ticket", Secret(ticket))
    elif token:
        credential = Credential("bearer", Secret(token))
    elif session:
        credential = Credential("session", Secret(session))
    return Claim(
        credential=credential,
        query=query,
        protocols=kept,
        protocols_text=(
            ", ".join(kept)
            if len(kept) != len(protocols)
            else ", ".join(head.all("Sec-WebSocket-Protocol"))
        ),
        own_protocol=OWN_PROTOCOL in protocols,
        cookies=cookies,
    )


def redact(target: str) -> str:
    """Return ``target`` (a path with or without a query) fit for a log.

    Values of credential parameters become ``...``; what is not printable ASCII is
    escaped; 200 characters at most.
    """
    path, mark, query = target.partition("?")
    pairs = []
    for pair in query.split("&"):
        name, equals, _ = pair.partition("=")
        pairs.append(f"{name}{equals}..." if unquote(name) in _PARAMETERS else pair)
    shown = f"{path}{mark}{'&'.join(pairs)}".encode("unicode_escape").decode("ascii")
    return shown if len(shown) <= 200 else f"{shown[:197]}..."


def _split_query(query: str) -> tuple[str, dict[str, str]]:
    # The name is decoded before it is compared: "%74oken" is no way past the stripping.
    # "+" is no space here: a token in plain base64 may hold it unescaped.
    kept: list[str] = []
    shown = dict.fromkeys(_PARAMETERS, "")
    seen: set[str] = set()
    for pair in query.split("&"):
        raw, _, value = pair.partition("=")
        name = unquote(raw)
        if name not in shown:
            kept.append(pair)
        elif name in seen:
            raise BadRequest(f"The query has more than one {name} parameter.")
        else:
            seen.add(name)
            shown[name] = unquote(value)
    return "&".join(kept), shown


def _split_protocols(protocols: Sequence[str]) -> tuple[tuple[str, ...], str]:
    bearers = [name for name in protocols if name.startswith(BEARER_PREFIX)]
    if len(bearers) > 1:
        raise BadRequest("More than one bearer subprotocol is offered.")
    kept = tuple(name for name in protocols if name not in bearers and name != OWN_PROTOCOL)
    return kept, _decoded(bearers[0][len(BEARER_PREFIX) :]) if bearers else ""


def _split_cookies(values: Sequence[str]) -> tuple[str, str]:
    """Return the cookies that are not ours, and our session's value.

    Of several sessions the first counts: it has the longest path (RFC 6265 section 5.4).
    """
    kept: list[str] = []
    session = ""
    for pair in ";".join(values).split(";"):
        name, _, value = pair.strip("\t ").partition("=")
        if name == SESSION_COOKIE:
            session = session or value
        elif name or value:
            kept.append(pair.strip("\t "))
    return "; ".join(kept), session


def _decoded(text: str) -> str:
    try:
        padded = text + "=" * (-len(text) % 4)
        token = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        token = ""
    if not token:
        # "from None": the exception's context would hold the text.
        raise Unauthenticated("The bearer subprotocol does not hold base64url.") from None
    return token


def _authorization(head: RequestHead) -> str:
    value = head.one("Authorization")
    if value is None:
        return ""
    match = _BEARER.fullmatch(value)
    if match is None:
        raise Unauthenticated("The Authorization header must be: Bearer TOKEN.")
    return match.group(1)
