"""The relay's service: listening, counting, ends of jobs, draining, and its log."""

from __future__ import annotations

import gc
import logging
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import txaio
from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import LogEvent, formatEvent

from tests.relay.rig import JOB, TOKEN, FakeDesk, Link, Rig, answer_in, problem, request
from vsmgate.config import RelayConfig
from vsmgate.credentials import BEARER_PREFIX
from vsmgate.frames import CLOSE, close_payload, control_frame
from vsmgate.heads import HeadReader
from vsmgate.model import Reason, Service, replace
from vsmgate.relay.journal import Passage
from vsmgate.relay.leg import Leg
from vsmgate.relay.opening import Opening
from vsmgate.relay.service import RelayService
from vsmgate.relay.tunnel import Tunnel

RESTARTS = control_frame(CLOSE, close_payload(1012, "The gateway restarts."))


@pytest.fixture
def events(logged: list[LogEvent]) -> Iterator[list[LogEvent]]:
    """Every event that is logged, Autobahn's debugging included."""
    txaio.set_global_log_level("trace")
    yield logged
    txaio.set_global_log_level("info")


def lines(events: list[LogEvent], start: str) -> list[str]:
    texts = (formatEvent(event) for event in events)
    return [text for text in texts if text.startswith(start)]


def fired(deferred: Deferred[Any]) -> bool:
    return bool(deferred.called)


def end(client: Link, service: Link) -> None:
    client.drop()
    service.drop()


def test_a_busy_port_fails_loudly() -> None:
    from twisted.internet import reactor

    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = RelayConfig(port=taken.getsockname()[1])
        relay = RelayService(reactor, config, FakeDesk())
        with pytest.raises(CannotListenError):
            relay.startService()


def test_the_port_is_told() -> None:
    rig = Rig(port=4711, host="::1")
    assert rig.relay.port == 4711
    assert rig.clock.tcpServers[0][3] == "::1"
    assert len(rig.clock.tcpServers) == 1
    rig.relay.stopService()
    assert rig.relay.port == 0


@pytest.mark.criterion("S-15")
def test_the_end_of_a_job_closes_its_relays() -> None:
    rig = Rig()
    client, service = rig.opened()
    told = replace(rig.desk.job, reason=Reason("cancelled_by_user", "Its owner stopped it."))
    for call in list(rig.desk.calls):
        call(told)
    rig.clock.advance(0)
    assert client.read() == control_frame(CLOSE, close_payload(4410, "Its owner stopped it."))
    end(client, service)
    assert rig.relay.relays == 0
    assert rig.desk.calls == []
    assert rig.watcher.told[-1] == ("closed", "renderer", "gateway")


def test_nothing_is_left_of_a_relay() -> None:
    rig = Rig(FakeDesk(renderer=Service(max_clients=1)), max_per_user=1)
    for _ in range(3):
        client, service = rig.opened()
        end(client, service)
    assert rig.relay.relays == 0
    assert rig.desk.calls == []
    assert rig.clock.getDelayedCalls() == []


def alive(*types: type) -> set[int]:
    gc.collect()
    return {id(thing) for thing in gc.get_objects() if isinstance(thing, types)}


def test_nothing_of_the_handshakes_outlives_them() -> None:
    handshakes, rest = (WebSocketProtocol, HeadReader), (Opening, Passage, Tunnel, Leg)
    before = alive(*handshakes), alive(*rest)  # errors of other tests may hold some
    rig = Rig()
    relays = [rig.opened() for _ in range(3)]
    assert alive(*handshakes) <= before[0]
    assert not alive(*rest) <= before[1]
    for client, service in relays:
        end(client, service)
        client.protocol = service.protocol = None
    rig.clock.tcpClients.clear()
    assert alive(*rest) <= before[1]


def test_drain_waits_for_relays() -> None:
    rig = Rig(drain=30.0)
    client, service = rig.opened()
    drained = rig.relay.drain()
    rig.clock.advance(29.0)
    assert client.read() == b""
    assert not fired(drained)
    end(client, service)
    assert fired(drained)
    rig.relay.stopService()
    assert rig.clock.getDelayedCalls() == []


