from __future__ import annotations

import json

import pytest

from vsmgate.errors import (
    GatewayError,
    JobNotReady,
    MethodNotAllowed,
    NoSuchJob,
    Unauthenticated,
    UpgradeRequired,
)
from vsmgate.heads import response_reader
from vsmgate.refusals import render_refusal


def read(error: GatewayError) -> tuple[int, dict[str, str], dict[str, object]]:
    reader = response_reader()
    head = reader.feed(render_refusal(error, "r1"))
    assert head is not None
    assert head.one("Content-Length") == str(len(reader.rest))
    return head.status, dict(head.headers), json.loads(reader.rest)


def test_body_and_headers() -> None:
    status, headers, body = read(JobNotReady("It waits in the queue.", retry_after=7))
    assert status == 503
    assert body == {
        "type": "about:blank",
        "title": "The job is not ready yet",
        "status": 503,
        "detail": "It waits in the queue.",
        "code": "job_not_ready",
        "request_id": "r1",
    }
    assert headers == {
        "Content-Type": "application/problem+json",
        "Content-Length": headers["Content-Length"],
        "Connection": "close",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Request-Id": "r1",
        "Retry-After": "7",
    }


@pytest.mark.parametrize(
    ("error", "name", "value"),
    [
        (Unauthenticated(), "WWW-Authenticate", 'Bearer error="invalid_token"'),
        (MethodNotAllowed(["GET"]), "Allow", "GET"),
        (UpgradeRequired(), "Upgrade", "websocket"),
        (UpgradeRequired(), "Sec-WebSocket-Version", "13"),
    ],
)
def test_headers_of_a_status(error: GatewayError, name: str, value: str) -> None:
    assert read(error)[1][name] == value


def test_reason_phrase_is_the_title() -> None:
    assert render_refusal(NoSuchJob(), "r").startswith(b"HTTP/1.1 404 No such job\r\n")


@pytest.mark.criterion("S-24")
def test_no_error_can_split_the_answer() -> None:
    class Odd(GatewayError):
        title = "a\r\nSet-Cookie: b\u2028c"

    octets = render_refusal(Odd('"\r\n\r\n<script>'), "r")
    assert octets.startswith(b"HTTP/1.1 500 a Set-Cookie: b c\r\n")
    assert octets.count(b"\r\n\r\n") == 1
