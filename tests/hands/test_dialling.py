"""The dialler: what is resolved is judged, and what was judged is dialled (S-7)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent
from zope.interface import implementer

from vsmgate.errors import GatewayError, TargetDenied
from vsmgate.hands.dialling import Dialler
from vsmgate.model import Endpoint
from vsmgate.targets import REMOTE, TargetRule, read_targets


@implementer(IHostResolution)
class Names:
    """A resolver that gives another answer each time."""

    name = "names"

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.cancelled = False

    def resolveHostName(self, receiver: IResolutionReceiver, name: str, *_: Any, **__: Any) -> Any:
        self.asked += 1
        receiver.resolutionBegan(self)
        if self._answers:
            for address in self._answers.pop(0):
                kind = IPv6Address if ":" in address else IPv4Address
                receiver.addressResolved(kind("TCP", address, 0))
            receiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        self.cancelled = True


class Bench:
    """A dialler in memory."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.reactor = MemoryReactorClock()
        self.names = Names(*answers)
        self.reactor.nameResolver = self.names  # type: ignore[assignment]  # as far as is needed
        self.dialler = Dialler(self.reactor)

    def connect(self, host: str, port: int = 5000, rule: TargetRule = REMOTE) -> Deferred[Any]:
        factory = Factory.forProtocol(Protocol)
        asked = self.dialler.connect(factory, Endpoint(host, port), rule, 3.0)
        return Deferred.fromCoroutine(asked)

    @property
    def dialled(self) -> list[str]:
        return [host for host, *_ in self.reactor.tcpClients]


def failed(deferred: Deferred[Any], *kinds: type[Exception]) -> Exception:
    found: list[Any] = []
    deferred.addErrback(found.append)
    assert found
    assert found[0].check(*kinds), found[0]
    error = found[0].value
    assert isinstance(error, Exception)
    return error


def test_an_address_is_dialled_at_once() -> None:
    bench = Bench()
    bench.connect("::ffff:10.0.0.1")
    assert bench.dialled == ["10.0.0.1"]
    assert bench.names.asked == 0


@pytest.mark.criterion("S-7")
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "0.0.0.0", "169.254.169.254", "2130706433", "a b", "", "x" * 999]
)
def test_nothing_is_sent_to_what_is_refused(host: str, logged: list[LogEvent]) -> None:
    bench = Bench()
    error = failed(bench.connect(host), TargetDenied)
    failed(bench.connect(host), TargetDenied)  # told once
    assert isinstance(error, GatewayError)
    assert (error.status, error.code) == (502, "target_denied")
    assert bench.dialled == []
    assert bench.names.asked == 0
    assert [event["log_format"][:13] for event in logged] == ["target denied"]
    assert host == "" or host not in error.detail, "the client learns nothing of the inside"


@pytest.mark.criterion("S-7")
def test_a_name_is_asked_for_once_and_what_was_judged_is_dialled() -> None:
    bench = Bench(["10.0.0.1"], ["127.0.0.1"])
    bench.connect("flips.example.org")
    assert bench.dialled == ["10.0.0.1"]
    assert bench.names.asked == 1


def test_a_name_may_not_stand_for_a_refused_address() -> None:
    for address in ("127.0.0.1", "169.254.169.254", "::1"):
        bench = Bench([address])
        failed(
            bench.connect("good.example.org", rule=read_targets(["*.example.org"])), TargetDenied
        )
        assert bench.dialled == []


@pytest.mark.criterion("C-28")
def test_of_several_addresses_the_allowed_ones_are_tried_in_turn() -> None:
    bench = Bench(["10.0.0.1", "127.0.0.1", "2001:db8::1", "10.0.0.1"])
    connecting = bench.connect("many.example.org")
    assert len(bench.dialled) == 1
    bench.reactor.advance(1)
    assert set(bench.dialled) == {"10.0.0.1", "2001:db8::1"}
    assert bench.names.asked == 1
    factory = bench.reactor.tcpClients[-1][2]
    factory.buildProtocol(None).makeConnection(None)
    assert connecting.called
    assert bench.reactor.getDelayedCalls() == []


def test_a_name_without_address() -> None:
    failed(Bench([]).connect("none.example.org"), DNSLookupError)


def test_a_cancel_ends_the_question() -> None:
    bench = Bench()
    asked = bench.connect("slow.example.org")
    asked.cancel()
    failed(asked, CancelledError)
    assert bench.names.cancelled


@pytest.mark.parametrize(
    ("bound", "dialled", "denied"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.0.0.2", True),
        ("0.0.0.0", "::1", False),
        ("::", "127.0.0.1", True),
        ("::", "192.0.2.1", False),  # nobody's, so not this machine's
        ("localhost", "127.0.0.1", True),
    ],
)
def test_the_gateway_is_no_service(bound: str, dialled: str, denied: bool) -> None:
    bench = Bench()
    bench.dialler.listening.add((bound, 8888))
    anywhere = TargetRule()
    if denied:
        failed(bench.connect(dialled, 8888, anywhere), TargetDenied)
    else:
        bench.connect(dialled, 8888, anywhere)
    bench.connect(dialled, 8889, anywhere)
    assert bench.dialled == [dialled] * (1 if denied else 2)


def test_a_refused_connection_says_so() -> None:
    bench = Bench()
    connecting = bench.connect("10.0.0.1")
    fail: Callable[..., None] = bench.reactor.tcpClients[0][2].clientConnectionFailed
    fail(None, ConnectError())
    with socket.socket():  # nothing real was opened
        failed(connecting, ConnectError)
