"""The way from a client's first octet to the tunnel, in memory."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.relay.rig import (
    JOB,
    KEY_ACCEPTED,
    TOKEN,
    FakeDesk,
    Rig,
    answer_in,
    head_in,
    problem,
    request,
    welcome,
)
from vsmgate.credentials import BEARER_PREFIX
from vsmgate.errors import (
    AuthenticatorUnavailable,
    GatewayError,
    JobEnded,
    JobNotReady,
    NoSuchJob,
    NoSuchService,
    StoreUnavailable,
)
from vsmgate.model import Endpoint, Reason, Service, replace

BEARER = BEARER_PREFIX + base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")

#: A masked text frame "hi", and an unmasked one.
FRAME = b"\x81\x82\0\0\0\0hi"
REPLY = b"\x81\x02hi"


def test_a_service_that_asks_is_shown_the_jobs_secret() -> None:
    rig = Rig(FakeDesk(renderer=Service(secret=True)))
    rig.asked(request(f"/{JOB}/renderer?token={TOKEN}"))
    asked = rig.service().read()
    assert head_in(asked).all("Authorization") == ("Bearer of-the-job",)
    assert TOKEN.encode() not in asked


@pytest.mark.criterion("C-1", "C-16", "C-24", "S-6")
def test_the_whole_way() -> None:
    rig = Rig(FakeDesk(renderer=Service(path="/ws")))
    client = rig.asked(
        request(
            f"/{JOB}/renderer?view=%20&token={TOKEN}&b",
            f"Sec-WebSocket-Protocol: a,  {BEARER}, b",
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits , foo",
            "User-Agent: me/1",
            "Cookie: a=b",
            "Authorization: Bearer " + TOKEN,
        )
    )
    host, port, _, timeout, _ = rig.clock.tcpClients[0]
    assert (host, port, timeout) == ("10.0.0.1", 5000, rig.relay.config.dial_timeout)
    service = rig.service()
    asked = service.read()
    head = head_in(asked)
    assert head.target == "/ws?view=%20&b"
    assert head.host == "10.0.0.1:5000"
    assert head.one("Sec-WebSocket-Protocol") == "a, b"
    assert head.one("Sec-WebSocket-Extensions") == "permessage-deflate; client_max_window_bits"
    assert head.one("User-Agent") == "me/1"
    assert head.one("X-Forwarded-For") == "192.0.2.7"
    assert head.one("X-Vsmgate-User") == "ada"
    for secret in (TOKEN, BEARER, "Cookie", "Authorization", "Origin"):
        assert secret.lower().encode() not in asked.lower()
    assert client.read() == b""  # nothing before the service's own 101
    service.send(
        welcome(
            asked,
            "Sec-WebSocket-Protocol: b",
            "Sec-WebSocket-Extensions: permessage-deflate;  client_max_window_bits=12",
            "Server: secret/1",
            "Set-Cookie: a=b",
        )
        + REPLY
    )
    answer, early = answer_in(client.read())
    assert answer.status == 101
    assert answer.one("Sec-WebSocket-Accept") == KEY_ACCEPTED
    assert answer.one("Sec-WebSocket-Protocol") == "b"
    assert (
        answer.one("Sec-WebSocket-Extensions") == "permessage-deflate;  client_max_window_bits=12"
    )
    assert answer.one("Server") is None
    assert answer.one("Set-Cookie") is None
    assert early == REPLY
    client.send(FRAME)
    assert service.read() == FRAME
    service.send(REPLY)
    assert client.read() == REPLY
    assert rig.desk.told_active == 1
    assert rig.relay.relays == 1
    assert rig.watcher.told == [("opened", "renderer")]


@pytest.mark.criterion("C-1")
def test_verbatim_offers() -> None:
    offer = "permessage-deflate;client_max_window_bits;x=1 ,permessage-deflate"
    rig = Rig()
    rig.asked(
        request(
            f"/{JOB}/renderer?token={TOKEN}",
            "Sec-WebSocket-Protocol: a,b ,  c",
            f"Sec-WebSocket-Extensions: {offer}",
        )
    )
    head = head_in(rig.service().read())
    assert head.one("Sec-WebSocket-Protocol") == "a,b ,  c"
    assert head.one("Sec-WebSocket-Extensions") == offer


def test_nothing_offered_nothing_sent() -> None:
    rig = Rig()
    client = rig.asked(request())
    service = rig.service()
    asked = service.read()
    assert head_in(asked).one("Sec-WebSocket-Protocol") is None
    assert head_in(asked).one("Sec-WebSocket-Extensions") is None
    assert head_in(asked).target == "/"
    service.send(welcome(asked))
    answer, _ = answer_in(client.read())
    assert answer.one("Sec-WebSocket-Protocol") is None
    assert answer.one("Sec-WebSocket-Extensions") is None


@pytest.mark.parametrize(
    ("offered", "sent", "selected", "answered"),
    [
        (f"{BEARER}, vsmgate.v1", None, None, "vsmgate.v1"),
        (f"{BEARER}, vsmgate.v1, a", "a", "a", "a"),
        (f"{BEARER}, vsmgate.v1, a", "a", None, "vsmgate.v1"),
        (f"{BEARER}, a", "a", None, None),
        (BEARER, None, None, None),
    ],
)
def test_own_subprotocol(
    offered: str, sent: str | None, selected: str | None, answered: str | None
) -> None:
    rig = Rig()
    client = rig.asked(request(f"/{JOB}/renderer", f"Sec-WebSocket-Protocol: {offered}"))
    service = rig.service()
    asked = service.read()
    assert head_in(asked).one("Sec-WebSocket-Protocol") == sent
    lines = [f"Sec-WebSocket-Protocol: {selected}"] if selected else []
    service.send(welcome(asked, *lines))
    assert answer_in(client.read())[0].one("Sec-WebSocket-Protocol") == answered


@pytest.mark.criterion("C-28")
@pytest.mark.parametrize("target", [f"/{JOB.upper()}/renderer/ws", f"/{JOB}/renderer"])
def test_ipv6_and_routes(target: str) -> None:
    rig = Rig(FakeDesk(Endpoint("::1", 81)))
    rig.asked(request(f"{target}?token={TOKEN}"))
    assert rig.clock.tcpClients[0][:2] == ("::1", 81)
    assert head_in(rig.service().read()).host == "[::1]:81"


@pytest.mark.criterion("C-17")
def test_one_octet_at_a_time() -> None:
    rig = Rig()
    client = rig.client()
    octets = request() + FRAME
    for at in range(len(octets)):
        client.send(octets[at : at + 1])
    service = rig.service()
    answer = welcome(service.read()) + REPLY
    for at in range(len(answer)):
        service.send(answer[at : at + 1])
    assert client.read().endswith(b"\r\n\r\n" + REPLY)
    assert service.read() == FRAME


@pytest.mark.criterion("C-15")
def test_early_data_waits_for_the_101() -> None:
    rig = Rig()
    client = rig.asked(request() + FRAME)
    service = rig.service()
    asked = service.read()
    client.send(FRAME)
    assert service.read() == b""
    service.send(welcome(asked))
    assert service.read() == FRAME + FRAME


@pytest.mark.criterion("C-15", "S-14")
def test_early_data_never_reaches_a_refusing_service() -> None:
    rig = Rig()
    client = rig.asked(request() + b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n")
    service = rig.service()
    asked = service.read()
    service.send(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 6\r\n\r\nsecret")
    client.send(b"GET /admin HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"admin" not in asked + service.read()
    assert service.aborted
    assert b"secret" not in client.value()
    assert problem(client)[0] == 502


@pytest.mark.criterion("C-15")
def test_much_early_data_pauses_the_client() -> None:
    rig = Rig()
    client = rig.asked(request())
    assert client.bufferSize == 16384
    client.send(b"a" * 16384)
    assert not client.paused
    client.send(b"a" * 16384)
    assert client.paused
    service = rig.service()
    service.send(welcome(service.read()))
    assert not client.paused
    assert client.bufferSize == 65536


def test_what_follows_a_refused_head_is_read_into_nothing() -> None:
    rig = Rig()
    paused, malformed = rig.asked(request()), rig.asked(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
    paused.send(b"a" * 32768)
    rig.refuse_dial()
    assert not paused.paused
    for client in (paused, malformed):
        head, _ = answer_in(client.read())
        assert head.status in (400, 502)
        client.send(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
        assert not client.value(), "one answer"
        client.drop()
    rig.settle()
    assert not rig.clock.getDelayedCalls()


@pytest.mark.criterion("C-4", "S-13", "S-24")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n<script>", "answered 200"),
        (b"HTTP/1.1 401 No\r\n\r\n", "answered 401"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil\r\n\r\n", "answered 302"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", "answered 500"),
        (b"HTTP/1.0 101 Old\r\n\r\n", "HTTP/1.1"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 101 X\r\nA: b\nSet-Cookie: c\r\n\r\n", "control character"),
        (b"HTTP/1.1 101 X\r\nA: " + b"b" * 20000, "16384"),
    ],
)
def test_bad_answers(answer: bytes, told: str) -> None:
    rig = Rig()
    client = rig.asked(request())
    service = rig.service()
    service.read()
    service.send(answer)
    status, body = problem(client)
    assert status == 502
    assert told in body["detail"]
    assert "script" not in body["detail"]
    assert service.aborted
    client.send(b"more")
    assert service.read() == b""


@pytest.mark.criterion("C-4")
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Sec-WebSocket-Accept: ", b"Sec-WebSocket-Accept: AAAA"),
        (b"Sec-WebSocket-Accept: ", b"X: "),
        (b"upgrade: WebSocket\r\n", b""),
        (b"upgrade: WebSocket", b"upgrade: h2c"),
        (b"connection: upgrade", b"connection: keep-alive"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: b\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: a\r\n\r\n"),
        (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"),
    ],
)
def test_wrong_101s(old: bytes, new: bytes) -> None:
    rig = Rig()
    client = rig.asked(request(f"/{JOB}/renderer?token={TOKEN}", "Sec-WebSocket-Protocol: a"))
    service = rig.service()
    answer = welcome(service.read())
    assert old in answer
    service.send(answer.replace(old, new, 1))
    status, body = problem(client)
    assert (status, body["code"]) == (502, "bad_handshake")
    assert service.aborted
    assert rig.relay.relays == 0


def test_the_service_hangs_up() -> None:
    rig = Rig()
    client = rig.asked(request())
    rig.service().drop()
    assert problem(client)[1]["code"] == "bad_handshake"


@pytest.mark.criterion("C-2")
def test_refused_dial() -> None:
    rig = Rig()
    client = rig.asked(request())
    rig.refuse_dial()
    status, body = problem(client)
    assert (status, body["code"]) == (502, "service_refused")
    assert rig.watcher.told == [("refused", "service_refused")]


@pytest.mark.criterion("C-3")
def test_dial_timeout() -> None:
    rig = Rig(dial_timeout=4.0)
    client = rig.asked(request())
    rig.clock.advance(3.9)
    assert client.read() == b""
    rig.clock.advance(0.2)
    assert problem(client)[0] == 504
    assert rig.clock.connectors[0].stoppedConnecting


@pytest.mark.criterion("C-3")
def test_handshake_timeout() -> None:
    rig = Rig(handshake_timeout=5.0)
    client = rig.asked(request())
    service = rig.service()
    service.send(b"HTTP/1.1 101 Switching Proto")
    rig.clock.advance(4.9)
    assert client.read() == b""
    rig.clock.advance(0.2)
    assert problem(client)[0] == 504
    assert service.aborted


def test_admission_timeout() -> None:
    rig = Rig(handshake_timeout=5.0)
    cancelled: list[object] = []
    rig.desk.waiting = Deferred(cancelled.append)
    client = rig.asked(request())
    rig.clock.advance(5.1)
    assert problem(client)[0] == 503
    assert cancelled
    assert rig.dials == 0


@pytest.mark.criterion("S-1")
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (JobNotReady("It is starting.", retry_after=3), 503),
        (JobEnded("It ran out of time."), 410),
        (NoSuchJob(), 404),
        (NoSuchService("It has: renderer."), 404),
        (AuthenticatorUnavailable(), 503),
        (StoreUnavailable(), 503),
    ],
)
def test_not_admitted(error: GatewayError, status: int) -> None:
    rig = Rig()
    rig.desk.error = error
    client = rig.asked(request())
    head, _ = answer_in(client.value())
    got, body = problem(client)
    assert (got, body["code"], body["detail"]) == (status, error.code, error.detail)
    expected = None if error.retry_after is None else str(error.retry_after)
    assert head.one("Retry-After") == expected
    assert rig.dials == 0


def test_credentials() -> None:
    for target, lines, status in [
        (f"/{JOB}/renderer", [], 401),
        (f"/{JOB}/renderer?token=wrong", [], 401),
        (f"/{JOB}/renderer?token=a&token=a", [], 400),
        (f"/{JOB}/renderer", ["Authorization: Basic YTpi"], 401),
        (f"/{JOB}/renderer?token=b0b", [], 404),
    ]:
        rig = Rig()
        client = rig.asked(request(target, *lines))
        assert problem(client)[0] == status
        assert rig.dials == 0


@pytest.mark.criterion("S-2", "S-29")
def test_foreign_unknown_and_malformed_are_the_same_octets() -> None:
    answers = set()
    for target in (f"/{JOB}/renderer", f"/{'a' * 26}/renderer", "/nonsense"):
        rig = Rig()
        client = rig.asked(request(f"{target}?token=b0b"))
        head, body = answer_in(client.read())
        answers.add(
            head.render().replace((head.one("X-Request-Id") or "").encode(), b"") + body[:80]
        )
    assert len(answers) == 1


def test_an_unexpected_error_is_opaque(flush_logged: Any) -> None:
    rig = Rig()
    rig.desk.error = ZeroDivisionError("secret")
    client = rig.asked(request())
    status, body = problem(client)
    assert (status, body["code"]) == (500, "internal")
    assert "secret" not in str(body)
    assert len(flush_logged(ZeroDivisionError)) == 1


@pytest.mark.criterion("C-13", "S-3", "S-11", "S-12")
@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (request().replace(b"\r\n", b"\n"), 400),
        (request(f"/{JOB}/renderer?token={TOKEN}", "Content-Length: 4") + b"GET ", 400),
        (request(f"/{JOB}/renderer?token={TOKEN}", "Transfer-Encoding: chunked"), 400),
        (request().replace(b"Upgrade: websocket", b"Upgrade: h2c"), 426),
        (request().replace(b"Connection: Upgrade", b"Connection: keep-alive"), 426),
        (request().replace(b"Version: 13", b"Version: 8"), 426),
        (request().replace(b"GET", b"POST"), 405),
        (request(f"/{JOB}/renderer?token={TOKEN}&x=" + "a" * 5000), 414),
        (request(f"/{JOB}/renderer?token={TOKEN}", "X: " + "a" * 17000), 431),
        (request(f"/{JOB}/renderer?token={TOKEN}", *["X: a"] * 64), 431),
        (request(f"/{JOB}/renderer?token={TOKEN}", "Origin: null"), 403),
        (request(f"/{JOB}/renderer?token={TOKEN}", "Origin: https://evil.example"), 403),
    ],
)
def test_refused_before_admission(octets: bytes, status: int) -> None:
    rig = Rig()
    client = rig.asked(octets)
    assert problem(client)[0] == status
    assert rig.desk.shown == []
    assert rig.dials == 0
    client.send(request())
    assert rig.dials == 0


@pytest.mark.criterion("S-3")
def test_allowed_origins() -> None:
    for origin in ("https://good.example", "http://127.0.0.1:8888"):
        rig = Rig(allowed_origins=("https://good.example",))
        rig.asked(request(f"/{JOB}/renderer?token={TOKEN}", f"Origin: {origin}"))
        assert rig.dials == 1


@pytest.mark.criterion("S-18")
def test_limits_per_user() -> None:
    rig = Rig(max_per_user=1)
    client, service = rig.opened()
    second = rig.asked(request())
    head, _ = answer_in(second.value())
    assert problem(second)[1]["code"] == "quota_exceeded"
    assert head.one("Retry-After") == "5"
    client.drop()
    service.drop()
    rig.opened()


@pytest.mark.criterion("C-27")
def test_limits_per_service_count_openings_too() -> None:
    rig = Rig(FakeDesk(renderer=Service(max_clients=1)))
    first = rig.asked(request())
    second = rig.asked(request())
    status, body = problem(second)
    assert (status, body["code"]) == (429, "service_busy")
    rig.refuse_dial()
    assert problem(first)[0] == 502
    rig.opened()


def test_limit_in_total() -> None:
    rig = Rig(max_connections=1)
    rig.client()
    second = rig.client()
    assert problem(second)[0] == 503


def test_a_plain_get_tells_the_same() -> None:
    rig = Rig()
    rig.desk.error = JobNotReady("It waits.")
    client = rig.asked(request(upgrade=False))
    assert problem(client)[1]["code"] == "job_not_ready"
    rig.desk.error = None
    client = rig.asked(request(upgrade=False))
    rig.refuse_dial()
    assert problem(client)[1]["code"] == "service_refused"
    client = rig.asked(request(upgrade=False))
    service = rig.service()
    service.send(welcome(service.read()))
    head, _ = answer_in(client.value())
    assert problem(client)[0] == 426
    assert head.one("Upgrade") == "websocket"
    assert head.one("Sec-WebSocket-Version") == "13"
    assert service.aborted
    client = rig.asked(request(f"/{JOB}/renderer", upgrade=False))
    assert problem(client)[0] == 401


def test_healthz() -> None:
    rig = Rig()
    client = rig.asked(request("/healthz", upgrade=False))
    head, body = answer_in(client.read())
    assert (head.status, body) == (200, b'{"status":"ok"}')
    assert client.half_closed


@pytest.mark.criterion("S-7")
@pytest.mark.parametrize("host", ["169.254.169.254", "0.0.0.0", "0x7f.1", "a b", "..", "x" * 300])
def test_a_target_that_is_not_allowed(host: str) -> None:
    rig = Rig(FakeDesk(Endpoint(host, 80)))
    client = rig.asked(request())
    status, told = problem(client)
    assert (status, told["code"]) == (502, "target_denied")
    assert host not in str(told)
    assert rig.dials == 0
    assert rig.watcher.told == [("refused", "target_denied")]


def test_a_vanished_client_cancels_the_dial() -> None:
    rig = Rig()
    client = rig.asked(request())
    client.drop()
    assert rig.clock.connectors[0].stoppedConnecting
    assert rig.desk.calls == []
    assert rig.watcher.told == []
    assert rig.clock.getDelayedCalls() == []


def test_a_vanished_client_cancels_the_handshake_and_the_admission() -> None:
    rig = Rig()
    client = rig.asked(request())
    service = rig.service()
    client.drop()
    assert service.aborted
    cancelled: list[object] = []
    rig.desk.waiting = Deferred(cancelled.append)
    rig.asked(request()).drop()
    assert cancelled
    rig.settle()
    assert rig.clock.getDelayedCalls() == []


def test_the_job_ends_during_the_opening() -> None:
    rig = Rig()
    client = rig.asked(request())
    rig.desk.calls[0](replace(rig.desk.job, reason=Reason("idle", "Nobody used it.")))
    rig.clock.advance(0)
    status, body = problem(client)
    assert (status, body["detail"]) == (410, "Nobody used it.")
    assert rig.clock.connectors[0].stoppedConnecting


@pytest.mark.criterion("S-10")
def test_slow_heads() -> None:
    rig = Rig(head_timeout=8.0)
    silent = rig.client()
    slow = rig.asked(b"GET / HT")
    rig.clock.advance(7.0)
    slow.send(b"TP/1.1\r\n")
    rig.clock.advance(1.1)
    assert silent.aborted
    assert silent.read() == b""
    assert problem(slow)[0] == 408


@pytest.mark.criterion("S-10")
def test_few_may_wait_at_the_door() -> None:
    rig = Rig(max_unauthenticated_per_address=2)
    silent, known = rig.client(), rig.asked(request())
    assert rig.clock.tcpClients  # it was admitted, and waits for the service
    slow = rig.client()
    assert not slow.read()  # whoever was admitted has left its place at the door
    assert problem(rig.client())[0] == 429
    silent.drop()
    assert not rig.client().read()
    rig.clock.advance(60)
    assert slow.aborted
    assert known.read()
    assert not rig.client().read()


def test_a_refused_client_that_stays_is_dropped() -> None:
    rig = Rig()
    client = rig.asked(b"nonsense\r\n\r\n")
    assert problem(client)[0] == 400
    client.send(b"x" * 100000)
    assert not client.aborted
    rig.clock.advance(2.1)
    assert client.aborted
    assert rig.clock.getDelayedCalls() == []


def test_a_lost_connection_is_no_error() -> None:
    rig = Rig()
    client = rig.client()
    client.protocol.connectionLost(Failure(OSError("reset")))
    assert rig.clock.getDelayedCalls() == []


@pytest.mark.criterion("S-21")
@pytest.mark.parametrize(
    ("trusted", "peer", "scheme"),
    [
        (["192.0.2.0/24"], "203.0.113.9", "https"),
        (["10.0.0.0/8"], "192.0.2.7", "http"),
        ([], "192.0.2.7", "http"),
    ],
)
def test_what_trusted_proxies_say_of_the_client(trusted: list[str], peer: str, scheme: str) -> None:
    rig = Rig(trusted_proxies=tuple(trusted))
    lines = ("X-Forwarded-For: 127.0.0.1, 203.0.113.9", "X-Forwarded-Proto: https")
    rig.asked(request(f"/{JOB}/renderer?token={TOKEN}", *lines))
    asked = head_in(rig.service().read())
    assert asked.one("X-Forwarded-For") == peer
    assert asked.one("X-Forwarded-Proto") == scheme
