"""Plain requests to a service with pages of its own, in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.relay.rig import JOB, TOKEN, FakeDesk, Link, Rig, answer_in, head_in, problem, request
from vsmgate.heads import ResponseHead
from vsmgate.model import Endpoint, Prefix, Reason, Service, replace

PLACE = f"/{JOB}/renderer"


def web(prefix: Prefix = Prefix.STRIP, **more: Any) -> Service:
    return Service(http=True, prefix=prefix, **more)


def rig(spec: Service | None = None, **config: Any) -> Rig:
    return Rig(FakeDesk(Endpoint("10.0.0.1", 5000), renderer=spec or web()), **config)


def plain(target: str, *lines: str, method: str = "GET", token: bool = True) -> bytes:
    shown = [f"Authorization: Bearer {TOKEN}"] if token else []
    parts = [f"{method} {target} HTTP/1.1", "Host: vis.example.org", *shown, *lines, "", ""]
    return "\r\n".join(parts).encode("latin-1")


def exchange(made: Rig, octets: bytes) -> tuple[Link, Link]:
    client = made.asked(octets)
    return client, made.service()


def answered(made: Rig, octets: bytes, answer: bytes) -> tuple[ResponseHead, bytes]:
    client, service = exchange(made, octets)
    service.send(answer)
    return answer_in(client.read())


def session_of(made: Rig) -> str:
    """The cookie that a browser sends after its first request."""
    head, _ = answered(made, plain(f"{PLACE}/"), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    return (head.one("Set-Cookie") or "").partition(";")[0]


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def test_the_whole_way() -> None:
    made = rig()
    client, service = exchange(
        made,
        plain(
            f"{PLACE}/a/b%20c?x=1&token=other&y",
            "Accept: */*",
            "Cookie: a=b; vsmgate_session=nonsense; c=d",
            "Origin: http://127.0.0.1:8888",
            f"Referer: http://127.0.0.1:8888{PLACE}?token={TOKEN}",
            "Connection: keep-alive, X-Hop, x_bound, x.tied, Content-Length",
            "Keep-Alive: 5",
            "X-Hop: 1",
            "X_Bound: 1",
            "X.Tied: 1",
            "TE: trailers",
            "Proxy-Authorization: x",
            "X-Forwarded-For: 6.6.6.6",
            "X_Forwarded_For: 6.6.6.6",
            "X_Vsmgate_User: root",
            "X.Vsmgate.User: root",
            "X-Real-IP: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
            "X-Own: kept",
            "Content-Length: 3",
            method="PUT",
        )
        + b"abc",
    )
    octets = service.read()
    head, body = head_in(octets), octets.partition(b"\r\n\r\n")[2]
    assert (head.method, head.target, body) == ("PUT", "/a/b%20c?x=1&y", b"abc")
    assert head.headers == (
        ("Host", "10.0.0.1:5000"),
        ("Accept", "*/*"),
        ("X-Own", "kept"),
        ("Cookie", "a=b; c=d"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "vis.example.org"),
        ("X-Vsmgate-Job", JOB),
        ("X-Vsmgate-User", "ada"),
        ("X-Request-Id", head.one("X-Request-Id")),
        ("X-Forwarded-Prefix", PLACE),
        ("Content-Length", "3"),
        ("Connection", "close"),
    )
    assert TOKEN.encode() not in octets
    service.send(b"HTTP/1.1 201 Made\r\nServer: x\r\nKeep-Alive: 5\r\nX-A: 1\r\nContent-Le")
    assert client.read() == b""
    service.send(b"ngth: 5\r\nConnection: X-B\r\nX-B: 2\r\n\r\nhel")
    answer, part = answer_in(client.read())
    assert (answer.status, answer.reason, part) == (201, "Made", b"hel")
    names = [name for name, _ in answer.headers]
    assert names == ["X-A", "Set-Cookie", "Cache-Control", "Content-Length", "Connection"]
    service.send(b"loHTTP/1.1 200 smuggled\r\n\r\n")
    assert client.read() == b"lo"
    assert service.aborted
    assert client.half_closed
    client.drop()
    made.settle()
    assert made.relay.relays == 0
    assert made.clock.getDelayedCalls() == []
    assert made.desk.told_active == 1
    assert made.watcher.told == [("opened", "renderer"), ("closed", "renderer", "service")]


@pytest.mark.parametrize(
    ("prefix", "target", "expected"),
    [
        (Prefix.STRIP, f"{PLACE}", "/"),
        (Prefix.STRIP, f"{PLACE}/", "/"),
        (Prefix.STRIP, f"{PLACE}/ws?a", "/ws?a"),
        (Prefix.STRIP, f"{PLACE}/../x", "/../x"),
        (Prefix.KEEP, f"{PLACE}", f"{PLACE}/"),
        (Prefix.KEEP, f"{PLACE}/a?b", f"{PLACE}/a?b"),
    ],
)
def test_addresses(prefix: Prefix, target: str, expected: str) -> None:
    _, service = exchange(rig(web(prefix)), plain(target))
    assert head_in(service.read()).target == expected
    made = rig(web(prefix))
    asked = request(target, f"Authorization: Bearer {TOKEN}", "Cookie: own=1")
    _, service = exchange(made, asked)
    head = head_in(service.read())
    assert head.target == expected
    assert (head.one("Cookie"), head.one("X-Forwarded-Prefix")) == ("own=1", PLACE)


def test_the_path_as_browsers_see_it() -> None:
    """A front may show another path than it asks the gateway for."""
    made = rig(public_base="vis.example.org/vsm/proxy", base_path="/inner")
    _, service = exchange(made, plain(f"/inner{PLACE}/x"))
    head = head_in(service.read())
    assert (head.target, head.one("X-Forwarded-Prefix")) == ("/x", f"/vsm/proxy{PLACE}")
    service.send(b"HTTP/1.1 302 Found\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n")


def test_a_browser_gets_a_session_and_an_address_without_the_token() -> None:
    for target, told in (
        (f"{PLACE}?a=1&token={TOKEN}", f"{PLACE}/?a=1"),
        (f"{PLACE}/?a=1&ticket=x&token={TOKEN}", f"{PLACE}/?a=1"),
        (f"{PLACE}/b/c?token={TOKEN}", f"{PLACE}/b/c"),
    ):
        made = rig(tls_public=True)
        made.desk.tokens["x"] = "ada"
        client = made.asked(plain(target, "Accept: text/html,*/*;q=0.8", token=False))
        head, body = answer_in(client.read())
        assert (head.status, head.one("Location"), body) == (302, told, b"")
        assert TOKEN.encode() not in head.render()
        value, *attributes = (head.one("Set-Cookie") or "").split("; ")
        assert value.startswith("vsmgate_session=")
        assert attributes == [
            f"Path={PLACE}",
            "Max-Age=600",
            "HttpOnly",
            "SameSite=Lax",
            "Secure",
        ]
        assert made.dials == 0
        made.asked(plain(f"{PLACE}/", "Accept: text/html", f"Cookie: {value}", token=False))
        asked = made.service().read()
        assert b"vsmgate_session" not in asked
    head, _ = answer_in(rig().asked(plain(PLACE, "Accept: text/html")).read())
    assert (head.status, head.one("Location")) == (302, f"{PLACE}/"), "below which its pages are"


@pytest.mark.parametrize("said", ["", "Cache-Control: public", "Connection: Cache-Control"])
def test_an_answer_with_a_session_is_kept_by_nobody(said: str) -> None:
    lines = ["HTTP/1.1 200 OK", "Cache-Control: max-age=60", "Content-Length: 0", said, ""]
    answer = "\r\n".join([*filter(None, lines), "", ""]).encode()
    head, _ = answered(rig(), plain(f"{PLACE}/"), answer)
    assert (head.one("Set-Cookie") or "").startswith("vsmgate_session=")
    assert head.all("Cache-Control") == ("no-store",)


def test_a_session_alone() -> None:
    made = rig()
    cookie = session_of(made)
    client, service = exchange(made, plain(f"{PLACE}/x", f"Cookie: {cookie}; a=b", token=False))
    assert head_in(service.read()).one("Cookie") == "a=b"
    service.send(OK)
    assert answer_in(client.read())[0].one("Set-Cookie") is None


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8888", "https://good.example"])
def test_a_session_with_an_origin_of_ours(origin: str) -> None:
    made = rig(allowed_origins=("https://good.example",))
    cookie = session_of(made)
    before = made.dials
    made.asked(request(PLACE, f"Cookie: {cookie}", f"Origin: {origin}"))
    made.asked(
        plain(f"{PLACE}/x", f"Cookie: {cookie}", f"Origin: {origin}", method="DELETE", token=False)
    )
    assert made.dials == before + 2


@pytest.mark.parametrize("origin", [[], ["Origin: null"], ["Origin: https://evil.example"]])
def test_no_page_of_others_can_use_a_session(origin: list[str]) -> None:
    """Cross-site WebSocket hijacking, and forged requests."""
    made = rig()
    lines = [f"Cookie: {session_of(made)}", *origin]
    before = made.dials
    for octets in (
        request(PLACE, *lines),
        request(f"{PLACE}/ws", *lines),
        plain(f"{PLACE}/x", *lines, "Content-Length: 0", method="POST", token=False),
        plain(f"{PLACE}/x", *lines, method="DELETE", token=False),
    ):
        assert problem(made.asked(octets))[1]["code"] == "origin_refused"
    assert made.dials == before


def test_sessions_of_others() -> None:
    made = rig()
    cookie = session_of(made)
    other = Rig(FakeDesk(renderer=web(), backend=web()))
    before = other.dials
    for target, value in [
        (f"/{JOB}/backend/", cookie),
        (f"{PLACE}/", cookie[:-1] + ("A" if cookie[-1] != "A" else "Q")),
        (f"{PLACE}/", "vsmgate_session="),
        (f"{PLACE}/", "a=b"),
    ]:
        client = other.asked(plain(target, f"Cookie: {value}", token=False))
        assert problem(client)[0] == 401
    assert other.dials == before


def test_services_without_pages_take_none() -> None:
    made = Rig()
    for octets, status in (
        (plain(f"{PLACE}/x"), 404),
        (plain(f"{PLACE}/"), 404),
        (request(f"{PLACE}/x?token={TOKEN}"), 404),
        (plain(PLACE, "Content-Length: 0", method="POST"), 405),
        (plain(PLACE, "Content-Length: 2") + b"hi", 400),
        (plain(PLACE, "Transfer-Encoding: chunked"), 400),
    ):
        assert problem(made.asked(octets))[0] == status
    assert made.dials == 0


@pytest.mark.criterion("S-6")
@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "TRACK"])
def test_methods_that_are_for_proxies_reach_nobody(method: str) -> None:
    """An echo would show the job's secret to whoever may open the page."""
    made = rig(web(secret=True))
    assert problem(made.asked(plain(f"{PLACE}/", method=method)))[0] == 405
    assert made.dials == 0


