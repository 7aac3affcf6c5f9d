"""Clients that ask and do not read: what waits for them stays small, and not for ever."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.testing import StringTransport

from tests.api.conftest import Wire
from vsmgate.api.stream import PIECE, STALLED

pytestmark = pytest.mark.criterion("S-10")

ASK = b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n"
SHORT = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Full(StringTransport):
    """A transport whose peer reads nothing: everything written is still in it."""

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.producer is not None:
            self.producer.pauseProducing()

    def loseConnection(self) -> None:
        self.disconnecting = True

    def read(self) -> bytes:
        """Let the peer read all."""
        value = self.value()
        self.clear()
        self.producer.resumeProducing()
        return value


@pytest.fixture
def full(face: Any, monkeypatch: pytest.MonkeyPatch) -> Wire:
    monkeypatch.setattr("tests.api.conftest.StringTransport", Full)
    wire: Wire = face.wire()
    return wire


def test_the_next_request_waits_until_the_answer_before_was_taken(full: Wire) -> None:
    full.channel.dataReceived(SHORT * 100)
    transport: Any = full.transport
    for _ in range(3):
        assert transport.read().count(b"HTTP/1.1 200 ") == 1
    full.hang_up()


def test_who_does_not_read_is_not_read_from(full: Wire) -> None:
    transport: Any = full.transport
    for _ in range(2):
        full.channel.dataReceived(SHORT)
    assert transport.producerState == "paused"
    assert transport.read().count(b"HTTP/1.1 200 ") == 1
    assert transport.read().count(b"HTTP/1.1 200 ") == 1
    assert transport.producerState == "producing"
    full.hang_up()


def test_a_slow_reader_of_a_long_answer_gets_it_whole(face: Any, full: Wire) -> None:
    """The time is for each piece, not for all of it."""
    full.channel.dataReceived(ASK)
    transport: Any = full.transport
    read = b""
    while transport.value():
        face.clock.advance(STALLED - 1)
        piece = transport.read()
        assert len(piece) <= PIECE
        read += piece
    length, _, body = read.partition(b"Content-Length: ")[2].partition(b"\r\n\r\n")
    assert PIECE < len(body) == int(length)
    assert not transport.disconnected
    full.hang_up()


@pytest.mark.parametrize("taken", [0, 1])
def test_the_end_of_the_gateway_gives_the_rest_of_an_answer(
    face: Any, full: Wire, taken: int
) -> None:
    full.channel.dataReceived(ASK)
    transport: Any = full.transport
    read = b"".join(transport.read() for _ in range(taken))
    (request,) = full.channel.requests
    request.cancel()
    read += transport.read()
    length, _, body = read.partition(b"Content-Length: ")[2].partition(b"\r\n\r\n")
    assert len(body) == int(length)
    full.hang_up()


def test_who_takes_nothing_of_an_answer_is_cut_off(face: Any, full: Wire) -> None:
    full.channel.dataReceived(ASK * 100)
    face.clock.advance(STALLED - 1)
    assert not full.transport.disconnected
    face.clock.advance(2)
    assert full.transport.disconnected
    assert full.transport.value().count(b"HTTP/1.1 200 ") == 1
    full.hang_up()


@pytest.mark.parametrize("last", [b"", LAST])
def test_a_connection_that_ends_does_not_wait_for_ever(face: Any, full: Wire, last: bytes) -> None:
    """One by the client's wish or after a while without a request; TCP would try for ever."""
    if last:
        full.channel.dataReceived(last)
        full.transport.producer.resumeProducing()  # the rest fits into the buffers, and stays there
    else:
        face.clock.advance(face.master.head_timeout)
    assert full.transport.disconnecting
    face.clock.advance(STALLED)
    assert full.transport.disconnected
    full.hang_up()


def test_forms_are_not_read(face: Any) -> None:
    """Reading these 60 kB as a form takes seconds, and some forms end in a traceback."""
    head = "multipart/form-data; boundary=B"
    slow = (
        b'--B\r\nContent-Disposition: form-data; name="' + b";a" * 400 + b"\r\n\r\nx\r\n--B--\r\n"
    )
    odd = b"--B\r\nContent-Disposition: form-data; name*=utf-8'en'%ff\r\n\r\nx\r\n--B--\r\n"
    for body in (slow, odd):
        assert face.ask("POST", "/v1/jobs", body, token=None, media_type=head).status == 401
        assert face.ask("POST", "/v1/jobs", body, media_type=head).status == 415
