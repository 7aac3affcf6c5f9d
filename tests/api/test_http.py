"""HTTP itself: limits, malformed requests, errors of our own, what every answer has."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.logger import LogEvent, formatEvent
from twisted.python.failure import Failure

from tests.api.conftest import Face
from vsmgate.config import MasterConfig
from vsmgate.errors import GatewayError

HOST = b"Host: h\r\n"
TOKEN = b"Authorization: Bearer ann-token\r\n"
GET = b"GET /healthz HTTP/1.1\r\n" + HOST


def answers(octets: bytes) -> list[int]:
    """Return the statuses of the replies in ``octets``."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", octets)]


@pytest.mark.parametrize(
    "target",
    ["/", "/nothing", "/healthz/", "//healthz", "/status", "/v1", "/v1/jobs/x/y/z", "/start/x"],
)
def test_nothing_there(face: Any, target: str) -> None:
    answer = face.ask("GET", target)
    assert (answer.status, answer.json["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("GET", "/start", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("TRACE", "/v1/jobs/x", "DELETE, GET, HEAD"),
        ("BREW", "/v1/me", "GET, HEAD"),
    ],
)
def test_method_not_allowed(face: Any, method: str, target: str, allow: str) -> None:
    answer = face.ask(method, target)
    assert (answer.status, answer.headers["Allow"]) == (405, allow)


@pytest.mark.criterion("S-30")
def test_what_every_answer_has(face: Any) -> None:
    job = face.job()
    for method, target in [
        ("GET", "/healthz"),
        ("GET", f"/status/{job.id}"),
        ("GET", "/nothing"),
        ("GET", "/start"),
        ("DELETE", f"/v1/jobs/{face.ended().id}"),
        ("GET", "/v1/jobs?limit=0"),
    ]:
        headers = face.ask(method, target).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["X-Request-Id"]
        assert headers["Date"].endswith(" GMT")
        assert headers["Vary"] == "Origin"
        assert headers["Server"] is None
        assert "html" not in (headers["Content-Type"] or "")


def test_problem_document(face: Any) -> None:
    answer = face.ask("GET", "/nothing", X_Request_Id="id-1")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json == {
        "type": "urn:vsmgate:error:not_found",
        "title": "Nothing here",
        "status": 404,
        "detail": "There is nothing at this address; /openapi.json lists what is.",
        "instance": "urn:vsmgate:request:id-1",
        "code": "not_found",
        "request_id": "id-1",
    }


