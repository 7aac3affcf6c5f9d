"""The heads of a plain request and its answer, as they cross between a client and a service.

What is for one hop only stays there (RFC 9110 section 7.6.1); what the gateway says of
itself and of the client cannot come from the client; and what a service says reaches no
further than its own path, as all services share the gateway's origin. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vsmgate.credentials import SESSION_COOKIE
from vsmgate.heads import Pairs, RequestHead, ResponseHead
from vsmgate.sessions import Session

__all__ = ["answer_head", "navigates", "redirect_head", "request_head", "session_cookie"]

_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-connection", "proxy-authenticate",
        "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
        "http2-settings", "content-length",
    }
)  # fmt: skip

# Credentials, what the gateway writes itself, and the page's address, whose query may hold a
# credential. Origin would not fit to the Host that the service sees.
_OURS = frozenset({"host", "authorization", "cookie", "origin", "referer", "forwarded"})
_MARK = re.compile(r"[^a-z0-9]")
_OUR_PREFIXES = ("x-forwarded-", "x-vsmgate-", "x-real-ip", "x-request-id")

# They would hold for the whole origin, not only for the service's path.
_TOO_FAR = frozenset(
    {
        "accept-ch", "alt-svc", "clear-site-data", "public-key-pins", "server",
        "service-worker-allowed", "set-cookie2", "strict-transport-security",
        # Network Error Logging: every address of the origin, with its query, sent to anybody.
        "nel", "report-to", "reporting-endpoints",
    }
)  # fmt: skip


def request_head(
    head: RequestHead, *, target: str, host: str, cookies: str, added: Mapping[str, str]
) -> RequestHead:
    """Return the request for the service.

    ``added`` replaces what the client sent by these names. The body's framing is as it was.
    """
    named = {_MARK.sub("-", token.lower()) for token in head.tokens("Connection")}
    own = {name.lower() for name in added}
    kept = []
    for name, value in head.headers:
        # Many programs cannot tell "_" from "-" in a name, some not ".": X_Vsmgate_User must
        # not cross either.
        plain = _MARK.sub("-", name.lower())
        if plain in _HOP | _OURS | own | named or plain.startswith(_OUR_PREFIXES):
            continue
        kept.append((name, value))
    if cookies:
        kept.append(("Cookie", cookies))
    headers = (("Host", host), *kept, *added.items(), *_framing(head))
    return RequestHead(method=head.method, target=target, headers=(*headers, _CLOSE))


def answer_head(
    head: ResponseHead, *, host: str, public: str, strip: bool, cookie: str = ""
) -> ResponseHead:
    """Return the answer for the client.

    ``host``: as in the request. ``public``: the path of the service as browsers see it;
    with ``strip`` the service does not know of it. ``cookie``: a session to set.
    """
    named = {token.lower() for token in head.tokens("Connection")}
    headers = []
    for name, value in head.headers:
        plain = name.lower()
        if plain in _HOP | _TOO_FAR | named or (cookie and plain == "cache-control"):
            continue
        if plain in ("location", "content-location"):
            value = _location(value, host, public, strip)
        elif plain == "set-cookie":
            value = _cookie(value, public, strip)
        if value or plain != "set-cookie":
            headers.append((name, value))
    if cookie:
        headers += [("Set-Cookie", cookie), ("Cache-Control", "no-store")]
    return ResponseHead(
        status=head.status, reason=head.reason, headers=(*headers, *_framing(head), _CLOSE)
    )


def redirect_head(location: str, cookie: str) -> ResponseHead:
    """Return an answer that sends a browser to ``location``."""
    headers = [
        ("Location", location),
        ("Content-Length", "0"),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        _CLOSE,
    ]
    if cookie:
        headers.insert(1, ("Set-Cookie", cookie))
    return ResponseHead(status=302, reason="Found", headers=tuple(headers))


def session_cookie(session: Session, public: str, tls: bool) -> str:
    """Return the ``Set-Cookie`` value that gives a browser ``session``.

    SameSite=Lax: with Strict a page that is opened by a link from another site would come
    without it. ``tls``: browsers reach the gateway by https.
    """
    attributes = f"Path={public}; Max-Age={session.seconds}; HttpOnly; SameSite=Lax"
    secure = "; Secure" if tls else ""
    return f"{SESSION_COOKIE}={session.value.reveal()}; {attributes}{secure}"


def navigates(head: RequestHead) -> bool:
    """Tell whether a browser asks for a page to show."""
    return head.method == "GET" and any(
        kind.partition(";")[0].strip() == "text/html" for kind in head.tokens("Accept")
    )


_CLOSE = ("Connection", "close")


def _framing(head: RequestHead | ResponseHead) -> Pairs:
    """Return the framing headers, which were checked, and which ``Connection`` cannot name away."""
    if head.all("Transfer-Encoding"):
        return (("Transfer-Encoding", "chunked"),)
    return tuple(("Content-Length", value) for value in head.all("Content-Length"))


def _below(path: str, public: str) -> bool:
    return path == public or path.startswith((f"{public}/", f"{public}?"))


def _location(value: str, host: str, public: str, strip: bool) -> str:
    """Return an address of the service as browsers reach it; others stay as they are."""
    for own in (f"http://{host}", f"https://{host}", f"//{host}"):
        rest = value.removeprefix(own)
        if rest != value and rest[:1] in ("", "/", "?"):
            value = rest if rest.startswith("/") else f"/{rest}"
            break
    if strip and value.startswith("/") and not value.startswith("//") and not _below(value, public):
        return public + value
    return value


def _cookie(value: str, public: str, strip: bool) -> str:
    """Return a service's cookie, kept to its own path; empty for one with our name."""
    pair, *attributes = (part.strip() for part in value.split(";"))
    # A cookie without a name is sent back as its value alone, which may begin with ours.
    if pair.lstrip("= \t").partition("=")[0].strip() == SESSION_COOKIE:
        return ""
    path = public
    kept = [pair]
    for attribute in attributes:
        name, _, said = attribute.partition("=")
        match name.strip().lower():
            case "domain":
                pass
            case "path":
                said = said.strip()
                if _below(said, public):
                    path = said
                elif strip and said.startswith("/") and said != "/":
                    path = public + said
            case _:
                kept.append(attribute)
    return "; ".join([*kept, f"Path={path}"])
