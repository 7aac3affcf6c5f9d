"""Who comes in at the relay: limits of bad credentials, and the audit log."""

from __future__ import annotations

import gc
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.tcp import Connection
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from tests.jobs.rig import Recorded
from tests.relay.rig import JOB, TOKEN, FakeDesk, Link, Rig, problem, request
from vsmgate.config import RelayConfig
from vsmgate.door import Door
from vsmgate.errors import ServiceRefused, Unauthenticated
from vsmgate.hands.epoll_set import HAVE_EPOLL
from vsmgate.relay.farewell import Farewell
from vsmgate.relay.journal import Passage
from vsmgate.relay.leg import Leg
from vsmgate.relay.opening import Opening
from vsmgate.relay.service import RelayService
from vsmgate.relay.tunnel import Tunnel
from vsmgate.relay.way import Way
from vsmgate.strikes import Strikes

PAGE = "https://vis.example.org"


def guarded(audit: Recorded, **config: Any) -> Rig:
    rig = Rig()
    rig.relay = RelayService(
        rig.clock,
        RelayConfig(**config),
        FakeDesk(),
        door=Door(Strikes(3, rig.clock.seconds), audit),
    )
    rig.relay.startService()
    rig.listener = rig.clock.tcpServers[-1][1]
    return rig


def tried(rig: Rig, token: str, *lines: str) -> int:
    return problem(rig.asked(request(f"/{JOB}/renderer?token={token}", *lines)))[0]


@pytest.mark.criterion("S-18")
def test_an_address_with_many_bad_tokens_has_to_wait() -> None:
    audit = Recorded()
    rig = guarded(audit, trusted_proxies=("192.0.2.7",))
    rig.opened()  # the good token is known from now on
    here, there = "X-Forwarded-For: 203.0.113.7", "X-Forwarded-For: 203.0.113.8"
    statuses = [tried(rig, "bad", here) for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert tried(rig, "bad", there) == 401
    assert tried(rig, "b0b", here) == 429
    assert tried(rig, "b0b", there) == 404
    before = rig.dials
    rig.asked(request(f"/{JOB}/renderer?token={TOKEN}", here))
    assert rig.dials == before + 1
    rig.clock.advance(20)
    assert tried(rig, "b0b", here) == 404
    assert {what["outcome"] for what in audit("authenticate")} == {
        "unauthenticated", "too_many_failures",
    }  # fmt: skip


def test_a_page_whose_session_is_over_locks_nobody_out() -> None:
    rig = guarded(Recorded(), allowed_origins=(PAGE,))
    for _ in range(10):
        cookie = "Cookie: vsmgate_session=b3Zlcg"
        page = request(f"/{JOB}/renderer", cookie, f"Origin: {PAGE}")
        tries = rig.asked(page)
        assert problem(tries)[0] == 401
    assert tried(rig, "b0b") == 404


@pytest.mark.criterion("S-31")
def test_relays_are_recorded() -> None:
    audit = Recorded()
    rig = guarded(audit)
    client, service = rig.opened()
    (opened,) = audit("relay_open")
    assert (opened["subject"], opened["job"], opened["service"]) == ("ada", JOB, "renderer")
    assert opened["peer"] == "192.0.2.7"
    service.drop()
    client.drop()
    rig.settle()
    (closed,) = audit("relay_close")
    assert closed["ended_by"] == "service"
    assert closed["request_id"] == opened["request_id"]

    rig.asked(request())
    rig.refuse_dial()
    assert tried(rig, "b0b") == 404
    refused, foreign = audit("relay_refuse")
    assert (refused["outcome"], refused["subject"]) == (ServiceRefused.code, "ada")
    assert (foreign["outcome"], foreign["subject"]) == ("no_such_job", "bob")
    for secret in (TOKEN, "b0b"):
        assert secret not in str(audit.entries)


def test_strangers_do_not_hide_what_users_try() -> None:
    audit = Recorded()
    rig = guarded(audit)
    for _ in range(15):
        assert problem(rig.asked(b"GET / HTTP/1.1\r\n\r\n"))[0] == 400
    assert tried(rig, "b0b") == 404
    rig.clock.advance(1)
    assert problem(rig.asked(b"GET / HTTP/1.1\r\n\r\n"))[0] == 400
    told = audit("relay_refuse")
    assert [what.get("subject") for what in told] == [*[None] * 10, "bob", None, None]
    assert told[-2]["count"] == 5  # of the strangers only


@pytest.mark.parametrize("half_closed", [False, True])
def test_the_last_octets_go_at_once_or_with_the_end(half_closed: bool) -> None:
    reactor = MemoryReactorClock()
    ours, theirs = socket.socketpair()
    gone: list[int] = []
    with theirs:
        theirs.setblocking(False)
        leg = Leg()
        transport = Connection(ours, leg, reactor)
        transport.connected = 1
        leg.makeConnection(transport)
        if half_closed:
            transport.readConnectionLost(Failure(CONNECTION_DONE))
        Farewell(leg, reactor, b"no", lambda: gone.append(1))
        if half_closed:  # the reactor's next turn writes, and sees to the end
            assert reactor.getWriters() == [transport]
            assert transport.doWrite() is CONNECTION_DONE
        else:
            assert reactor.getWriters() == []
        assert theirs.recv(10) == b"no"
        transport.connectionLost(Failure(CONNECTION_DONE))
        assert theirs.recv(10) == b""
    assert gone == [1]
    assert reactor.getDelayedCalls() == []


class Busy:
    """A member of the relays' epoll set that is always ready."""

    turns = 0

    def ready(self, events: int) -> None:
        self.turns += 1

    def fail(self) -> None:
        raise AssertionError


@contextmanager
def garbage() -> Iterator[set[type]]:
    """Collect the kinds of what is found only by the garbage collector, into what this yields."""
    kinds: set[type] = set()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield kinds
        gc.collect()
        kinds.update(type(found) for found in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def leave(link: Link) -> None:
    """Let the connection end, and the transport forget its protocol, as Twisted's do."""
    link.drop()
    link.protocol = None


def test_a_stranger_leaves_nothing_to_the_garbage_collector() -> None:
    rig = guarded(Recorded())
    with garbage() as kinds:
        client = rig.asked(request(f"/{JOB}/renderer?token=bad"))
        assert problem(client)[0] == 401
        leave(client)
    assert not {Opening, Farewell, Unauthenticated, Deferred} & kinds


def test_a_relay_that_is_over_leaves_nothing_to_the_garbage_collector() -> None:
    rig = Rig()
    with garbage() as kinds:
        for link in rig.opened():
            leave(link)
        rig.settle()
        assert rig.relay.relays == 0
    assert not {Opening, Passage, Tunnel, Way} & kinds


@pytest.mark.skipif(not HAVE_EPOLL, reason="needs epoll")
def test_between_two_heads_the_relays_have_a_turn() -> None:
    rig = Rig()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        relay = Busy()
        rig.relay.epoll.add(ours.fileno(), select.EPOLLOUT, relay)
        for strangers in range(1, 4):
            before = relay.turns
            rig.asked(request(f"/{JOB}/renderer?token=bad"))
            assert before < relay.turns, strangers
        rig.relay.epoll.remove(ours.fileno())
        rig.settle()
