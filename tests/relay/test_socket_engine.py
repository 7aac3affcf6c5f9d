"""What only the direct-socket engine does; what it shares with the other is in test_tunnel."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.interfaces import IReactorTime
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.relay.test_tunnel_sockets import MIB, held, settled, stream, turns
from tests.relay.tunnel_rig import (
    Rig,
    SocketPeer,
    connected,
    on_engine,
    on_mixed,
    the_reactor,
)
from vsmgate.errors import ConfigError
from vsmgate.frames import CLOSE, close_payload, control_frame, frame_head
from vsmgate.hands.epoll_set import EVENTS, LOOKS, EpollSet
from vsmgate.relay.engines import SocketEngine, wire_maker
from vsmgate.relay.leg import Leg
from vsmgate.relay.socket_wire import SocketWire
from vsmgate.relay.wire import TransportWire

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


async def soon(seen: Callable[[], bool]) -> None:
    """Wait for something inside the gateway."""
    for _ in range(100_000):
        if seen():
            return
        await turns(1)
    pytest.fail("it did not happen")


# -- out of Twisted ---------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_nothing_of_a_leg_stays_with_the_reactor() -> None:
    rig = await on_engine()
    reactor = the_reactor()
    readers, writers = reactor.getReaders(), reactor.getWriters()
    for wire in (rig.tunnel._client, rig.tunnel._service):
        fd = cast(SocketWire, wire)._fd
        assert fd not in [each.fileno() for each in (*readers, *writers)]
    assert sum(isinstance(each, EpollSet) for each in readers) == 1
    rig.tunnel.abort()
    await rig.over()
    await turns(2)
    assert not [each for each in reactor.getReaders() if isinstance(each, EpollSet)]


@pytest_twisted.ensureDeferred
async def test_what_the_transport_still_holds_goes_first() -> None:
    """More than the kernel takes was written before the tunnel began."""
    client, service = SocketPeer(), SocketPeer()
    rig = Rig(client, service)
    legs = [await connected(client), await connected(service)]
    client.stall()
    answer = os.urandom(16 * MIB)
    transport = cast(Any, legs[0].transport)
    transport.write(answer[:10])
    await turns(3)
    for at in range(10, len(answer), MIB):
        transport.write(answer[at : at + MIB])
    await turns(3)
    assert transport.dataBuffer[transport.offset :]  # begun, and not finished
    transport.write(b"and more")
    answer += b"and more"
    early, data = frame_head(0x82, 5, b"") + b"early", stream(1, MIB, False)
    rig.build(legs[0], legs[1], wire_maker("sockets", the_reactor()), {"early_service": early})
    service.send(data)
    await settled(service, lambda: None)
    assert not cast(SocketWire, rig.tunnel._service)._reading, "no more is taken than waits"
    client.read()
    expected = answer + early + data
    await client.until(lambda: len(client.octets) >= len(expected))
    assert client.stream == expected
    rig.tunnel.abort()
    await rig.over()


@pytest_twisted.ensureDeferred
async def test_tls_legs_stay_with_their_transports() -> None:
    rig = await on_mixed()
    assert isinstance(rig.tunnel._client, TransportWire)
    assert isinstance(rig.tunnel._service, SocketWire)
    rig.tunnel.abort()
    await rig.over()


def test_transports_without_a_socket_of_their_own_stay() -> None:
    leg = Leg()
    leg.makeConnection(StringTransport())
    assert isinstance(wire_maker("auto", MemoryReactorClock())(leg, 60.0, True), TransportWire)


@implementer(IReactorTime)
class OnlyTime:
    """A reactor without descriptors."""


def test_engines_by_name() -> None:
    assert wire_maker("transports", MemoryReactorClock()) is TransportWire
    for name in ("auto", "sockets"):
        chosen = cast(Any, wire_maker(name, MemoryReactorClock()))  # type: ignore[arg-type]
        assert isinstance(chosen.__self__, SocketEngine)
    assert wire_maker("auto", OnlyTime()) is TransportWire
    with pytest.raises(ConfigError, match=r"relay\.engine"):
        wire_maker("sockets", OnlyTime())


# -- ends of paused legs ------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_client_that_resets_while_nobody_reads_it() -> None:
    """It is noticed at once: a stalled service does not keep the relay."""
    rig = await on_engine()
    data = stream(2, 32 * MIB, True)
    rig.service.stall()
    rig.client.send(data)
    await settled(rig.client, lambda: None)
    wire = cast(SocketWire, rig.tunnel._client)
    assert not wire._reading
    rig.client.drop()
    await soon(lambda: wire._sock is None)
    rig.service.read()
    ending = await rig.over()
    assert (ending.initiator, ending.code) == ("client", None)
    assert data.startswith(rig.service.stream)
    assert len(rig.service.octets) == ending.client_octets  # what was taken over is delivered


@pytest_twisted.ensureDeferred
async def test_service_that_resets_while_nobody_reads_it() -> None:
    """What it said before, as far as it is in our kernel, reaches a slow client first."""
    rig = await on_engine()
    data = stream(3, 32 * MIB, False)
    rig.client.stall()
    rig.service.send(data)
    await settled(rig.service, lambda: None)
    wire = cast(SocketWire, rig.tunnel._service)
    taken = rig.tunnel._down.octets
    rig.service.drop()
    await soon(lambda: wire._watched is None)  # not asked again and again
    assert wire._sock is not None
    rig.client.read()
    ending = await rig.over()
    assert data.startswith(rig.client.stream)
    assert ending.service_octets > taken


@pytest_twisted.ensureDeferred
async def test_news_from_before_a_resume() -> None:
    """An event that was fetched while the leg was paused does not take it out of the set."""
    rig = await on_engine()
    wire = cast(SocketWire, rig.tunnel._service)
    wire.ready(select.EPOLLHUP)
    wire.pause()
    wire.ready(select.EPOLLIN)  # fetched before the pause; and nothing is there to read
    wire.resume()
    rig.service.send(control_frame(CLOSE, close_payload(1000)))
    await rig.client.until(lambda: len(rig.client.octets) == 4)
    rig.tunnel.abort()
    await rig.over()


@pytest_twisted.ensureDeferred
async def test_sending_to_a_peer_that_is_gone() -> None:
    """A failed send is not the end of what the peer said before."""
    rig = await on_engine()
    service = cast(SocketWire, rig.tunnel._service)
    service.pause()
    said = frame_head(0x82, 5, b"") + b"words"
    rig.service.send(said)
    await turns(3)
    rig.service.drop()
    await soon(lambda: service._watched is None)
    rig.client.send(frame_head(0x82, 2, b"abcd") + b"hi")
    await soon(lambda: rig.tunnel._up.octets == 8)
    service.resume()
    ending = await rig.over()
    assert rig.client.stream == said + control_frame(CLOSE, close_payload(1011, "backend lost"))
    assert (ending.initiator, ending.code) == ("service", 1011)


@pytest_twisted.ensureDeferred
async def test_failing_rules_drop_their_connection_only(
    flush_logged: Callable[..., list[Failure]],
) -> None:
    rigs = [await on_engine(), await on_engine()]
    # One engine for both: the second pair moves into the first one's set.
    bad, good = (cast(SocketWire, rig.tunnel._service) for rig in rigs)

    class Broken:
        def received(self, data: object) -> None:
            raise ZeroDivisionError

        finished = room = received

        def lost(self, reason: Failure) -> None:
            lost.append(reason)

    lost: list[Failure] = []
    reader = bad._reader
    bad.start(cast(Any, Broken()))
    rigs[0].service.send(b"x")
    await soon(lambda: bool(lost))
    assert len(flush_logged(ZeroDivisionError)) == 1
    reader.lost(lost[0])
    await rigs[0].over()
    assert good._sock is not None
    rigs[1].tunnel.abort()
    await rigs[1].over()


@pytest_twisted.ensureDeferred
async def test_relay_at_rest_holds_no_buffers() -> None:
    rig = await on_engine()
    rig.client.stall()
    rig.service.send(stream(4, 32 * MIB, False))
    await settled(rig.service, lambda: None)
    wire = cast(SocketWire, rig.tunnel._client)
    assert 0 < held(wire) <= 300 * 1024
    rig.service.drop()
    rig.client.read()
    await soon(lambda: held(wire) == 0)
    rig.tunnel.abort()
    await rig.over()


# -- the set --------------------------------------------------------------------------------


class Counting:
    """A member whose descriptor is always ready."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.send(b"x")
        self.served = 0
        self.failed = 0
        self.error: Exception | None = None

    def ready(self, events: int) -> None:
        assert events & select.EPOLLIN
        self.served += 1
        if self.error is not None:
            raise self.error

    def fail(self) -> None:
        self.failed += 1

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def members() -> Iterator[list[Counting]]:
    made = [Counting() for _ in range(EVENTS * 2)]
    yield made
    for member in made:
        member.close()


