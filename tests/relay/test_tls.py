"""The relay with TLS on the client's leg, and on the service's with a private authority."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.certificates import Authority
from tests.hands.test_proxy_protocol import header
from tests.relay import test_loopback
from tests.relay.rig import JOB, TOKEN, FakeDesk
from tests.relay.test_loopback import Watch, echo_factory
from vsmgate.config import RelayConfig, TlsConfig
from vsmgate.hands.certificates import Certificates
from vsmgate.hands.dialling import Dialler
from vsmgate.hands.tls import tls_layer
from vsmgate.model import Endpoint, Service, ServiceTls
from vsmgate.relay.service import RelayService


def certificates(authority: Authority, *names: str, file: str = "server") -> Certificates:
    certificate, key = authority.issue(*names, file=file)
    return Certificates(TlsConfig(str(certificate), str(key)), "relay.tls")


@asynccontextmanager
async def served(
    service: ServiceTls, behind: Certificates, front: Certificates
) -> AsyncIterator[tuple[RelayService, Watch]]:
    """A relay with TLS on both sides; ``behind`` is the service's certificate."""
    from twisted.internet import reactor

    far = tls_layer(echo_factory(), behind, reactor)
    async with test_loopback.served(far, spec=Service(tls=service), certificates=front) as found:
        yield found


def client_of(relay: RelayService, authority: Authority) -> Callable[[], Any]:
    # Not the threaded client: Python may hold a TLS socket's lock while it waits to read.
    context = ssl.create_default_context(cafile=authority.ca)
    uri = f"wss://127.0.0.1:{relay.port}/{JOB}/renderer?token={TOKEN}"
    return lambda: connect(uri, ssl=context, close_timeout=5, open_timeout=5, max_size=None)


@pytest.mark.criterion("S-22")
@pytest_twisted.ensureDeferred
async def test_both_legs_and_a_new_certificate_in_between(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    front = certificates(authority, "127.0.0.1", file="front")
    behind = certificates(authority, "127.0.0.1", file="behind")
    big = bytes(range(256)) * 8192
    async with served(ServiceTls(ca=str(authority.ca)), behind, front) as (relay, watch):
        dial = client_of(relay, authority)

        def serial(client: ClientConnection) -> Any:
            return client.transport.get_extra_info("peercert")["serialNumber"]

        async def talk() -> tuple[Any, Any]:
            async with dial() as first:
                await first.send(big)
                assert await asyncio.wait_for(first.recv(), 10) == big
                authority.issue("127.0.0.1", file="front")
                front.refresh()
                async with dial() as second:
                    await first.send("still there")
                    await second.send("new")
                    assert (
                        await asyncio.wait_for(first.recv(), 10),
                        await asyncio.wait_for(second.recv(), 10),
                    ) == (
                        "still there",
                        "new",
                    )
                    return serial(first), serial(second)

        old, new = await deferToThread(lambda: asyncio.run(talk()))
        assert old != new
        await watch.over
        assert ("refused",) not in {told[:1] for told in watch.told}


@pytest.mark.criterion("S-23")
@pytest.mark.parametrize("wrong", ["authority", "name", "file"])
@pytest_twisted.ensureDeferred
async def test_a_service_that_cannot_be_trusted_is_a_502(tmp_path: Path, wrong: str) -> None:
    authority, other = Authority(tmp_path), Authority(tmp_path, "other")
    tls = {
        "authority": ServiceTls(ca=str(other.ca)),
        "name": ServiceTls(ca=str(authority.ca), server_name="x.example.org"),
        "file": ServiceTls(ca=str(tmp_path / "none")),
    }[wrong]
    front = certificates(authority, "127.0.0.1", file="front")
    behind = certificates(authority, "127.0.0.1", file="behind")
    async with served(tls, behind, front) as (relay, watch):
        dial = client_of(relay, authority)

        async def refused() -> Any:
            with pytest.raises(InvalidStatus) as caught:
                await dial()
            return caught.value.response

        response = await deferToThread(lambda: asyncio.run(refused()))
        assert response.status_code == 502
        assert b'"service_tls"' in response.body
        assert watch.told == [("refused", "service_tls")]


@pytest_twisted.ensureDeferred
async def test_the_proxy_protocol_goes_before_tls(tmp_path: Path) -> None:
    from twisted.internet import reactor

    authority = Authority(tmp_path)
    far: Any = reactor.listenTCP(0, echo := echo_factory(), interface="127.0.0.1")  # type: ignore[attr-defined]
    desk = FakeDesk(Endpoint("127.0.0.1", far.getHost().port))
    config = RelayConfig(port=0, drain=0.0, drain_spread=0.0, linger=2.0, proxy_protocol=True)
    front = certificates(authority, "127.0.0.1", file="front")
    relay = RelayService(reactor, config, desk, None, Dialler(reactor), front)
    relay.startService()
    context = ssl.create_default_context(cafile=authority.ca)

    async def talk() -> Any:
        raw = socket.create_connection(("127.0.0.1", relay.port), 5)
        raw.sendall(header("203.0.113.9"))
        uri = f"wss://127.0.0.1/{JOB}/renderer?token={TOKEN}"
        async with connect(uri, sock=raw, ssl=context, close_timeout=5) as client:
            await client.send("hello")
            return await asyncio.wait_for(client.recv(), 10)

    try:
        assert await deferToThread(lambda: asyncio.run(talk())) == "hello"
        assert echo.asked[0].headers["x-forwarded-for"] == "203.0.113.9"
    finally:
        await relay.stopService()
        await far.stopListening()
