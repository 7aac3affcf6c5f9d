"""Where bodies end: every split gives the same answer, and doubtful ones are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsmgate.bodies import (
    MAX_LINE,
    MAX_TRAILERS,
    Chunked,
    Endless,
    Sized,
    request_body,
    response_body,
)
from vsmgate.errors import BadAnswer, BadRequest
from vsmgate.heads import RequestHead, ResponseHead


def request(*headers: tuple[str, str], method: str = "POST") -> RequestHead:
    return RequestHead(method=method, target="/", headers=(("Host", "x"), *headers))


def response(*headers: tuple[str, str], status: int = 200) -> ResponseHead:
    return ResponseHead(status=status, headers=headers)


CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "5"), CHUNKED],
        [CHUNKED, ("Content-Length", "5")],
        [("Content-Length", "5"), ("Content-Length", "5")],
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "5, 5")],
        [("Content-Length", "+5")],
        [("Content-Length", "-1")],
        [("Content-Length", "0x5")],
        [("Content-Length", "")],
        [("Content-Length", "5 ")],
        [("Content-Length", "5_0")],
        [("Content-Length", "\xb2")],
        [("Content-Length", "9" * 19)],
        [CHUNKED, CHUNKED],
        [("Transfer-Encoding", "xchunked")],
        [("Transfer-Encoding", "identity")],
        [("Transfer-Encoding", "gzip, chunked")],
        [("Transfer-Encoding", "chunked, identity")],
        [("Transfer-Encoding", "chunked;q=1")],
        [("Transfer-Encoding", "\x0bchunked")],
        [("Transfer-Encoding", "")],
    ],
)
def test_doubtful_lengths(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(BadRequest):
        request_body(request(*headers))
    with pytest.raises(BadAnswer):
        response_body(response(*headers), "GET")


def test_lengths() -> None:
    assert request_body(request()).done
    assert request_body(request(("content-length", "0"))).done
    body = request_body(request(("Content-Length", "5")))
    assert (body.feed(b"abc"), body.done) == (3, False)
    assert (body.feed(b"deGET /"), body.done) == (2, True)
    assert (body.feed(b"more"), body.done) == (0, True)
    assert isinstance(request_body(request(("transfer-ENCODING", "Chunked"))), Chunked)


def test_answers_without_a_body() -> None:
    for method, status in (("HEAD", 200), ("GET", 204), ("GET", 304)):
        for headers in ([("Content-Length", "5")], [CHUNKED], []):
            assert response_body(response(*headers, status=status), method).done
    assert isinstance(response_body(response(), "GET"), Endless)
    assert isinstance(response_body(response(("Content-Length", "5")), "GET"), Sized)
    assert not response_body(response(CHUNKED), "POST").done


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.lists(st.integers(1, 9), max_size=60),
    st.binary(max_size=9),
)
def test_chunks_in_any_split(parts: list[bytes], sizes: list[int], after: bytes) -> None:
    whole = chunks(*parts)
    body = Chunked(BadRequest, trailers=False)
    octets, at, taken = whole + after, 0, 0
    for size in [*sizes, len(octets)]:
        piece = octets[at : at + size]
        at += size
        used = body.feed(piece)
        taken += used
        assert used == len(piece) or body.done
    assert (taken, body.done) == (len(whole), True)


@pytest.mark.parametrize(
    "octets",
    [
        b"\n",
        b"5\nabcde\r\n0\r\n\r\n",
        b"5\r\nabcdef\r\n",
        b"5\r\nabcde\n",
        b"5\r\nabcde0\r\n\r\n",
        b" 5\r\nabcde\r\n",
        b"+5\r\n",
        b"-5\r\n",
        b"0x5\r\n",
        b"5g\r\n",
        b";a=b\r\n",
        b"1234567890abcdef\r\n",
        b"5;a=\x00\r\n",
        b"5;a=\r\r\n",
        b"5 \r\n",
        b"0\r\nX-Vsmgate-User: root\r\n\r\n",
        b"0\r\n\n",
        b"5;" + b"a" * MAX_LINE,
    ],
)
def test_malformed_chunks(octets: bytes) -> None:
    for pieces in ([octets], [octets[at : at + 1] for at in range(len(octets))]):
        body = Chunked(BadRequest, trailers=False)
        with pytest.raises(BadRequest):
            list(map(body.feed, pieces))
        assert not body.done


def test_extensions_and_trailers() -> None:
    body = Chunked(BadAnswer, trailers=True)
    octets = b"5;a=b\r\nabcde\r\n0\r\nETag: x\r\nServer-Timing: a;b\r\n\r\nHTTP/1.1"
    assert (body.feed(octets), body.done) == (len(octets) - 8, True)
    for trailer in (b"A: b\r\n" * (MAX_TRAILERS + 1), b" folded\r\n", b"A : b\r\n", b"A: \x00\r\n"):
        with pytest.raises(BadAnswer):
            Chunked(BadAnswer, trailers=True).feed(b"0\r\n" + trailer)


def test_a_large_chunk_costs_one_step() -> None:
    body = Chunked(BadRequest, trailers=False)
    body.feed(b"FFFFFFFF\r\n")
    piece = bytes(65536)
    for _ in range(1000):
        assert body.feed(piece) == 65536
    assert not body.done
