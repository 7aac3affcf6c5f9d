"""Errors as RFC 9457 documents: the one place where they become HTTP."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from vsmgate.api.reply import Header, Reply, phrase
from vsmgate.api.views import ReasonView, reason_view
from vsmgate.errors import EngineRefused, GatewayError, MethodNotAllowed, Problem, Unauthenticated
from vsmgate.lifecycle import State
from vsmgate.model import Reason

__all__ = ["CONTENT_TYPE", "ProblemDetails", "problem_reply"]

CONTENT_TYPE = b"application/problem+json"

#: Seconds, where an error that asks for another try does not say when.
_RETRY_AFTER = 5


class ProblemDetails(Struct, frozen=True, omit_defaults=True):
    """An error: ``code`` is stable and for programs, ``detail`` says what to do.

    ``errors`` has a JSON pointer and a remedy for each wrong value. ``state`` and
    ``reason`` tell how a job ended.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: tuple[Problem, ...] = ()
    state: State | None = None
    reason: ReasonView | None = None


def problem_reply(
    error: GatewayError,
    request_id: str,
    *,
    status: int | None = None,
    state: State | None = None,
    reason: Reason | None = None,
) -> Reply:
    """Return what ``error`` looks like to a client; ``status`` replaces the error's own.

    ``instance`` names the request and not its address, so that the answers for an
    unknown job and for a foreign one are the same octets.
    """
    status = status or error.status
    details = ProblemDetails(
        type=f"urn:vsmgate:error:{error.code}",
        title=error.title,
        status=status,
        detail=error.detail,
        instance=f"urn:vsmgate:request:{request_id}",
        code=error.code,
        request_id=request_id,
        errors=tuple(error.problems),
        state=state,
        reason=reason_view(reason),
    )
    return Reply(
        status,
        msgspec.json.encode(details),
        CONTENT_TYPE,
        _headers(error, status),
        phrase(error.detail),
    )


def _headers(error: GatewayError, status: int) -> tuple[Header, ...]:
    """Return the headers that belong to a status (RFC 9110 sections 10.2.3, 10.2.1, 11.6.1)."""
    headers: list[Header] = []
    asks_again = status in (429, 503) and not isinstance(error, EngineRefused)
    if asks_again or error.retry_after is not None:
        seconds = _RETRY_AFTER if error.retry_after is None else error.retry_after
        headers.append((b"Retry-After", b"%d" % max(0, seconds)))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"Allow", ", ".join(error.allowed).encode("ascii")))
    if isinstance(error, Unauthenticated):
        headers.append((b"WWW-Authenticate", b'Bearer realm="vsmgate"'))
    return tuple(headers)
