from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.errors import (
    BadHandshake,
    BadRequest,
    GatewayError,
    HeadTooLarge,
    MethodNotAllowed,
    UpgradeRequired,
    UriTooLong,
)
from vsmgate.heads import (
    MAX_HEAD,
    MAX_HEADERS,
    MAX_TARGET,
    HeadReader,
    RequestHead,
    ResponseHead,
    parse_request,
    request_reader,
    response_reader,
)
from vsmgate.upgrades import Upgrade, deflate_only, upgrade_of

GOOD = (
    b"GET /job/renderer?a=1 HTTP/1.1\r\n"
    b"Host: vis.example.org:8888\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)


def changed(old: bytes, new: bytes, octets: bytes = GOOD) -> bytes:
    assert old in octets
    return octets.replace(old, new, 1)


def with_line(line: bytes) -> bytes:
    return changed(b"Upgrade: websocket\r\n", b"Upgrade: websocket\r\n" + line)


def outcome(octets: bytes) -> RequestHead | type[GatewayError] | None:
    """What one feeding comes to."""
    try:
        head = request_reader().feed(octets)
        if head is not None:
            upgrade_of(head)
    except GatewayError as error:
        return type(error)
    return head


REFUSED = {
    "bare LF": (GOOD.replace(b"\r\n", b"\n"), BadRequest),
    "one bare LF": (changed(b"websocket\r\n", b"websocket\n"), BadRequest),
    "bare LF at the end": (GOOD[:-4] + b"\n\n", BadRequest),
    "bare CR in a value": (changed(b"keep-alive", b"keep\ralive"), BadRequest),
    "CR CR LF": (changed(b"websocket\r\n", b"websocket\r\r\n"), BadRequest),
    "folded line": (changed(b"keep-alive, ", b"keep-alive,\r\n "), BadRequest),
    "folded with a tab": (changed(b"keep-alive, ", b"keep-alive,\r\n\t"), BadRequest),
    "space before colon": (changed(b"Upgrade: w", b"Upgrade : w"), BadRequest),
    "tab before colon": (changed(b"Upgrade: w", b"Upgrade\t: w"), BadRequest),
    "no colon": (with_line(b"nonsense\r\n"), BadRequest),
    "empty name": (with_line(b": x\r\n"), BadRequest),
    "name with a quote": (with_line(b'X"Y: x\r\n'), BadRequest),
    "NUL in a value": (with_line(b"X: a\0b\r\n"), BadRequest),
    "ESC in a value": (with_line(b"X: a\x1bb\r\n"), BadRequest),
    "DEL in the target": (changed(b"a=1", b"a=\x7f"), BadRequest),
    "NUL in the target": (changed(b"a=1", b"a=\0"), BadRequest),
    "HTTP/1.0": (changed(b"HTTP/1.1", b"HTTP/1.0"), BadRequest),
    "HTTP/0.9": (b"GET /\r\n\r\n", BadRequest),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BadRequest),
    "lower case version": (changed(b"HTTP/1.1", b"http/1.1"), BadRequest),
    "absolute form": (changed(b"GET /", b"GET http://evil.example/"), BadRequest),
    "authority form": (changed(b"GET /job/renderer?a=1", b"CONNECT a:80"), BadRequest),
    "asterisk form": (changed(b"/job/renderer?a=1", b"*"), BadRequest),
    "two spaces": (changed(b"GET ", b"GET  "), BadRequest),
    "space at the end": (changed(b"HTTP/1.1", b"HTTP/1.1 "), BadRequest),
    "fragment": (changed(b"a=1", b"a=1#x"), BadRequest),
    "umlaut in the target": (changed(b"a=1", b"a=\xc3\xbc"), BadRequest),
    "empty first line": (b"\r\n" + GOOD, BadRequest),
    "nothing but an end": (b"\r\n\r\n", BadRequest),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01", BadRequest),
    "no Host": (changed(b"Host: vis.example.org:8888\r\n", b""), BadRequest),
    "two Hosts": (with_line(b"Host: vis.example.org:8888\r\n"), BadRequest),
    "empty Host": (changed(b"vis.example.org:8888", b""), BadRequest),
    "Host with a path": (changed(b"vis.example.org:8888", b"a/b"), BadRequest),
    "Host with a user": (changed(b"vis.example.org:8888", b"a@b"), BadRequest),
    "body": (with_line(b"Content-Length: 10\r\n"), BadRequest),
    "odd length": (with_line(b"Content-Length: +0\r\n"), BadRequest),
    "two lengths": (with_line(b"Content-Length: 0\r\ncontent-length: 0\r\n"), BadRequest),
    "chunked": (with_line(b"Transfer-Encoding: chunked\r\n"), BadRequest),
    "xchunked": (with_line(b"Transfer-Encoding: xchunked\r\n"), BadRequest),
    "length and chunked": (
        with_line(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        BadRequest,
    ),
    "two keys": (with_line(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), BadRequest),
    "no key": (changed(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""), BadRequest),
    "short key": (changed(b"dGhlIHNhbXBsZSBub25jZQ==", b"dGhlIHNhbXBs"), BadRequest),
    "key of 17 octets": (changed(b"b25jZQ==", b"b25jZQA="), BadRequest),
    "key with a space": (changed(b"dGhlIHNh", b"dGhl HNh"), BadRequest),
    "two versions": (with_line(b"Sec-WebSocket-Version: 13\r\n"), BadRequest),
    "two Origins": (with_line(b"Origin: http://a\r\nOrigin: http://a\r\n"), BadRequest),
    "same subprotocol twice": (with_line(b"Sec-WebSocket-Protocol: a, a\r\n"), BadRequest),
    "subprotocol no token": (with_line(b"Sec-WebSocket-Protocol: a b\r\n"), BadRequest),
    "broken extension": (
        with_line(b"Sec-WebSocket-Extensions: permessage-deflate;;\r\n"),
        BadRequest,
    ),
    "version 8": (changed(b"Version: 13", b"Version: 8"), UpgradeRequired),
    "no version": (changed(b"Sec-WebSocket-Version: 13\r\n", b""), UpgradeRequired),
    "h2c": (changed(b"Upgrade: websocket", b"Upgrade: h2c"), UpgradeRequired),
    "no Upgrade": (changed(b"Upgrade: websocket\r\n", b""), UpgradeRequired),
    "keep-alive only": (changed(b"keep-alive, Upgrade", b"keep-alive"), UpgradeRequired),
    "no Connection": (changed(b"Connection: keep-alive, Upgrade\r\n", b""), UpgradeRequired),
    "POST": (changed(b"GET", b"POST"), MethodNotAllowed),
    "POST with a body": (
        changed(b"GET", b"POST", with_line(b"Content-Length: 10\r\n")),
        MethodNotAllowed,
    ),
    "HEAD": (changed(b"GET", b"HEAD"), MethodNotAllowed),
    "long target": (changed(b"a=1", b"a" * MAX_TARGET), UriTooLong),
    "endless target": (b"GET /" + b"a" * 6000, UriTooLong),
    "endless header": (GOOD[:-2] + b"X: " + b"a" * MAX_HEAD, HeadTooLarge),
    "large head": (GOOD[:-2] + b"X: " + b"a" * MAX_HEAD + b"\r\n\r\n", HeadTooLarge),
    "endless method": (b"A" * (MAX_HEAD + 1), HeadTooLarge),
    "65 headers": (GOOD[:-2] + b"X: a\r\n" * 60 + b"\r\n", HeadTooLarge),
}


@pytest.mark.criterion("S-12")
@pytest.mark.parametrize(("octets", "expected"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(octets: bytes, expected: type[GatewayError]) -> None:
    assert outcome(octets) is expected
    assert in_pieces(octets, [1] * len(octets)) is expected


def in_pieces(octets: bytes, sizes: list[int]) -> RequestHead | type[GatewayError] | None:
    reader = request_reader()
    at, head = 0, None
    try:
        for size in [*sizes, len(octets)]:
            if head is None and at < len(octets):
                head = reader.feed(octets[at : at + size])
                at += size
        if head is not None:
            upgrade_of(head)
    except GatewayError as error:
        return type(error)
    return head


def test_read() -> None:
    reader = request_reader()
    head = reader.feed(GOOD + b"\x81\x80early\r\n\r\n")
    assert head is not None
    assert reader.rest == b"\x81\x80early\r\n\r\n"
    assert (head.method, head.path, head.query) == ("GET", "/job/renderer", "a=1")
    assert head.one("HOST") == "vis.example.org:8888"
    assert head.tokens("connection") == ("keep-alive", "Upgrade")
    assert head.render() == GOOD
    assert upgrade_of(head) == Upgrade("dGhlIHNhbXBsZSBub25jZQ==", (), "")


@pytest.mark.criterion("C-17")
def test_every_split_in_two() -> None:
    octets = GOOD + b"early\nwith\rall \0kinds"
    whole = request_reader()
    expected = whole.feed(octets)
    for at in range(len(octets) + 1):
        reader = request_reader()
        first = reader.feed(octets[:at])
        if first is None:
            assert reader.feed(octets[at:]) == expected
            assert reader.rest == whole.rest
        else:
            assert first == expected
            assert reader.rest + octets[at:] == whole.rest


@given(st.sampled_from(list(REFUSED)), st.lists(st.integers(1, 5000), max_size=6))
def test_no_split_changes_a_refusal(name: str, sizes: list[int]) -> None:
    octets, expected = REFUSED[name]
    assert in_pieces(octets, sizes) is expected


@given(st.binary(max_size=200), st.lists(st.integers(1, 9), max_size=40))
def test_no_split_changes_anything(octets: bytes, sizes: list[int]) -> None:
    mixed = changed(b"a=1\r"[:3], octets)
    assert in_pieces(mixed, sizes) == in_pieces(mixed, [])


tokens = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=20)
values = st.text(
    [chr(c) for c in [*range(0x21, 0x7F), *range(0x80, 0x100), 0x20, 0x09]], max_size=30
).map(lambda text: text.strip("\t "))
targets = st.text([chr(c) for c in range(0x21, 0x7F) if c != ord("#")], max_size=50).map(
    "/".__add__
)


@given(tokens, targets, st.lists(st.tuples(tokens, values), max_size=10))
def test_request_survives_rendering(method: str, target: str, pairs: list[tuple[str, str]]) -> None:
    fields = (("Host", "x"), *(pair for pair in pairs if pair[0].lower() != "host"))
    head = RequestHead(method=method, target=target, headers=fields)
    assert request_reader().feed(head.render()) == head


@given(
    st.integers(100, 999),
    st.text([chr(c) for c in range(0x20, 0x7F)], max_size=20),
    st.lists(st.tuples(tokens, values), max_size=10),
)
def test_response_survives_rendering(
    status: int, reason: str, pairs: list[tuple[str, str]]
) -> None:
    head = ResponseHead(status=status, reason=reason, headers=tuple(pairs))
    assert response_reader().feed(head.render()) == head


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.0 101 X\r\n\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 X\r\nSet-Cookie: a\nX: b\r\n\r\n",
        b"HTTP/1.1 101 X\r\nA: b\rc\r\n\r\n",
        b"HTTP/1.1 101 X\r\nA: b\0\r\n\r\n",
        b"HTTP/1.1 101 X\r\n A: b\r\n\r\n",
        b"HTTP/1.1 1O1 X\r\n\r\n",
        b"HTTP/1.1 " + b"1" * 5000 + b"\r\n\r\n",
        b"HTTP/1.1 101 X\r\nSec-WebSocket-Protocol: " + b"a" * 1_000_000,
    ],
)
def test_bad_answers(octets: bytes) -> None:
    with pytest.raises(BadHandshake):
        response_reader().feed(octets)
    reader: HeadReader[ResponseHead] = response_reader()

    def one_by_one() -> None:
        for at in range(len(octets)):
            reader.feed(octets[at : at + 1])

    with pytest.raises(BadHandshake):
        one_by_one()