def filled(members: list[Counting]) -> tuple[MemoryReactorClock, EpollSet]:
    reactor = MemoryReactorClock()
    epoll = EpollSet(reactor)
    for member in members:
        epoll.add(member.ours.fileno(), select.EPOLLIN, member)
    return reactor, epoll


def emptied(reactor: MemoryReactorClock, epoll: EpollSet, members: list[Counting]) -> None:
    for member in members:
        epoll.remove(member.ours.fileno())
    reactor.advance(0)
    assert epoll.fileno() == -1
    assert not reactor.getReaders()


def test_share_of_a_turn(members: list[Counting]) -> None:
    """However many are ready, a turn is bounded, and nobody is served before all others are."""
    reactor, epoll = filled(members)
    for turn in range(1, 4):
        epoll.doRead()
        served = [member.served for member in members]
        assert sum(served) == turn * EVENTS
        assert max(served) - min(served) <= 1
    emptied(reactor, epoll, members)


def test_one_that_is_always_ready_has_a_share_too(members: list[Counting]) -> None:
    reactor, epoll = filled(members[:1])
    epoll.doRead()
    assert members[0].served == LOOKS
    epoll.give_way()
    assert members[0].served == LOOKS + 1
    emptied(reactor, epoll, members[:1])


def test_member_that_raises(
    members: list[Counting], flush_logged: Callable[..., list[Failure]]
) -> None:
    some = members[: EVENTS // 2]
    reactor, epoll = filled(some)
    some[1].error = ZeroDivisionError()
    epoll.doRead()
    assert [member.served for member in some] == [2] * len(some)
    assert [member.failed for member in some] == [0, 2] + [0] * (len(some) - 2)
    assert len(flush_logged(ZeroDivisionError)) == 2
    emptied(reactor, epoll, some)


def test_member_that_goes_during_a_turn(members: list[Counting]) -> None:
    """Its event, which was fetched already, reaches nobody."""
    first, second = members[:2]
    reactor, epoll = filled([first, second])

    def leave(events: int) -> None:
        for member in (first, second):
            epoll.remove(member.ours.fileno())

    first.ready = second.ready = leave  # type: ignore[method-assign]
    epoll.doRead()
    epoll.add(first.ours.fileno(), select.EPOLLIN, Counting.__new__(Counting))
    reactor.advance(0)
    assert epoll.fileno() != -1  # somebody came again before it rested
    emptied(reactor, epoll, [first])
