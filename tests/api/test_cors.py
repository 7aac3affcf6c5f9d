"""Pages of other origins: exact origins only, on every answer, never a star."""

from __future__ import annotations

from typing import Any

import pytest

ORIGIN = "https://vis.example.org"


@pytest.mark.parametrize(
    ("method", "target", "token"),
    [
        ("GET", "/healthz", None),
        ("GET", "/v1/me", "ann-token"),
        ("GET", "/v1/me", None),
        ("GET", "/nothing", None),
        ("GET", "/start", None),
        ("POST", "/start", "ann-token"),
    ],
)
def test_an_allowed_origin_is_echoed(
    face: Any, method: str, target: str, token: str | None
) -> None:
    headers = face.ask(method, target, token=token, Origin=ORIGIN).headers
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert headers["Access-Control-Allow-Credentials"] == "true"
    assert "X-Request-Id" in headers["Access-Control-Expose-Headers"]
    assert headers["Vary"] == "Origin"


@pytest.mark.criterion("S-25")
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "*",
        "",
        ORIGIN + ".evil.example",
        ORIGIN + ":444",
        "http://vis.example.org",
    ],
)
def test_other_origins_are_not(face: Any, origin: str) -> None:
    for answer in (
        face.ask("GET", "/v1/me", Origin=origin),
        face.ask("OPTIONS", "/start", Origin=origin, Access_Control_Request_Method="POST"),
    ):
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert answer.headers["Vary"] == "Origin"


@pytest.mark.parametrize("target", ["/start", "/status/x", "/v1/jobs", "/nothing"])
def test_preflight(face: Any, target: str) -> None:
    answer = face.ask(
        "OPTIONS", target, token=None, Origin=ORIGIN, Access_Control_Request_Method="DELETE"
    )
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    methods = answer.headers["Access-Control-Allow-Methods"].split(", ")
    assert {"GET", "POST", "DELETE"} <= set(methods)
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id"} <= set(allowed)


def test_plain_options(face: Any) -> None:
    answer = face.ask("OPTIONS", "/v1/jobs", token=None)
    assert (answer.status, answer.headers["Allow"]) == (204, "GET, HEAD, POST")
    assert face.ask("OPTIONS", "/nothing", token=None).status == 404


@pytest.mark.criterion("S-25")
def test_a_form_of_another_page_can_do_nothing(face: Any) -> None:
    form = "application/x-www-form-urlencoded"
    body = b"usecase=demo"
    answer = face.ask(
        "POST", "/start", body, token=None, media_type=form, Origin="https://evil.example",
        Cookie="token=ann-token",
    )  # fmt: skip
    assert answer.status == 401
    assert not face.desk.jobs