def test_status_line_without_reason() -> None:
    head = response_reader().feed(b"HTTP/1.1 101\r\n\r\n")
    assert head == ResponseHead(status=101)


@pytest.mark.criterion("S-11")
def test_limits_are_exact() -> None:
    target = b"/" + b"a" * (MAX_TARGET - 1)
    head = parse_request(b"GET " + target + b" HTTP/1.1\r\nHost: x")
    assert len(head.target) == MAX_TARGET
    start = b"GET / HTTP/1.1\r\nHost: x\r\n"
    assert request_reader().feed(start + b"X: a\r\n" * (MAX_HEADERS - 1) + b"\r\n") is not None
    fill = MAX_HEAD - len(start) - len(b"X: \r\n\r\n")
    assert request_reader().feed(start + b"X: " + b"a" * fill + b"\r\n\r\n") is not None
    with pytest.raises(HeadTooLarge):
        request_reader().feed(start + b"X: " + b"a" * (fill + 1) + b"\r\n\r\n")


@pytest.mark.criterion("C-13")
@pytest.mark.parametrize(
    ("connection", "upgrade"),
    [
        ("keep-alive, Upgrade", "websocket"),
        ("Upgrade", "WebSocket"),
        ("upgrade, foo", "websocket"),
        (",upgrade ,", "websocket"),
        ("UPGRADE", "h2c, websocket"),
    ],
)
def test_upgrades(connection: str, upgrade: str) -> None:
    octets = changed(b"keep-alive, Upgrade", connection.encode())
    head = request_reader().feed(changed(b": websocket", b": " + upgrade.encode(), octets))
    assert head is not None
    assert upgrade_of(head) is not None


