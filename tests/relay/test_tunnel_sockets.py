"""What only real sockets can show: flow control, large streams, the kernel's counters."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.relay.tunnel_rig import (
    LIMITS,
    Peer,
    Rig,
    SocketPeer,
    connected,
    on_engine,
    on_loopback,
    on_mixed,
    on_tls,
    the_reactor,
)
from vsmgate.frames import CLOSE, close_payload, control_frame, frame_head
from vsmgate.hands.tcp import NOTSENT_LOWAT
from vsmgate.relay.leg import Leg
from vsmgate.relay.socket_wire import SocketWire
from vsmgate.relay.wire import TransportWire

MIB = 2**20
KEY = b"\x05\x06\x07\x08"

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


def stream(seed: int, size: int, mask: bool) -> bytes:
    """At least ``size`` octets of frames of all sizes; a mask of 0 keeps it quick."""
    chance = random.Random(seed)
    noise = chance.randbytes(MIB)
    out = bytearray()
    while len(out) < size:
        length = chance.choice([0, 1, 125, 126, 127, 65535, 65536, 300_000, MIB])
        out += frame_head(0x82, length, KEY if mask else b"") + noise[:length]
    return bytes(out)


def held(wire: Any) -> int:
    """Octets that the gateway itself holds for a wire's peer."""
    if isinstance(wire, SocketWire):
        return 0 if wire._kept is None else len(wire._kept)
    transport = wire._transport
    return len(transport.dataBuffer) - transport.offset + int(transport._tempDataLen)


async def turns(count: int, look: Callable[[], None] = lambda: None) -> None:
    """Let the reactor run for ``count`` turns of its loop."""
    for _ in range(count):
        await deferLater(the_reactor(), 0)
        look()


async def settled(peer: Peer, look: Callable[[], None]) -> None:
    """Wait until nothing moves any more between the gateway and its peers."""
    quiet = 0
    before = -1
    while quiet < 200:
        await turns(1, look)
        now = cast(SocketPeer, peer).tcp.offset
        quiet = quiet + 1 if now == before else 0
        before = now


RIGS = {"transports": on_loopback, "sockets": on_engine}


@pytest.fixture(params=RIGS.values(), ids=RIGS.keys())
def make_rig(request: pytest.FixtureRequest) -> Any:
    return request.param


async def all_acknowledged(wire: Any) -> None:
    """Wait until the peer's kernel has all that was sent: it is there, whoever reads or not."""
    for _ in range(100_000):
        if wire.acknowledged():
            return
        await turns(1)
    pytest.fail("an octet stays without acknowledgement")


@pytest.mark.criterion("C-10")
@pytest.mark.parametrize(
    "make_rig",
    [on_loopback, on_tls, on_engine, on_mixed],
    ids=["transports", "tls", "sockets", "mixed"],
)
@pytest.mark.parametrize("to_client", [True, False], ids=["down", "up"])
@pytest_twisted.ensureDeferred
async def test_stalled_reader_of_a_long_stream(make_rig: Any, to_client: bool) -> None:
    """The gateway holds little, the writer blocks, and nothing is lost or changed."""
    rig: Rig = await make_rig()
    writer, reader = (rig.service, rig.client) if to_client else (rig.client, rig.service)
    wire = cast(Any, rig.tunnel._client if to_client else rig.tunnel._service)
    data = stream(1, 64 * MIB, mask=not to_client)
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, held(wire))

    reader.stall()
    writer.send(data)
    await settled(writer, look)
    assert wire.full
    assert len(reader.octets) < MIB
    assert cast(SocketPeer, writer).tcp.offset < len(data) - 16 * MIB  # the rest is with the writer
    assert most <= 300 * 1024
    reader.read()
    await reader.until(lambda: len(reader.octets) >= len(data))
    assert hashlib.sha256(reader.octets).digest() == hashlib.sha256(data).digest()
    assert most <= 300 * 1024
    rig.tunnel.close(1001, "done")
    await rig.over()


@pytest_twisted.ensureDeferred
async def test_both_directions_at_once(make_rig: Any) -> None:
    rig: Rig = await make_rig()
    up, down = stream(2, 8 * MIB, True), stream(3, 8 * MIB, False)
    rig.client.send(up)
    rig.service.send(down)
    await rig.service.until(lambda: len(rig.service.octets) >= len(up))
    await rig.client.until(lambda: len(rig.client.octets) >= len(down))
    assert (rig.service.stream, rig.client.stream) == (up, down)
    rig.client.drop()
    ending = await rig.over()
    assert (ending.client_octets, ending.service_octets) == (len(up), len(down))


@pytest_twisted.ensureDeferred
async def test_service_ends_before_a_slow_client_has_read_all(make_rig: Any) -> None:
    """What the gateway and the kernels hold reaches the client, then the Close."""
    rig: Rig = await make_rig()
    rig.client.stall()
    data = stream(4, MIB, False)
    rig.service.send(data)
    rig.service.close()
    await rig.service.until(lambda: cast(SocketPeer, rig.service).tcp.disconnecting)
    await turns(50)
    rig.client.read()
    await rig.over()
    assert rig.client.stream == data + control_frame(CLOSE, close_payload(1011, "backend lost"))