SMUGGLING = [
    plain(f"{PLACE}/", "Content-Length: 5", "Transfer-Encoding: chunked", method="POST"),
    plain(f"{PLACE}/", "Content-Length: 5", "Content-Length: 6", method="POST"),
    plain(f"{PLACE}/", "Content-Length: 5", "Content-Length: 5", method="POST"),
    plain(f"{PLACE}/", "Content-Length: +5", method="POST"),
    plain(f"{PLACE}/", "Transfer-Encoding: xchunked", method="POST"),
    plain(f"{PLACE}/", "Transfer-Encoding: chunked, identity", method="POST"),
    plain(f"{PLACE}/", "Transfer-Encoding : chunked", method="POST"),
    plain(f"{PLACE}/", "Transfer-Encoding:", " chunked", method="POST"),
    plain(f"{PLACE}/", "X: a\rTransfer-Encoding: chunked", method="POST"),
    plain(f"{PLACE}/", "X: a\nTransfer-Encoding: chunked", method="POST"),
    plain(f"{PLACE}/", "Host: other"),
    plain(f"http://other{PLACE}/"),
    plain(f"{PLACE}/\xe9"),
    plain(f"{PLACE}/").replace(b"HTTP/1.1", b"HTTP/1.0"),
    plain(f"{PLACE}/").replace(b"HTTP/1.1", b"HTTP/2.0"),
    plain(f"{PLACE}/", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"),
    plain(f"{PLACE}/", "Sec-WebSocket-Key: x"),
    b"CONNECT 10.0.0.1:22 HTTP/1.1\r\nHost: 10.0.0.1:22\r\n\r\n",
]


@pytest.mark.criterion("S-12")
@pytest.mark.parametrize("octets", SMUGGLING, ids=range(len(SMUGGLING)))
def test_doubtful_requests_reach_nobody(octets: bytes) -> None:
    made = rig()
    client = made.asked(octets)
    assert problem(client)[0] in (400, 426)
    client.send(plain(f"{PLACE}/admin"))
    assert made.dials == 0
    assert made.desk.shown == []


@pytest.mark.criterion("S-12")
def test_nothing_follows_a_request() -> None:
    """A second request in the same connection is dropped, whatever the first one's framing."""
    second = plain(f"{PLACE}/admin")
    for head, body in (
        (plain(f"{PLACE}/"), b""),
        (plain(f"{PLACE}/", "Content-Length: 3", method="POST"), b"abc"),
        (
            plain(f"{PLACE}/", "Transfer-Encoding: chunked", method="POST"),
            b"3\r\nabc\r\n0\r\n\r\n",
        ),
    ):
        for octets in ([head + body + second], [head, body, second], [head + body, second]):
            made = rig()
            client = made.client()
            client.send(octets[0])
            service = made.service()
            for piece in octets[1:]:
                client.send(piece)
            sent = service.read()
            assert sent.endswith(b"\r\n\r\n" + body)
            assert b"admin" not in sent
            service.send(OK)
            client.send(second)
            assert answer_in(client.read())[1] == b"hi"


@pytest.mark.parametrize(
    "body", [b"5\nabcde", b"0\r\nX-Vsmgate-User: root\r\n\r\n", b"2\r\nabc\r\n", b"zz\r\n"]
)
def test_malformed_chunks_go_no_further(body: bytes) -> None:
    made = rig()
    client = made.asked(plain(f"{PLACE}/", "Transfer-Encoding: chunked", method="POST"))
    service = made.service()
    service.read()
    client.send(body)
    assert b"root" not in service.read()
    assert service.aborted
    assert problem(client)[0] == 400


@pytest.mark.parametrize(
    ("octets", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "length"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1.0"),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nsecret", "protocol"),
        (b"SSH-2.0-x\r\n\r\n", "HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nA: b\nSet-Cookie: c\r\n\r\n", "control"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 20000, "16384"),
    ],
)
def test_bad_answers(octets: bytes, told: str) -> None:
    made = rig()
    client, service = exchange(made, plain(f"{PLACE}/"))
    service.send(octets)
    assert b"secret" not in client.value()
    status, body = problem(client)
    assert (status, body["code"]) == (502, "bad_answer")
    assert told in body["detail"]
    assert service.aborted


