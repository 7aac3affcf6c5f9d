"""At which step a service is out of reach, over real sockets and in memory."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, NoRouteError
from twisted.internet.testing import MemoryReactorClock, StringTransport

from tests.certificates import Authority
from tests.hands.test_dialling import Names
from tests.hands.test_probes import Host
from tests.hands.test_tls import serving
from vsmgate.config import TlsConfig
from vsmgate.diagnosis import Outcome, Step
from vsmgate.hands.certificates import Certificates
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.examination import LONGEST, PATIENCE, examine
from vsmgate.hands.tls import tls_layer
from vsmgate.model import Endpoint, Health, Secret, Service, ServiceTls
from vsmgate.targets import ANYWHERE, REMOTE, TargetRule
from vsmgate.testing.deferreds import deferred

HTTP = Service(health=Health(http="/healthz", timeout=0.5))
WEBSOCKET = Service(path="/ws", health=Health(kind="websocket", timeout=0.5))


@pytest_twisted.async_yield_fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    yield host
    await host.port.stopListening()


def last(steps: Sequence[Step]) -> tuple[str, str]:
    """Return where it ended, and what was found; all steps before went well."""
    assert all(step.outcome is Outcome.OK for step in steps[:-1]), steps
    assert all(step.seconds is not None for step in steps)
    return steps[-1].step, steps[-1].code


async def seen(host: Host, answer: bytes | None, service: Service, **more: Any) -> Sequence[Step]:
    host.answer = answer
    return await examine(host.dialler, host.endpoint, ANYWHERE, service, **more)


@deferred
async def test_a_service_that_answers(host: Host) -> None:
    steps = await seen(host, b"HTTP/1.1 200 OK\r\n\r\n", HTTP)
    assert [step.step for step in steps] == ["name", "target", "tcp", "http"]
    assert last(steps) == ("http", "")
    assert steps[-1].evidence == "GET /healthz was answered HTTP/1.1 200 OK"
    assert last(await seen(host, b"HTTP/1.1 101 Yes\r\n\r\n", WEBSOCKET)) == ("websocket", "")
    assert last(await seen(host, None, Service())) == ("tcp", "")
    assert len(host.seen) == 3, "one connection each"


@deferred
async def test_answers_that_are_none(host: Host) -> None:
    for answer, service, where, code in (
        (b"HTTP/1.1 404 Not Found\r\n\r\n", HTTP, "http", "http_status"),
        (b"HTTP/1.1 401 Who\r\n\r\n", HTTP, "http", "http_status"),
        (b"SSH-2.0-OpenSSH\r\n", HTTP, "http", "not_http"),
        (b"\x15\x03\x01\x00\x02\x02\x0a\n", HTTP, "http", "speaks_tls"),
        (b"", HTTP, "http", "closed"),
        (b"HTTP/1.1 200 OK\r\n\r\n", WEBSOCKET, "websocket", "not_websocket"),
        (b"", WEBSOCKET, "websocket", "closed"),
    ):
        steps = await seen(host, answer, service)
        assert last(steps) == (where, code), answer
        assert steps[-1].remedy
    assert "SSH-2.0-OpenSSH" in (await seen(host, b"SSH-2.0-OpenSSH\r\n", HTTP))[-1].evidence


@deferred
async def test_a_secret_that_is_not_taken(host: Host) -> None:
    service = Service(health=HTTP.health, secret=True)
    refused = await seen(host, b"HTTP/1.1 403 No\r\n\r\n", service, secret=Secret("s3cret"))
    assert last(refused) == ("secret", "wrong_secret")
    assert b"Authorization: Bearer s3cret\r\n\r\n" in host.seen[-1].asked
    taken = await seen(host, b"HTTP/1.1 200 OK\r\n\r\n", service, secret=Secret("s3cret"))
    assert last(taken) == ("secret", "")
    assert "s3cret" not in f"{refused}{taken}"
    await seen(host, b"HTTP/1.1 200 OK\r\n\r\n", HTTP, secret=Secret("s3cret"))
    assert b"s3cret" not in host.seen[-1].asked, "this service is not shown it"


@deferred
async def test_nobody_there() -> None:
    gone = Host()
    await gone.port.stopListening()
    steps = await seen(gone, None, HTTP)
    assert last(steps) == ("tcp", "tcp_refused")
    assert f"127.0.0.1:{gone.endpoint.port} refused" in steps[-1].evidence


@deferred
async def test_tls(tmp_path: Path) -> None:
    from twisted.internet import reactor

    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    good = ServiceTls(ca=str(authority.ca), server_name="node.example.org")
    for days, tls, code in (
        (1.0, good, ""),
        (1.0, ServiceTls(ca=str(other.ca), server_name="node.example.org"), "tls_untrusted"),
        (1.0, ServiceTls(server_name="node.example.org"), "tls_untrusted"),
        (1.0, ServiceTls(ca=str(authority.ca), server_name="x.example.org"), "tls_name"),
        (1.0, ServiceTls(ca=str(tmp_path / "none.pem")), "tls_authority"),
        (-0.5, good, "tls_expired"),
    ):
        host = Host()
        await host.port.stopListening()
        certificate, key = authority.issue("node.example.org", days=days)
        loaded = Certificates(TlsConfig(str(certificate), str(key)), "tls")
        layer: Any = tls_layer(host.port.factory, loaded, reactor)  # type: ignore[arg-type]  # has what is needed
        host.port = reactor.listenTCP(0, layer, interface="127.0.0.1")  # type: ignore[attr-defined]
        host.endpoint = Endpoint("127.0.0.1", host.port.getHost().port)
        service = Service(health=HTTP.health, tls=tls)
        steps = await seen(host, b"HTTP/1.1 200 OK\r\n\r\n", service)
        assert last(steps) == ("tls" if code else "http", code), steps
        assert str(tmp_path) not in str(steps), "the operator's paths are not the owner's"
        await host.port.stopListening()


@deferred
async def test_no_tls(tmp_path: Path) -> None:
    from twisted.internet import reactor

    service = Service(health=HTTP.health, tls=ServiceTls())
    async with serving(tmp_path, None) as server:
        steps = await examine(Dialler(reactor), server.endpoint, ANYWHERE, service)
    assert last(steps) == ("tls", "tls_missing")


class Bench:
    """An examination in memory."""

    def __init__(
        self, where: str, *names: Sequence[str], rule: TargetRule = REMOTE, service: Service = HTTP
    ) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.nameResolver = Names(*names)  # type: ignore[assignment]  # as far as is needed
        dialler = Dialler(self.reactor)
        work = examine(dialler, Endpoint(where, 5000), rule, service)
        self.examined = Deferred.fromCoroutine(work)

    def steps(self) -> Sequence[Step]:
        found: list[Any] = []
        self.examined.addBoth(found.append)
        assert found, "it did not end"
        assert not self.reactor.getDelayedCalls()
        steps: Sequence[Step] = found[0]
        return steps


def test_silence_is_told_apart_from_a_way_that_is_not_there() -> None:
    bench = Bench("10.0.0.1")
    bench.reactor.advance(PATIENCE)
    steps = bench.steps()
    assert last(steps) == ("tcp", "tcp_filtered")
    assert steps[-1].seconds == PATIENCE
    for error, code in (
        (NoRouteError(), "tcp_unreachable"),
        (ConnectError(errno.EHOSTUNREACH, "no"), "tcp_unreachable"),
        (ConnectError(errno.EMFILE, "no"), "tcp_failed"),
    ):
        bench = Bench("10.0.0.1")
        bench.reactor.tcpClients[0][2].clientConnectionFailed(None, error)
        assert last(bench.steps()) == ("tcp", code)


def test_names() -> None:
    assert last(Bench("none.example.org", []).steps()) == ("name", "name_unknown")
    slow = Bench("slow.example.org")
    slow.reactor.advance(PATIENCE)
    assert last(slow.steps()) == ("name", "name_timeout")
    found = Bench("node.example.org", ["10.0.0.1", "127.0.0.1"])
    found.reactor.advance(PATIENCE)
    steps = found.steps()
    assert steps[1].evidence == "10.0.0.1 may be dialled"
    assert last(steps) == ("tcp", "tcp_filtered")


def test_targets() -> None:
    for where, *names in (["169.254.169.254"], ["127.0.0.1"], ["inner.example.org", "127.0.0.7"]):
        bench = Bench(where, names)
        steps = bench.steps()
        assert last(steps) == ("target", "target_denied")
        assert not bench.reactor.tcpClients
        assert "127.0.0.7" not in str(steps), "what a name stands for inside is not told"
    assert last(Bench("2130706433").steps()) == ("target", "target_denied")


def test_a_cancel_ends_it() -> None:
    bench = Bench("10.0.0.1")
    bench.examined.cancel()
    cancelled: Any = bench.steps()
    assert cancelled.check(CancelledError)
    assert bench.reactor.connectors[0].stoppedConnecting


def test_one_that_answers_too_late_for_its_probe() -> None:
    for answers_after, code in ((1.0, "slow"), (PATIENCE, "silent")):
        bench = Bench("10.0.0.1")
        protocol = bench.reactor.tcpClients[0][2].buildProtocol(None)
        protocol.makeConnection(StringTransport())
        bench.reactor.advance(answers_after)
        if code == "slow":
            protocol.dataReceived(b"HTTP/1.1 200 OK\r\n")
        assert last(bench.steps()) == ("http", code)
    assert LONGEST > PATIENCE