@pytest.mark.criterion("C-12")
@pytest_twisted.ensureDeferred
async def test_job_ends_while_the_client_is_paused(make_rig: Any) -> None:
    """The leak of pairs that only register producers: both sockets must go."""
    rig: Rig = await make_rig()
    wire = cast(Any, rig.tunnel._client)
    sockets = make_rig is on_engine
    rig.client.stall()
    rig.service.send(stream(5, 32 * MIB, False))
    await settled(rig.service, lambda: None)
    transport = None if sockets else wire._transport
    assert sockets or transport.producer is wire
    rig.service.drop()
    rig.tunnel.close(4410, "The job has ended.")
    await turns(20)
    assert not rig.endings  # inside a frame, and the client may still read
    rig.pass_time(LIMITS.linger)
    ending = await rig.over(close=False)
    assert ending.code in (4410, 1011, None)
    assert wire._sock is None if sockets else transport.disconnected
    assert sockets or transport.producer is None


@pytest_twisted.ensureDeferred
async def test_stalled_reader_is_told_from_a_slow_one(make_rig: Any) -> None:
    """Progress is seen even where only the kernel's queue moves."""
    rig: Rig = await make_rig()
    rig.client.stall()
    data = stream(6, 32 * MIB, False)
    rig.service.send(data)
    await settled(rig.service, lambda: None)
    wire = cast(Any, rig.tunnel._client)
    assert wire.waiting() > held(wire) > 0
    await all_acknowledged(wire)
    sock = cast(SocketPeer, rig.client).tcp.socket
    for _ in range(6):
        rig.pass_time(60)
        assert not rig.endings
        before = len(rig.client.octets)
        while len(rig.client.octets) - before < MIB:  # a slow reader takes a little
            try:
                rig.client.octets += sock.recv(65536)
            except BlockingIOError:
                pass
            await turns(1)
    await settled(rig.service, lambda: None)
    await all_acknowledged(wire)
    rig.pass_time(LIMITS.stall_timeout * 1.5 + LIMITS.linger)
    ending = await rig.over(close=False)
    assert ending.code == 1013
    assert data.startswith(rig.client.stream)


@pytest_twisted.ensureDeferred
async def test_options_of_the_sockets(make_rig: Any) -> None:
    rig: Rig = await make_rig()
    for wire, lowat in ((rig.tunnel._client, NOTSENT_LOWAT), (rig.tunnel._service, None)):
        sock = cast(Any, wire)._sock if make_rig is on_engine else cast(Any, wire)._socket
        tcp = socket.IPPROTO_TCP
        assert sock.getsockopt(tcp, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, again, count = (
            sock.getsockopt(tcp, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + again * count == LIMITS.dead_peer_timeout
        if lowat is not None:
            assert sock.getsockopt(tcp, socket.TCP_NOTSENT_LOWAT) == lowat
    rig.tunnel.abort()
    await rig.over()


@pytest.mark.criterion("C-26")
@pytest_twisted.ensureDeferred
async def test_many_tunnels_leave_no_descriptor(make_rig: Any) -> None:
    before = len(os.listdir("/proc/self/fd"))
    chance = random.Random(7)
    for number in range(40):
        rig = await make_rig()
        data = stream(number, 200_000, False)
        rig.service.send(data[: chance.randrange(len(data))])
        await turns(chance.randrange(8))
        chance.choice(
            [rig.client.drop, rig.service.drop, rig.client.fin, rig.service.fin, rig.tunnel.abort]
        )()
        await rig.over()
    await turns(3)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest_twisted.ensureDeferred
async def test_leg_without_a_tunnel_closes_at_a_fin() -> None:
    """Before the tunnel a peer's FIN ends the leg, as with any Twisted protocol."""
    peer = SocketPeer()
    leg: Leg = await connected(peer)
    lost: list[Failure] = []

    class Reading:
        def received(self, data: bytes) -> None:
            pass

        def lost(self, reason: Failure) -> None:
            lost.append(reason)

    leg.receiver = Reading()
    cast(Any, leg.transport).resumeProducing()
    peer.fin()
    await peer.until(lambda: peer.ended or peer.lost)
    peer.close()
    await peer.until(lambda: peer.lost)
    assert len(lost) == 1


def test_wire_without_a_socket_says_nothing_of_the_kernel() -> None:
    """Transports in memory, and other platforms, have only Twisted's own counters."""
    from twisted.internet.testing import StringTransport

    leg = Leg()
    leg.makeConnection(StringTransport())
    wire = TransportWire(leg, 60.0, True)
    assert wire.waiting() == 0
    assert wire.acknowledged()