@pytest.mark.parametrize(
    ("shown", "taken"),
    [("a.B_9-z", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("a/b", False)],
)
def test_request_id(face: Any, shown: str, taken: bool) -> None:
    answer = face.ask("GET", "/nothing", X_Request_Id=shown)
    assert (answer.headers["X-Request-Id"] == shown) is taken
    assert answer.json["request_id"] == answer.headers["X-Request-Id"]


def test_request_ids_differ(face: Any) -> None:
    ids = [face.ask("GET", "/healthz").headers["X-Request-Id"] for _ in range(3)]
    assert len(set(ids)) == 3


def test_head(face: Any) -> None:
    get = face.ask("GET", "/healthz")
    head = face.ask("HEAD", "/healthz")
    assert head.octets.partition(b"\r\n\r\n")[2] == b""
    assert head.headers["Content-Length"] == str(len(get.body))
    assert face.ask("HEAD", "/nothing").octets.endswith(b"\r\n\r\n")


def test_http_1_0(face: Any) -> None:
    wire = face.wire()
    octets = wire.send(b"GET /healthz HTTP/1.0\r\n\r\n")
    assert answers(octets) == [200]
    assert b"\r\nConnection: close\r\n" in octets
    assert wire.closing


def test_keep_alive_and_pipelining(face: Any) -> None:
    wire = face.wire()
    assert answers(wire.send(GET + b"\r\n")) == [200]
    assert answers(wire.send((GET + b"\r\n") * 300)) == [200] * 300
    assert not wire.closing
    assert answers(wire.send(GET + b"Connection: close\r\n\r\n" + GET + b"\r\n")) == [200]
    assert wire.closing


def test_an_octet_at_a_time(face: Any) -> None:
    wire = face.wire()
    body = b'{"usecase":"demo"}'
    head = b"POST /start HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Length: %d\r\n\r\n" % len(body)
    said = b"".join(wire.send(bytes([octet])) for octet in head + body + GET + b"\r\n")
    assert answers(said) == [201, 200]


@pytest.mark.criterion("S-11", "S-12")
@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET /healthz HTTP/2.0\r\n" + HOST + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"GET  /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"G(T /healthz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /\xe9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET http://h/healthz HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"CONNECT h:80 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (GET + HOST + b"\r\n", 400),
        (GET + b"No colon\r\n\r\n", 400),
        (GET + b"Name : x\r\n\r\n", 400),
        (GET + b": x\r\n\r\n", 400),
        (GET + b"X: a\r\n folded\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n Host: h\r\n\r\n", 400),
        (GET + b"X: a\x00b\r\n\r\n", 400),
        (GET + b"X: a\rb\r\n\r\n", 400),
        (GET + b"X: a\nY: b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\nHost: h\n\n\r\n", 400),
        (GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
        (GET + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        (GET + b"Content-Length: 5, 5\r\n\r\n", 400),
        (GET + b"Content-Length: +5\r\n\r\n", 400),
        (GET + b"Content-Length: -5\r\n\r\n", 400),
        (GET + b"Content-Length: 0x5\r\n\r\n", 400),
        (GET + b"Content-Length: \xb2\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: xchunked\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: identity\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", 400),
        (b"GET /" + b"a" * 4096 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET /" + b"a" * 20000, 414),
        (GET + b"X: y\r\n" * 64 + b"\r\n", 431),
        (GET + b"X: " + b"y" * 16384 + b"\r\n\r\n", 431),
        (GET + b"X: " + b"y" * 20000, 431),
        (GET + (b"X: " + b"y" * 2000 + b"\r\n") * 9 + b"\r\n", 431),
        (GET + b"Content-Length: 1001\r\n\r\n", 413),
        (GET + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (GET + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n", 413),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001, 413),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1001, 413),
    ],
)
def test_refused_and_closed(face: Any, octets: bytes, status: int) -> None:
    # A second request hides behind each; nobody may answer it.
    for wire, pieces in (
        (face.wire(), [octets + GET + b"\r\n"]),
        (face.wire(), [octets[i : i + 7] for i in range(0, len(octets), 7)] + [GET + b"\r\n"]),
    ):
        said = b"".join(wire.send(piece) for piece in pieces)
        assert answers(said) == [status]
        assert b"\r\nConnection: close\r\n" in said
        assert b"\r\nContent-Type: application/problem+json\r\n" in said
        assert b"100 Continue" not in said
        assert wire.closing


def test_64_headers_are_taken(face: Any) -> None:
    assert answers(face.wire().send(GET + b"X: y\r\n" * 63 + b"\r\n")) == [200]


@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_up_to_the_cap(face: Any, chunked: bool) -> None:
    body = b'{"usecase":"demo"}'.ljust(1000)
    head = b"POST /start HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Type: application/json\r\n"
    if chunked:
        octets = head + b"Transfer-Encoding: chunked\r\n\r\n"
        octets += b"".join(b"64\r\n" + body[i : i + 100] + b"\r\n" for i in range(0, 1000, 100))
        octets += b"0\r\n\r\n"
    else:
        octets = head + b"Content-Length: 1000\r\n\r\n" + body
    wire = face.wire()
    assert answers(wire.send(octets)) == [201]
    assert answers(wire.send(octets)) == [201]


def test_expect_continue(face: Any) -> None:
    wire = face.wire()
    head = b"POST /start HTTP/1.1\r\n" + HOST + TOKEN + b"Content-Length: 18\r\n"
    assert answers(wire.send(head + b"Expect: 100-continue\r\n\r\n")) == [100]
    assert answers(wire.send(b'{"usecase":"demo"}')) == [201]


def test_a_refusal_tells_the_page_too(face: Any) -> None:
    octets = face.wire().send(
        b"POST /start HTTP/1.1\r\n"
        + HOST
        + b"Origin: https://vis.example.org\r\nX-Request-Id: r1\r\nContent-Length: 2000\r\n\r\n"
    )
    assert b"\r\nAccess-Control-Allow-Origin: https://vis.example.org\r\n" in octets
    assert b"\r\nX-Request-Id: r1\r\n" in octets


def test_an_idle_connection_ends(face: Any) -> None:
    wire = face.wire()
    face.clock.advance(7)
    assert answers(wire.send(GET + b"\r\n")) == [200]
    face.clock.advance(59)
    assert not wire.closing
    face.clock.advance(2)
    assert wire.closing
    assert wire.transport.value().count(b"HTTP/1.1") == 1


@pytest.mark.criterion("S-10")
@pytest.mark.parametrize(
    ("head", "seconds"), [(GET, 8), (GET + b"Content-Length: 900\r\n\r\n", 60)]
)
def test_a_slow_request_ends(face: Any, head: bytes, seconds: int) -> None:
    for before in (b"", GET + b"\r\n"):  # the first of a connection, and a later one
        wire = face.wire()
        wire.send(before)
        wire.send(head)
        for _ in range(seconds - 1):
            face.clock.advance(1)
            assert not wire.send(b"X")
        assert not wire.closing
        wire.transport.clear()
        face.clock.advance(2)
        assert answers(wire.transport.value()) == [408]
        assert wire.closing


def test_what_follows_a_refusal_is_read_for_so_long_only(face: Any) -> None:
    wire, patient = face.wire(), face.wire()
    for refused in (wire, patient):
        assert answers(refused.send(GET + b" folded\r\n\r\n")) == [400]
    for _ in range(16):
        assert not wire.send(GET.ljust(65536, b"x"))  # 1 MiB in all
    assert not wire.transport.disconnected
    assert not wire.send(b"x")
    assert wire.transport.disconnected
    face.clock.advance(1.9)
    assert not patient.transport.disconnected
    face.clock.advance(0.2)
    assert patient.transport.disconnected


def test_who_says_nothing_goes(face: Any) -> None:
    wire = face.wire()
    face.clock.advance(7)
    assert not wire.closing
    face.clock.advance(2)
    assert wire.closing
    assert not wire.transport.value()


@pytest.mark.criterion("S-10")
def test_few_may_wait_at_the_door() -> None:
    face = Face(master=MasterConfig(port=0, max_unauthenticated_per_address=2))
    known, waiting, refused = face.wire(), face.wire(), face.wire()
    assert answers(refused.transport.value()) == [429]
    assert answers(known.send(GET + TOKEN + b"\r\n")) == [200]  # healthz asks for no token
    refused = face.wire()
    assert answers(refused.transport.value()) == [429]
    assert answers(known.send(b"GET /v1/me HTTP/1.1\r\n" + HOST + TOKEN + b"\r\n")) == [200]
    again = face.wire()
    assert not again.transport.value()
    waiting.hang_up()
    assert not face.wire().transport.value()


def test_the_clock_stands_while_a_call_is_served(face: Any) -> None:
    job = face.job()
    wire = face.wire()
    wire.send(b"GET /v1/jobs/%s?wait=60 HTTP/1.1\r\n" % job.id.encode() + HOST + TOKEN + b"\r\n")
    face.clock.advance(120)
    face.desk.waiting.pop().callback(None)
    assert answers(wire.transport.value()) == [200]
    assert not wire.closing


@pytest.mark.criterion("S-30")
@pytest.mark.parametrize("error", [ZeroDivisionError("secret"), GatewayError("secret")])
def test_our_own_faults_are_opaque(
    face: Any, error: Exception, flush_logged: Callable[..., list[Failure]]
) -> None:
    face.desk.fail = error
    answer = face.ask("GET", f"/status/{face.job().id}", X_Request_Id="id-1")
    assert (answer.status, answer.json["code"]) == (500, "internal")
    assert answer.json["request_id"] == "id-1"
    assert b"secret" not in answer.octets
    assert [failure.value for failure in flush_logged(type(error))] == [error]


def test_reason_phrases_stay_in_their_line(face: Any) -> None:
    answer = face.ask("GET", "/v1/jobs?x=1%0d%0aSet-Cookie:%20a=b%e2%82%ac" + "y" * 300)
    assert answer.status == 422
    assert answer.headers["Set-Cookie"] is None
    assert answer.phrase.isascii()
    assert len(answer.phrase) <= 100


def test_access_lines(face: Any, logged: list[LogEvent]) -> None:
    job = face.job()
    face.ask("GET", f"/status/{job.id}?token=ann-token", X_Request_Id="id-1")
    face.ask("GET", "/nothing?ann-token", token=None)
    face.wire().send(b"GET /healthz?ann-token HTTP/1.1\r\n\r\n")
    lines = [event["access"] for event in logged if "access" in event]
    assert [(line.method, line.path, line.status, line.subject) for line in lines] == [
        ("GET", f"/status/{job.id}", 200, "ann"),
        ("GET", "/nothing", 404, ""),
        ("GET", "/healthz", 400, ""),
    ]
    assert (lines[0].request_id, lines[0].route) == ("id-1", "/status/{job_id}")
    assert lines[0].octets > 100
    assert next(formatEvent(event) for event in logged if "access" in event) == (
        f"GET /status/{job.id} 200 {lines[0].octets} B 0.0000 s ann id-1"
    )
    assert "ann-token" not in repr(logged)


def test_probes_are_no_lines_while_all_is_well(face: Any, logged: list[LogEvent]) -> None:
    def levels() -> list[str]:
        return [event["log_level"].name for event in logged if "access" in event]

    for path in ("/healthz", "/readyz", "/metrics"):
        assert face.ask("GET", path).status == 200
    assert levels() == ["debug"] * 3
    face.desk.trouble = ["local: it cannot be reached."]
    assert face.ask("GET", "/readyz").status == 503
    assert face.ask("GET", "/v1/me").status == 200
    assert levels()[3:] == ["info", "info"]


def test_a_hang_up_has_its_line(face: Any, logged: list[LogEvent]) -> None:
    wire = face.wire()
    target = b"/v1/jobs/%s?wait=9" % face.job().id.encode()
    wire.send(b"GET " + target + b" HTTP/1.1\r\n" + HOST + TOKEN + b"\r\n")
    wire.hang_up()
    assert [event["access"].status for event in logged if "access" in event] == [499]