@pytest.mark.criterion("C-13")
def test_two_connection_headers() -> None:
    octets = changed(b"keep-alive, Upgrade", b"keep-alive\r\nconnection: Upgrade")
    head = request_reader().feed(octets)
    assert head is not None
    assert upgrade_of(head) is not None


def test_a_plain_get() -> None:
    assert upgrade_of(parse_request(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive")) is None


@pytest.mark.parametrize(
    ("values", "kept"),
    [
        ((), ""),
        (("permessage-deflate; client_max_window_bits",),) * 2,
        (("permessage-deflate;client_max_window_bits ,\tpermessage-deflate",),) * 2,
        (('permessage-deflate; server_max_window_bits="10"',),) * 2,
        (("x-webkit-deflate-frame, permessage-deflate ; a=b",), "permessage-deflate ; a=b"),
        (("permessage-bzip2",), ""),
        (
            ("permessage-deflate", "permessage-deflate; x"),
            "permessage-deflate, permessage-deflate; x",
        ),
        ((" , Permessage-Deflate",), " , Permessage-Deflate"),
        (("permessage-deflate; =x",), None),
        (('permessage-deflate; a="b,c"',), None),
        (("permessage deflate",), None),
    ],
)
def test_compression_offers(values: tuple[str, ...], kept: str | tuple[str] | None) -> None:
    expected = kept[0] if isinstance(kept, tuple) else kept
    assert deflate_only(values) == expected
