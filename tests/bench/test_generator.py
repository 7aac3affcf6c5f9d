"""The load generator against its own services: what it counts is what was asked for."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from bench.generator import Generator, Refused, request_head
from bench.machine import Unavailable, generator_program


@pytest.fixture
def generator() -> Iterator[Generator]:
    try:
        program = generator_program(install=False)
    except Unavailable as why:
        pytest.skip(str(why))
    found = Generator(program, sorted(os.sched_getaffinity(0))[-1])
    head = request_head("/job/renderer", "token")
    found.ask("head", len(head), raw=head)
    yield found
    found.close()


@pytest.mark.parametrize("size", [64, 4096, 70000])
def test_echoes_are_right_at_every_length_form(generator: Generator, size: int) -> None:
    said = generator.ask("echo", generator.port, False, size, 3, 0.02, 0.1)
    assert said["messages"] > 10
    assert said["wrong"] == 0
    assert said["all"] > said["messages"]
    assert 0 < said["p50"] <= said["p99"] <= said["p999"] < 1e6


@pytest.mark.parametrize(("size", "header"), [(64, 2), (300, 4), (1 << 20, 10)])
def test_streams_are_whole_frames(generator: Generator, size: int, header: int) -> None:
    said = generator.ask("stream", generator.port, False, size, 2, 0.02, 0.1)
    assert said["octets"] // (size + header) == said["messages"] > 0


def test_a_stalled_stream_arrives_octet_for_octet(generator: Generator) -> None:
    generator.ask("open", generator.port, False, 2)
    generator.ask("stall", generator.port, False, 1 << 20, 2, 16)
    said = generator.ask("drain", 20)
    assert said["octets"] == said["expected"] == 2 * 16 * ((1 << 20) + 10)
    assert said["wrong"] == 0
    generator.ask("close")


def test_handshakes_are_counted(generator: Generator) -> None:
    said = generator.ask("handshake", generator.port, False, 4, 0.02, 0.1)
    assert said["messages"] > 10


def test_the_accept_of_the_rfc(generator: Generator) -> None:
    with socket.create_connection(("127.0.0.1", generator.port), 5) as client:
        client.sendall(request_head("/", "x"))
        answer = client.recv(4096)
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer


def test_a_refusal_is_told(generator: Generator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(Refused, match="refused"):
        generator.ask("echo", port, False, 64, 1, 0.02, 0.1)
    with pytest.raises(Refused, match="no such command"):
        generator.ask("dance")
