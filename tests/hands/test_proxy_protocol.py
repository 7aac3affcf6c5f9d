"""The PROXY protocol's header, octet by octet, and what comes after it."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from vsmgate.hands.proxy_protocol import HeaderError, behind_proxy, read_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def header(client: str, command: int = 0x21, extra: bytes = b"") -> bytes:
    family, code = (socket.AF_INET6, 0x21) if ":" in client else (socket.AF_INET, 0x11)
    address = socket.inet_pton(family, client)
    body = address * 2 + struct.pack("!HH", 5123, 443) + extra
    return SIGNATURE + struct.pack("!BBH", command, code, len(body)) + body


@pytest.mark.parametrize("client", ["203.0.113.9", "2001:db8::9"])
def test_every_part_of_it_is_waited_for(client: str) -> None:
    whole = header(client, extra=b"\x03\0\x04crc!")
    for size in range(len(whole)):
        assert read_header(whole[:size]) is None
    assert read_header(whole) == ((client, 5123), len(whole))
    assert read_header(whole + b"GET") == ((client, 5123), len(whole))


def test_the_front_itself_has_no_client() -> None:
    local = SIGNATURE + b"\x20\0\0\0"
    assert read_header(local) == (None, 16)
    assert read_header(header("203.0.113.9", 0x20))
    unix = SIGNATURE + b"\x21\x31" + struct.pack("!H", 216) + bytes(216)
    assert read_header(unix) == (None, 232)


@pytest.mark.criterion("S-21")
@pytest.mark.parametrize(
    "data",
    [
        *(b"G", b"GET / HTTP/1.1\r\n", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", b"\r\n\r\nX"),
        *(SIGNATURE + b"\x11\x11\0\x0c", SIGNATURE + b"\x22\x11\0\x0c"),
        *(SIGNATURE + b"\x21\x11\xff\xff", SIGNATURE + b"\x21\x11\0\x04" + bytes(4)),
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(HeaderError):
        read_header(data)


class Reader(Protocol):
    data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


class Readers(ServerFactory):
    def __init__(self) -> None:
        self.made: list[tuple[Any, Reader]] = []

    def buildProtocol(self, addr: Any) -> Reader:
        self.made.append((addr, Reader()))
        return self.made[-1][1]


class Link(StringTransport):
    aborted = False

    def abortConnection(self) -> None:
        self.aborted = True


def connected(readers: Readers, clock: Clock) -> Link:
    factory = behind_proxy(readers, True, 3.0, clock)
    link = Link()
    link.protocol = factory.buildProtocol(IPv4Address("TCP", "10.0.0.1", 1))
    assert link.protocol is not None
    link.protocol.makeConnection(link)
    return link


def test_the_real_protocol_gets_the_transport_and_the_rest() -> None:
    readers, clock = Readers(), Clock()
    link = connected(readers, clock)
    whole = header("203.0.113.9") + b"GET "
    for octet in whole:
        link.protocol.dataReceived(bytes([octet]))  # type: ignore[union-attr]
    ((addr, reader),) = readers.made
    assert (addr.host, addr.port) == ("203.0.113.9", 5123)
    assert link.protocol is reader
    assert reader.transport is link
    assert reader.data == b"GET "
    assert clock.getDelayedCalls() == []


def test_others_are_dropped_and_nobody_waits_for_ever() -> None:
    readers, clock = Readers(), Clock()
    stranger, silent = connected(readers, clock), connected(readers, clock)
    stranger.protocol.dataReceived(b"GET / HTTP/1.1\r\n")  # type: ignore[union-attr]
    assert stranger.aborted
    clock.advance(3.0)
    assert silent.aborted
    assert readers.made == []


def test_it_is_off_unless_wanted() -> None:
    readers = Readers()
    assert behind_proxy(readers, False, 3.0, Clock()) is readers