def test_drain_closes_the_rest_spread_out() -> None:
    rig = Rig(drain=30.0, drain_spread=4.0)
    relays = [rig.opened() for _ in range(4)]
    drained = rig.relay.drain()
    rig.clock.advance(30.0)
    rig.clock.advance(0.0)
    closed = []
    for _ in range(4):
        closed.append(sum(client.value() == RESTARTS for client, _ in relays))
        rig.clock.advance(1.0)
    assert closed == [1, 2, 3, 4]
    assert not fired(drained)
    for client, service in relays:
        end(client, service)
    assert fired(drained)


def test_drain_aborts_who_does_not_go() -> None:
    rig = Rig(drain=1.0, drain_spread=1.0, linger=3.0)
    client, service = rig.opened()
    drained = rig.relay.drain()
    for _ in range(10):
        rig.clock.advance(1.0)
    assert client.gone
    assert service.gone
    assert fired(drained)
    assert rig.clock.getDelayedCalls() == []


def test_drain_refuses_what_is_new() -> None:
    rig = Rig()
    relay = rig.opened()
    reading, dialling = rig.client(), rig.asked(request())
    drained = rig.relay.drain()
    for client in (reading, dialling):
        head, _ = answer_in(client.value())
        assert head.one("Retry-After") == "5"
        assert problem(client)[0] == 503
        client.drop()
    assert rig.clock.connectors[-1].stoppedConnecting
    late = rig.asked(request())
    assert problem(late)[1]["code"] == "unavailable"
    late.drop()
    assert not fired(drained)
    end(*relay)
    assert fired(drained)


def test_stop_is_at_once() -> None:
    rig = Rig(drain=30.0)
    client, service = rig.opened()
    stopped = rig.relay.stopService()
    rig.clock.advance(0.0)
    assert client.read() == RESTARTS
    end(client, service)
    assert fired(stopped)


@pytest.mark.criterion("C-30")
def test_one_line_per_relay(events: list[LogEvent]) -> None:
    rig = Rig()
    client, service = rig.opened()
    client.send(b"\x81\x82\0\0\0\0hi")
    service.send(b"\x82\x03abc")
    rig.clock.advance(2.5)
    service.drop()
    client.drop()
    (line,) = lines(events, "relay ")[1:]
    for part in (
        f"job={JOB} service=renderer subject=ada peer=192.0.2.7",
        "ended_by=service code=1011 octets=8/5 frames=1/1 open=2.500s opening=0.000s",
    ):
        assert part in line


@pytest.mark.criterion("S-19")
def test_refusals_are_escaped_and_limited(events: list[LogEvent]) -> None:
    rig = Rig()
    for _ in range(15):
        rig.asked(request("/nowhere?ticket=abc&x=1")).drop()
    assert len(lines(events, "refused ")) == 10
    rig.clock.advance(1.0)
    rig.asked(b"GET /\x1b[0m HTTP/1.1\r\n\r\n")
    assert len(lines(events, "refused ")) == 11
    assert lines(events, "5 more refusals") != []
    first = lines(events, "refused ")[0]
    assert "status=404 error=no_such_job path=/nowhere job=- service=-" in first


@pytest.mark.criterion("S-5")
@pytest.mark.parametrize("fault", ["", "status", "accept", "refused", "crash"])
def test_no_secret_in_any_log_or_answer(
    fault: str, events: list[LogEvent], flush_logged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ["tOkEn-In-Header", "c3VicHJvdG9jb2w", "subprotocol", "tIcKeT-x", "qUeRy-x"]
    rig = Rig()
    rig.desk.tokens = {secrets[0]: "ada"}
    if fault == "crash":
        rig.desk.error = ZeroDivisionError("oops")
    client = rig.asked(
        request(
            f"/{JOB}/renderer?ticket={secrets[3]}&token={secrets[4]}",
            f"Authorization: Bearer {secrets[0]}",
            f"Sec-WebSocket-Protocol: {BEARER_PREFIX}{secrets[1]}",
        )
    )
    heard = b""
    if fault == "refused":
        rig.refuse_dial()
    elif fault != "crash":
        service = rig.service()
        heard = service.read()
        status = b"500 No" if fault == "status" else b"101 Yes"
        service.send(b"HTTP/1.1 " + status + b"\r\nSec-WebSocket-Accept: x\r\n\r\n")
        service.drop()
    answer = client.read()
    client.drop()
    assert len(flush_logged(ZeroDivisionError)) == (1 if fault == "crash" else 0)
    told = "\n".join(f"{formatEvent(event)} {event}" for event in events) + caplog.text
    assert events
    for secret in secrets:
        assert secret not in told
        assert secret.encode() not in answer + heard
    assert TOKEN not in told
