"""An error as the octets of an HTTP answer (RFC 9457), for connections that end with it.

Nothing of the request is reflected, and nothing tells which software answers.
"""

from __future__ import annotations

import re
from http import HTTPStatus

import msgspec

from vsmgate.errors import GatewayError, MethodNotAllowed, Unauthenticated, UpgradeRequired
from vsmgate.heads import ResponseHead

__all__ = ["render_health", "render_refusal"]

_UNFIT = re.compile(r"[^ -~]+")


class _Problem(msgspec.Struct, frozen=True):
    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str


def render_refusal(error: GatewayError, request_id: str) -> bytes:
    """Return the whole answer: head and ``application/problem+json`` body.

    The reason phrase is the error's title: some clients show nothing else.
    """
    body = msgspec.json.encode(
        _Problem(
            type="about:blank",
            title=error.title,
            status=error.status,
            detail=error.detail,
            code=error.code,
            request_id=request_id,
        )
    )
    headers = [
        ("Content-Type", "application/problem+json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Request-Id", request_id),
        *_extra(error),
    ]
    reason = _UNFIT.sub(" ", error.title).strip() or HTTPStatus(error.status).phrase
    head = ResponseHead(status=error.status, reason=reason, headers=tuple(headers))
    return head.render() + body


def render_health() -> bytes:
    """Return the whole answer of a listener that is there."""
    body = b'{"status":"ok"}'
    headers = (
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
        ("Cache-Control", "no-store"),
    )
    return ResponseHead(status=200, reason="OK", headers=headers).render() + body


def _extra(error: GatewayError) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    if error.retry_after is not None:
        headers.append(("Retry-After", str(error.retry_after)))
    if isinstance(error, Unauthenticated):
        headers.append(("WWW-Authenticate", 'Bearer error="invalid_token"'))
    elif isinstance(error, MethodNotAllowed):
        headers.append(("Allow", ", ".join(error.allowed)))
    elif isinstance(error, UpgradeRequired):
        headers += [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    return headers