def test_no_answer() -> None:
    made = rig()
    client, service = exchange(made, plain(f"{PLACE}/"))
    service.drop()
    assert problem(client)[1]["code"] == "bad_answer"
    client, service = exchange(made, plain(f"{PLACE}/"))
    made.clock.pump([5.0] * 40)
    assert problem(client)[0] == 504
    assert service.aborted
    client = made.asked(plain(f"{PLACE}/"))
    made.refuse_dial()
    assert problem(client)[1]["code"] == "service_refused"


def test_interim_answers_pass() -> None:
    made = rig()
    client, service = exchange(
        made, plain(f"{PLACE}/", "Expect: 100-continue", "Content-Length: 3", method="POST")
    )
    assert head_in(service.read()).one("Expect") == "100-continue"
    service.send(b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n")
    assert client.read() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert service.read() == b"abc"
    service.send(b"HTTP/1.1 103 Hints\r\n\r\n" + OK)
    octets = client.read()
    assert octets.startswith(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert octets.endswith(b"\r\n\r\nhi")


def test_answers_without_and_with_their_own_end() -> None:
    for method, answer, rest, expected in (
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"more", b""),
        ("GET", b"HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", b"more", b""),
        ("GET", b"HTTP/1.1 204 No\r\n\r\n", b"more", b""),
        (
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2\r\nhi\r\n0\r\n\r\nmore",
            b"2\r\nhi\r\n0\r\n\r\n",
        ),
    ):
        made = rig()
        client, service = exchange(made, plain(f"{PLACE}/", method=method))
        service.send(answer + rest)
        assert answer_in(client.read())[1] == expected
        assert client.half_closed
        assert service.aborted


def test_an_answer_that_ends_with_the_connection() -> None:
    made = rig()
    client, service = exchange(made, plain(f"{PLACE}/"))
    service.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhel")
    service.send(b"lo")
    assert not client.half_closed
    service.drop()
    head, body = answer_in(client.read())
    assert (head.status, body) == (200, b"hello")
    assert client.half_closed


def test_an_answer_cut_short_shows() -> None:
    made = rig()
    client, service = exchange(made, plain(f"{PLACE}/"))
    service.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")
    service.drop()
    assert answer_in(client.read())[1] == b"hel"
    assert client.half_closed or client.aborted


@pytest.mark.parametrize(
    ("prefix", "said", "told"),
    [
        (Prefix.STRIP, "/a?b", f"{PLACE}/a?b"),
        (Prefix.STRIP, f"{PLACE}/a", f"{PLACE}/a"),
        (Prefix.STRIP, f"{PLACE}x/a", f"{PLACE}{PLACE}x/a"),
        (Prefix.STRIP, "http://10.0.0.1:5000/a", f"{PLACE}/a"),
        (Prefix.STRIP, "http://10.0.0.1:5000", f"{PLACE}/"),
        (Prefix.STRIP, "//10.0.0.1:5000/a", f"{PLACE}/a"),
        (Prefix.STRIP, "http://10.0.0.1:50001/a", "http://10.0.0.1:50001/a"),
        (Prefix.STRIP, "https://other.example/a", "https://other.example/a"),
        (Prefix.STRIP, "a/b", "a/b"),
        (Prefix.KEEP, f"{PLACE}/a", f"{PLACE}/a"),
        (Prefix.KEEP, f"http://10.0.0.1:5000{PLACE}/a", f"{PLACE}/a"),
    ],
)
def test_redirects_stay_below_the_service(prefix: Prefix, said: str, told: str) -> None:
    answer = f"HTTP/1.1 302 Found\r\nLocation: {said}\r\nContent-Length: 0\r\n\r\n"
    head, _ = answered(rig(web(prefix)), plain(f"{PLACE}/x"), answer.encode())
    assert head.one("Location") == told


@pytest.mark.criterion("S-24")
def test_what_a_service_says_reaches_no_further_than_its_path() -> None:
    lines = [
        "Set-Cookie: a=1; Path=/; Domain=example.org; HttpOnly",
        "Set-Cookie: b=2; Path=/app",
        f"Set-Cookie: c=3; path={PLACE}/app",
        "Set-Cookie: d=4",
        "Set-Cookie: vsmgate_session=stolen; Path=/",
        "Set-Cookie: =vsmgate_session=stolen; Path=/",
        "Set-Cookie: vsmgate_session",
        "Set-Cookie2: e=5; Path=/",
        'NEL: {"report_to": "g", "max_age": 9, "success_fraction": 1}',
        'Report-To: {"group": "g", "endpoints": [{"url": "https://evil.example"}]}',
        'Reporting-Endpoints: g="https://evil.example"',
        "Accept-CH: Sec-CH-UA",
        "Service-Worker-Allowed: /",
        "Clear-Site-Data: *",
        "Strict-Transport-Security: max-age=1",
        "Alt-Svc: h3",
        "Content-Length: 0",
    ]
    answer = "\r\n".join(["HTTP/1.1 200 OK", *lines, "", ""]).encode()
    made = rig()
    cookie = session_of(made)
    head, _ = answered(made, plain(f"{PLACE}/", f"Cookie: {cookie}", token=False), answer)
    assert head.headers == (
        ("Set-Cookie", f"a=1; HttpOnly; Path={PLACE}"),
        ("Set-Cookie", f"b=2; Path={PLACE}/app"),
        ("Set-Cookie", f"c=3; Path={PLACE}/app"),
        ("Set-Cookie", f"d=4; Path={PLACE}"),
        ("Content-Length", "0"),
        ("Connection", "close"),
    )


def test_pages_leave_the_places_of_websockets_alone() -> None:
    made = rig(web(max_clients=1), max_per_user=2)
    made.opened(request(PLACE, f"Authorization: Bearer {TOKEN}"))
    client, service = exchange(made, plain(f"{PLACE}/"))
    assert problem(made.asked(plain(f"{PLACE}/")))[1]["code"] == "quota_exceeded"
    service.send(OK)
    client.drop()
    made.settle()
    exchange(made, plain(f"{PLACE}/"))


def test_a_slow_reader_pauses_the_service_and_a_slow_service_the_client() -> None:
    made = rig()
    client, service = exchange(made, plain(f"{PLACE}/", "Content-Length: 100", method="POST"))
    assert client.producer is not None
    client.producer.pauseProducing()
    assert service.paused
    client.producer.resumeProducing()
    assert not service.paused
    assert service.producer is not None
    service.producer.pauseProducing()
    assert client.paused
    service.producer.resumeProducing()
    assert not client.paused


def test_a_client_that_goes_takes_its_request_along() -> None:
    made = rig()
    client, service = exchange(made, plain(f"{PLACE}/"))
    client.drop()
    assert service.aborted
    made.settle()
    assert (made.relay.relays, made.clock.getDelayedCalls()) == (0, [])
    assert made.watcher.told[-1] == ("closed", "renderer", "client")
    client, service = exchange(made, plain(f"{PLACE}/"))
    client.protocol.readConnectionLost()
    assert service.aborted
    assert client.disconnecting


def test_an_answer_without_end_may_be_idle_for_so_long_only() -> None:
    made = rig(web(idle_timeout=600.0), stall_timeout=20.0)
    client, service = exchange(made, plain(f"{PLACE}/"))
    service.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
    made.clock.pump([5.0] * 118)
    assert not client.aborted
    made.clock.pump([5.0] * 40)
    assert client.aborted
    assert service.aborted
    made.settle()
    assert made.clock.getDelayedCalls() == []


def test_who_reads_nothing_of_an_answer_is_dropped_sooner() -> None:
    made = rig(web(idle_timeout=600.0), stall_timeout=20.0)
    client, service = exchange(made, plain(f"{PLACE}/"))
    client.dataBuffer = b"data: 1"  # what Twisted's transport keeps for a slow reader
    service.send(b"HTTP/1.1 200 OK\r\n\r\ndata: 1")
    made.clock.pump([5.0] * 8)
    assert client.aborted
    assert service.aborted


def test_a_client_that_stays_after_its_answer_is_dropped() -> None:
    made = rig()
    client, service = exchange(made, plain(f"{PLACE}/"))
    service.send(OK)
    assert client.half_closed
    assert not client.aborted
    made.clock.pump([0.5] * 8)
    assert client.aborted
    assert made.clock.getDelayedCalls() == []


def test_the_job_ends() -> None:
    made = rig()
    gone = replace(made.desk.job, reason=Reason("idle", "Nobody used it."))
    client, service = exchange(made, plain(f"{PLACE}/"))
    other, busy = exchange(made, plain(f"{PLACE}/"))
    busy.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
    for call in list(made.desk.calls):
        call(gone)
    made.settle()
    status, body = problem(client)
    assert (status, body["detail"]) == (410, "Nobody used it.")
    assert service.aborted
    assert other.aborted
    assert busy.aborted


def test_draining_waits_for_answers() -> None:
    made = rig(drain=30.0, drain_spread=0.0)
    client, service = exchange(made, plain(f"{PLACE}/"))
    done: list[object] = []
    made.relay.drain().addCallback(done.append)
    late = made.asked(plain(f"{PLACE}/"))
    assert problem(late)[0] == 503
    late.drop()
    assert not done
    service.send(OK)
    assert answer_in(client.read())[1] == b"hi"
    client.drop()
    made.settle()
    assert done


@pytest.mark.criterion("S-5")
def test_no_secret_is_told() -> None:
    made = rig()
    cookie = session_of(made)
    for octets in (
        plain(f"{PLACE}/x?token={TOKEN}", token=False),
        plain(f"{PLACE}/x", f"Cookie: {cookie}", token=False),
        plain(f"{PLACE}/x", f"Cookie: {cookie}", method="POST", token=False),
    ):
        client = made.asked(octets)
        if client.value():
            assert TOKEN not in json.dumps(problem(client)[1])
        else:
            service = made.service()
            asked = service.read()
            assert TOKEN.encode() not in asked
            assert cookie.encode() not in asked
