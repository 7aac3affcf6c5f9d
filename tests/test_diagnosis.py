"""The pure part of the doctor: judging answers, and what is said of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.diagnosis import (
    FINDINGS,
    Finding,
    Outcome,
    answer_finding,
    failure,
    passed,
    reason,
    sentence,
    shown,
    steps_of,
    table,
    whole,
)
from vsmgate.model import Health, Service, ServiceTls
from vsmgate.reasons import REASONS


@pytest.mark.parametrize(
    ("asked", "head", "secret", "code"),
    [
        ("http", b"HTTP/1.1 200 OK\r\n", False, None),
        ("http", b"HTTP/1.0 204\r\n", False, None),
        ("http", b"HTTP/1.1 101 Yes\r\n", False, "http_status"),
        ("websocket", b"HTTP/1.1 101 Switching Protocols\r\n", True, None),
        ("websocket", b"HTTP/1.1 200 OK\r\n", False, "not_websocket"),
        ("http", b"HTTP/1.1 401 Unauthorized\r\n", False, "http_status"),
        ("http", b"HTTP/1.1 401 Unauthorized\r\n", True, "wrong_secret"),
        ("websocket", b"HTTP/1.1 403 Forbidden\r\n", True, "wrong_secret"),
        ("http", b"HTTP/1.1 500 Oh\r\n", True, "http_status"),
        ("http", b"HTTP/2 200\r\n", False, "not_http"),
        ("http", b"", False, "not_http"),
        ("http", b"\x16\x03\x03\x00\x10", False, "speaks_tls"),
    ],
)
def test_answers(asked: str, head: bytes, secret: bool, code: str | None) -> None:
    found = answer_finding(asked, head, "GET /", secret)
    assert (found.code if found else None) == code


@given(st.binary(max_size=300))
def test_whatever_comes_is_shown_on_one_printable_line(octets: bytes) -> None:
    text = shown(octets)
    assert text.isascii()
    assert text.isprintable() or not text
    assert len(text) <= 4 * 80 + 3
    answer_finding("http", octets, "GET /", True)


def test_steps_of_services() -> None:
    base = ("address", "name", "target", "tcp")
    assert steps_of(Service()) == base
    assert steps_of(Service(health=Health(http="/"))) == (*base, "http")
    assert steps_of(Service(tls=ServiceTls(), health=Health(kind="websocket"))) == (
        *base, "tls", "websocket",
    )  # fmt: skip
    assert steps_of(Service(secret=True, health=Health(http="/")))[-1] == "secret"
    assert "secret" not in steps_of(Service(secret=True)), "a connection shows no secret"


def test_a_chart_is_whole() -> None:
    service = Service(health=Health(http="/"))
    some = [
        passed("address", "10.0.0.1:5000", 0.00004),
        failure("name", Finding("name_unknown", "x")),
    ]
    chart = whole(service, some)
    assert [step.step for step in chart] == list(steps_of(service))
    assert [step.outcome for step in chart[2:]] == [Outcome.SKIPPED] * 3
    assert chart[1].remedy == FINDINGS["name_unknown"][1]


def test_the_sentence_and_the_reason() -> None:
    good = [passed("tcp", "it took the connection")]
    assert sentence("renderer", good) == ""
    assert reason("renderer", good) is None
    bad = [
        *good,
        failure("http", Finding("http_status", "GET / was answered HTTP/1.1 404 No"), 1.0),
    ]
    told = reason("renderer", bad)
    assert told is not None
    assert told.code in REASONS
    assert told.message == (
        "renderer does not answer (http: the answer is not a 2xx). GET / was answered HTTP/1.1 "
        "404 No. Check health.http: it must answer 2xx without a credential."
    )


def test_the_table_has_every_finding() -> None:
    assert all(f"| `{code}` |" in table() for code in FINDINGS)
    assert all(remedy.endswith((".", "?")) for _, remedy in FINDINGS.values())
